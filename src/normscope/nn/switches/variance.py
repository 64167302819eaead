"""Regularized variance: a penalty that pushes the batch variance of every neuron to 1."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from normscope.nn.functional import accumulation_dtype, regnorm_penalty
from normscope.nn.penalty import record
from normscope.nn.switches.switch import Switch, check, is_finite


def variance_penalty(*, weight: float) -> Switch:
    r"""Add to RegNorm's penalty one on the batch variances, so that nothing needs to be divided in the end.

    .. math:: R^l = A^l + w \, R_{\mathrm{var}}^l, \qquad A^l = \frac1{n_l} \sum_i \mu_i^2, \quad
              R_{\mathrm{var}}^l = \frac1{n_l} \sum_i (\sigma_i^2 - 1)^2

    with :math:`\mu_i, \sigma_i^2` the mean and variance of neuron i over the batch at the input of a site, before any
    normalization, and w = `weight`. Meant for the row `none`, whose sites do nothing. A row with RegNorm's penalty has
    its own A, of normalized values, and gets the second term alone.

    The penalty is that of one forward, in train mode, and goes the way of RegNorm's: by `Penalised(model)` or
    `normscope.penalty(model)`, multiplied by the training's penalty weight.

    Args:
        weight: w, relative to A; at 0 A is left.

    Raises:
        ValueError: `weight` is negative or not finite.

    Source: "Is Batch Norm unique?", arXiv:2010.10687, appendix A ("regularized learning of variance"), where the
    formula is lost in the copies at hand: a reconstruction.
    """
    check("variance_penalty", "weight", weight, is_finite(weight) and weight >= 0, "a finite number of at least 0")
    return Switch(
        name="variance_penalty",
        formula=f"R = mean_i mu_i^2 + {weight:g} mean_i (sigma_i^2 - 1)^2 over the batch, before normalization",
        options={"weight": weight},
        at_site=lambda place: VariancePenalty(weight, mean=not place.penalized),
    )


@final
class VariancePenalty(nn.Module):
    """The penalty at one site; see `variance_penalty`. It returns the site's output as it is."""

    def __init__(self, weight: float, *, mean: bool) -> None:
        super().__init__()
        self.weight = weight
        self.mean = mean
        self.penalized = True

    def forward(self, y: Tensor, x: Tensor, _affine: object) -> Tensor:
        """Hand over the penalty of the site's input x and return its output y."""
        if self.training and x.numel() > 0:
            value = self.weight * batch_variance_penalty(x)
            record(self, value + regnorm_penalty(x, form="A") if self.mean else value)
        return y

    def extra_repr(self) -> str:
        """Weight, and whether it adds A."""
        return f"weight={self.weight}, mean={self.mean}"


def batch_variance_penalty(z: Tensor) -> Tensor:
    r"""Return :math:`\frac1n \sum_i (\sigma_i^2 - 1)^2`, with :math:`\sigma_i^2` the variance of neuron i over axis 0.

    Shape: (N, \*) to 0-dim, in float32 or wider.
    """
    wide = z.to(accumulation_dtype(z.dtype))
    return (torch.var_mean(wide, 0, correction=0)[0] - 1).square().mean()
