"""What the tools are held against: dense Hessians and GGNs in float64, and the distance of a density from one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.curvature.problems import Batch


def gradient(model: nn.Module, batch: Batch, *, create_graph: bool = False) -> Tensor:
    parameters = list(model.parameters())
    loss = F.cross_entropy(model(batch[0]), batch[1])
    return flat(torch.autograd.grad(loss, parameters, create_graph=create_graph))


def flat(tensors: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def dense_hessian(model: nn.Module, batch: Batch) -> Tensor:
    """By double backward, column by column. Shape (n, n), symmetrized after the asymmetry was seen to be rounding."""
    parameters = list(model.parameters())
    g = gradient(model, batch, create_graph=True)
    columns = [flat(torch.autograd.grad(entry, parameters, retain_graph=True)) for entry in g]
    H = torch.stack(columns)
    asymmetry = float((H - H.T).norm() / H.norm())
    if asymmetry > 1e-10:
        raise ArithmeticError(f"the dense Hessian is asymmetric by {asymmetry:.1e}")
    return (H + H.T) / 2


def product(model: nn.Module, batch: Batch, v: Tensor) -> Tensor:
    """One Hessian product by double backward."""
    g = gradient(model, batch, create_graph=True)
    return flat(torch.autograd.grad(g, list(model.parameters()), v))


def difference(model: nn.Module, batch: Batch, v: Tensor, *, step: float = 1e-6) -> Tensor:
    """The Hessian product as a central difference of gradients, the step short enough to cross next to no kink."""
    h = step / float(v.norm())
    parameters = list(model.parameters())
    origin = torch.nn.utils.parameters_to_vector(parameters).detach().clone()
    sides = []
    for sign in (1.0, -1.0):
        torch.nn.utils.vector_to_parameters(origin + sign * h * v, parameters)
        sides.append(gradient(model, batch))
    torch.nn.utils.vector_to_parameters(origin, parameters)
    return (sides[0] - sides[1]) / (2 * h)


def dense_ggn(model: nn.Module, batch: Batch) -> Tensor:
    r"""J^T H_loss J with J by backward, row by row; H_loss = (diag(p) - p p^T) / N for the mean cross-entropy."""
    parameters = list(model.parameters())
    outputs = model(batch[0])  # (N, C)
    J = torch.stack([flat(torch.autograd.grad(z, parameters, retain_graph=True)) for z in outputs.flatten()])
    p = outputs.detach().softmax(1)
    blocks = (torch.diag_embed(p) - p[:, :, None] * p[:, None, :]) / len(p)  # (N, C, C)
    J = J.view(*p.shape, -1)
    return torch.einsum("nci,ncd,ndj->ij", J, blocks, J)


def wasserstein(nodes: Tensor, weights: Tensor, eigenvalues: Tensor) -> float:
    r"""Wasserstein-1 distance of a weighted set of nodes from the spectrum, in units of the spectral range.

    .. math:: \int |F(t) - \hat F(t)| dt \, / \, (\lambda_{max} - \lambda_{min})
    """
    points = torch.cat([nodes, eigenvalues])
    mass = torch.cat([weights / weights.sum(), -torch.full_like(eigenvalues, 1 / len(eigenvalues))])
    order = points.argsort()
    distance = (mass[order].cumsum(0)[:-1].abs() * points[order].diff()).sum()
    return float(distance / (eigenvalues.max() - eigenvalues.min()))


def bulk_wasserstein(nodes: Tensor, weights: Tensor, eigenvalues: Tensor, *, outliers: int = 10) -> float:
    """The same for the spectrum cut off at its (k+1)th eigenvalue, in units of the range that is left."""
    edge = eigenvalues.sort(descending=True).values[outliers]
    return wasserstein(nodes.clamp(max=edge), weights, eigenvalues.clamp(max=edge))


def relative_errors(found: Tensor, exact: Tensor) -> Tensor:
    """Value by value; what was not found counts as an error of one."""
    errors = torch.ones_like(exact)
    found = found[: len(exact)].to(exact.dtype)
    errors[: len(found)] = (found - exact[: len(found)]).abs() / exact[: len(found)].abs()
    return errors
