"""Curvature computed without the library under test: finite differences of gradients, and dense double backward."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.dropout import _DropoutNd
from torch.utils import _pytree as pytree

from normscope.subject import Batch

Loss = Callable[[Any, Any], Tensor]


class Matvec(Protocol):
    size: int
    dtype: torch.dtype
    device: torch.device

    def matmat(self, V: Tensor) -> Tensor: ...


class Function:
    """The loss on one batch of a private copy of the model, and its outputs, by a vector of the chosen parameters."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batch: Batch,
        *,
        mode: str = "train",
        forward: Callable[[nn.Module, Any], Any] | None = None,
        names: tuple[str, ...] | None = None,
        noise_seed: int = 0,
    ) -> None:
        self._model = copy.deepcopy(model).train(mode == "train")
        for module in self._model.modules():
            if isinstance(module, _DropoutNd):
                module.training = False
        self._loss, self._batch, self._noise_seed = loss, batch, noise_seed
        self._forward = forward or (lambda model, inputs: model(inputs))
        parameters = dict(self._model.named_parameters())
        self._names = names or tuple(parameters)
        self._shapes = [parameters[name].shape for name in self._names]
        self.theta = torch.cat([parameters[name].detach().reshape(-1) for name in self._names])

    def outputs(self, theta: Tensor) -> Any:
        """The outputs of a vector that may require a gradient."""
        sizes = [shape.numel() for shape in self._shapes]
        parts = [part.view(shape) for part, shape in zip(theta.split(sizes), self._shapes, strict=True)]
        buffers = {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        tensors = {**buffers, **dict(zip(self._names, parts, strict=True))}
        with self._noise():
            return functional_call(_Caller(self._model, self._forward), _prefixed(tensors), (self._inputs(),))

    def loss(self, theta: Tensor) -> Tensor:
        return self._loss(self.outputs(theta), self._batch[1])

    def gradient(self, theta: Tensor) -> Tensor:
        """By `backward` on the model itself: the one derivative of torch that is taken for granted."""
        model = copy.deepcopy(self._model)
        parameters = dict(model.named_parameters())
        chosen = [parameters[name] for name in self._names]
        with torch.no_grad():
            for parameter, part in zip(chosen, theta.split([shape.numel() for shape in self._shapes]), strict=True):
                parameter.copy_(part.view(parameter.shape))
        with self._noise(), sdpa_kernel(SDPBackend.MATH):  # checkpointed parts run forward again in the backward pass
            self._loss(self._forward(model, self._inputs()), self._batch[1]).backward()
        return torch.cat([parameter.grad.reshape(-1) for parameter in chosen])

    @contextlib.contextmanager
    def _noise(self) -> Iterator[None]:
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(self._noise_seed)
            yield

    def _inputs(self) -> Any:
        return pytree.tree_map_only(Tensor, torch.clone, self._batch[0])

    def hessian_by_differences(self, step: float = 1e-5) -> Tensor:
        """(size, size), column by column by central differences of the gradient."""
        return self.products_by_differences(torch.eye(len(self.theta)).to(self.theta), step)

    def products_by_differences(self, V: Tensor, step: float = 1e-5) -> Tensor:
        """(size, columns): for columns V of length 1."""
        ahead, behind = ([self.gradient(self.theta + sign * step * v) for v in V.unbind(1)] for sign in (1, -1))
        return (torch.stack(ahead, 1) - torch.stack(behind, 1)) / (2 * step)

    def hessian_by_autograd(self) -> Tensor:
        """(size, size), row by row by double backward; right where torch's second derivatives are."""
        theta = self.theta.detach().requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):
            (gradient,) = torch.autograd.grad(self.loss(theta), theta, create_graph=True)
        return _rows(gradient, theta)

    def products_by_autograd(self, V: Tensor) -> Tensor:
        """(size, columns): by double backward, for models too large for all rows."""
        theta = self.theta.detach().requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):
            (gradient,) = torch.autograd.grad(self.loss(theta), theta, create_graph=True)
        columns = [torch.autograd.grad(gradient, theta, v, retain_graph=True)[0] for v in V.unbind(1)]
        return torch.stack(columns, 1)

    def ggn(self) -> Tensor:
        """(size, size): J'HJ, the Jacobian of the outputs row by row, and the loss's dense Hessian by the outputs."""
        theta = self.theta.detach().requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):
            leaves, spec = pytree.tree_flatten(self.outputs(theta))
            chosen = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.requires_grad]
            jacobian = _rows(torch.cat([leaves[i].reshape(-1) for i in chosen]), theta)
        z = torch.cat([leaves[i].detach().reshape(-1) for i in chosen]).requires_grad_()
        parts = z.split([leaves[i].numel() for i in chosen])
        for i, part in zip(chosen, parts, strict=True):
            leaves[i] = part.view(leaves[i].shape)
        loss = self._loss(pytree.tree_unflatten(leaves, spec), self._batch[1])
        (slope,) = torch.autograd.grad(loss, z, create_graph=True)
        inner = _rows(slope, z) if slope.requires_grad else torch.zeros(len(z), len(z)).to(z)
        return jacobian.T @ inner @ jacobian


class _Caller(nn.Module):
    def __init__(self, model: nn.Module, forward: Callable[[nn.Module, Any], Any]) -> None:
        super().__init__()
        self.model, self._forward = model, forward

    def forward(self, inputs: Any) -> Any:
        return self._forward(self.model, inputs)


def _prefixed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"model.{name}": tensor for name, tensor in tensors.items()}


def _rows(outputs: Tensor, theta: Tensor) -> Tensor:
    return torch.stack(
        [
            torch.autograd.grad(output, theta, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
            for output in outputs.unbind()
        ]
    )


def directions(size: int, count: int = 3) -> Tensor:
    """(size, count): random columns of length 1, the same for every operator of a size."""
    draw = torch.Generator().manual_seed(3)
    V = torch.randn(size, count, generator=draw, dtype=torch.float64)
    return V / V.norm(dim=0)


def products(operator: Matvec) -> Tensor:
    """(size, 3): the operator's products with `directions`."""
    return operator.matmat(directions(operator.size))


def dense(operator: Matvec) -> Tensor:
    """(size, size): the operator's product with the identity."""
    return operator.matmat(torch.eye(operator.size, dtype=operator.dtype, device=operator.device))


def assert_close_to(actual: Tensor, expected: Tensor, *, tolerance: float) -> None:
    """Elementwise, relative to the largest element: entries of a Hessian may be zero."""
    scale = max(float(expected.abs().max()), 1e-300)
    error = float((actual - expected).abs().max()) / scale
    assert error <= tolerance, f"relative error {error:.2e}"


class Expected:
    """What the oracles say of the products with some directions."""

    def __init__(self, kind: str, function: Function, *, double_backward: bool = True) -> None:
        self.V = directions(len(function.theta))
        self._products: list[tuple[Tensor, float]] = []  # and how exact they are
        if kind == "ggn":
            self._products.append((function.ggn() @ self.V, 1e-10))
        else:
            self._products.append((function.products_by_differences(self.V), 1e-6))
            if double_backward:
                self._products.append((function.products_by_autograd(self.V), 1e-10))

    def assert_products(self, operator: Matvec) -> None:
        products = operator.matmat(self.V)
        for expected, tolerance in self._products:
            assert_close_to(products, expected, tolerance=tolerance)
        inner = self.V.T @ products
        assert_close_to(inner, inner.T, tolerance=1e-12)
