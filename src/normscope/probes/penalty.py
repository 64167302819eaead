"""RegNorm's penalty of every site, whether training minimizes it or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import torch
from torch import Tensor

from normscope.isolation import Mode, StandIn, draw_seed
from normscope.probes.by_site import by_site
from normscope.probes.normalized import layer_axes, measured_before_gain
from normscope.probes.probe import Probe, check_choice, check_mode
from normscope.probes.reading import Reading
from normscope.probes.tap import Select, check_select
from normscope.subject import Subject

Over: TypeAlias = Literal["neuron", "channel"]


@final
@dataclass(frozen=True, kw_only=True)
class Penalty(Probe):
    r"""RegNorm's penalty of every site's normalized values, by depth: the correlation within the batch.

    .. math:: R^l = \frac{1}{n_l} \sum_i \mu_i^2, \qquad \mu_i = \frac1N \sum_n \hat z^l_{n,i}

    where :math:`\hat z` is what a site computes before its gain and shift. Where the root mean square of every example
    is 1, R is the mean cosine similarity between the examples of the batch, each with itself included: N independent
    ones give 1/N, the sampling floor that a curve of R has to be seen against, and equal ones give 1. A site that
    leaves its input as it is (the row "none"), or an affine layer read in a model without normalizers, is divided by
    the root mean square of each example first, over (C, H, W), or over C of each token.

    Gain and shift are the parameters `weight` and `bias` of the site, and of the modules that it is made of, affine
    layers among them excepted. A site that has them under other names is read behind them. Whatever else `select`
    chooses is read as it is.

    Args:
        over: batch means per "neuron", over N, or per "channel", over N and all positions.
        unbiased: subtract the floor: (N R - 1) / (N - 1), NaN for a mean of one value.
        select: the sites, see `tap.sites`.
        mode: "train" or "eval".

    Returns:
        Reading "penalty", axes ("layer",) in order of execution, standard errors over batches. One forward pass per
        batch, in which every site is computed twice; no graph.

    Source: Rao and Sohl-Dickstein, "Is Batch Norm unique?", arXiv:2010.10687, Figure App.11 and equation 3, whose
    formula is lost in the copies at hand: form A of `normscope.nn.functional.regnorm_penalty`, a reconstruction.
    """

    over: Over = "neuron"
    unbiased: bool = False
    select: Select = None
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_choice("over", self.over, get_args(Over))
        check_select(self.select)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Nothing: sites are looked for when it runs."""
        return frozenset()

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        stand_in = StandIn.of(subject)
        batches = (
            measured_before_gain(stand_in, inputs, self._penalty, select=self.select, seed=draw_seed(generator))
            for inputs, _ in subject.batches()
        )
        return by_site("penalty", batches)

    def _penalty(self, z: Tensor, axis: int, raw: bool) -> Tensor:
        """R of values with this axis of channels, which nothing has normalized if `raw`."""
        if raw:
            z = _unit_root_mean_square(z, layer_axes(z.ndim, axis))
        over = (0,) if self.over == "neuron" else tuple(d for d in range(z.ndim) if d != axis)
        means = z.to(torch.promote_types(z.dtype, torch.float32)).mean(over).double()
        value = means.square().mean()
        count = z.numel() / means.numel()  # values in each mean
        if not self.unbiased:
            return value
        return (count * value - 1) / (count - 1) if count > 1 else torch.full_like(value, torch.nan)


def _unit_root_mean_square(z: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The values divided by their root mean square over `dims`; zeros stay zeros."""
    wide = z.to(torch.promote_types(z.dtype, torch.float32))
    scale = wide.square().mean(dims, keepdim=True).sqrt()
    return wide / scale.where(scale != 0, 1)
