"""How well every site centers and scales: means and root mean squares over the batch and over the layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from normscope.isolation import Mode, StandIn, draw_seed
from normscope.probes.by_site import by_site
from normscope.probes.normalized import layer_axes, measured_before_gain
from normscope.probes.probe import Probe, check_mode
from normscope.probes.reading import Reading
from normscope.probes.tap import Select, check_select
from normscope.subject import Subject

QUANTITIES = tuple(f"{over}_{quantity}" for over in ("batch", "layer") for quantity in ("mean", "rms", "spread"))


@final
@dataclass(frozen=True, kw_only=True)
class Moments(Probe):
    r"""Mean and root mean square of every site's normalized values, over the batch and over the layer.

    .. math:: \mu_i = \frac{1}{|S_i|} \sum_{S_i} \hat z, \qquad \rho_i = \sqrt{\frac{1}{|S_i|} \sum_{S_i} \hat z^2}

    where :math:`\hat z` is what a site computes before its gain and shift. Over the batch i counts channels, and S_i
    holds all examples and positions of one; over the layer i counts examples, and S_i holds all channels and positions
    of one (of tokens and their features, i counts the tokens). A row that centers over the batch has
    :math:`\mu_i = 0` there, and one that divides by the layer's root mean square has :math:`\rho_i = 1` there.

    Gain and shift are taken off as by `Penalty`; a site that leaves its input as it is is read as it is.

    Args:
        select: the sites, see `tap.sites`.
        mode: "train" or "eval".

    Returns:
        Reading "moments", axes ("quantity", "layer") with quantities, each for "batch" and for "layer": "mean", the
        root mean square of :math:`\mu_i` over i, so that signs do not cancel; "rms", the mean of :math:`\rho_i`; and
        "spread", the standard deviation of :math:`\rho_i`. Standard errors over batches. One forward pass per batch, in
        which every site is computed twice; no graph.

    Source: Rao and Sohl-Dickstein, "Is Batch Norm unique?", arXiv:2010.10687, Table 2 (consistent scaling and
    centering).
    """

    select: Select = None
    mode: Mode = "train"

    def __post_init__(self) -> None:
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
            measured_before_gain(stand_in, inputs, _moments, select=self.select, seed=draw_seed(generator))
            for inputs, _ in subject.batches()
        )
        return by_site("moments", batches, quantities=QUANTITIES)


def _moments(z: Tensor, channels: int, _raw: bool) -> Tensor:
    """The six numbers of one site, with this axis of channels: (6,), float64."""
    over_batch = tuple(axis for axis in range(z.ndim) if axis != channels)
    return torch.cat([_of_groups(z, over_batch), _of_groups(z, layer_axes(z.ndim, channels))])


def _of_groups(z: Tensor, dims: tuple[int, ...]) -> Tensor:
    wide = z.to(torch.promote_types(z.dtype, torch.float32))
    means, squares = wide.mean(dims).double(), wide.square().mean(dims).double()
    scales = squares.sqrt()
    return torch.stack([means.square().mean().sqrt(), scales.mean(), scales.std(correction=0)])
