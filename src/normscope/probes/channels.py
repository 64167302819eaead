"""Mean and variance of every channel over batch and positions: at the layers, and along a gradient step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import torch
from torch import Tensor

from normscope.isolation import Mode, StandIn, draw_seed
from normscope.probes.by_site import by_site
from normscope.probes.gradients import parameter_gradients
from normscope.probes.probe import Probe, check_choice, check_mode
from normscope.probes.reading import Reading, mean_over_batches
from normscope.probes.step import check_learning_rate, constant, differentiable_stand_in, moved
from normscope.probes.tap import Select, Side, channel_axis, check_select, sites, tap, unchanged_labels
from normscope.subject import Inputs, Subject

By: TypeAlias = Literal["layer", "channel"]

# Row 0 the channel means, row 1 the channel variances: (2, C), float64.
Moments: TypeAlias = Tensor


@final
@dataclass(frozen=True, kw_only=True)
class ChannelMoments(Probe):
    r"""Mean and variance of the channels of every layer, over examples and positions.

    .. math:: \mu_c = \frac{1}{NHW} \sum_{b,x,y} z_{b,c,x,y}, \qquad
              \sigma_c^2 = \frac{1}{NHW} \sum_{b,x,y} (z_{b,c,x,y} - \mu_c)^2

    Args:
        by: "layer" for :math:`\frac1C \sum_c |\mu_c|` and :math:`\frac1C \sum_c \sigma_c` of each layer; "channel" for
            :math:`\mu_c` and :math:`\sigma_c^2` of each channel of all layers.
        select: the layers, see `tap.sites`; any module with one output will do, a residual block for instance.
        side: "output" of the layers, or their first "input".
        mode: "train" or "eval".

    Returns:
        Reading "channel_moments", standard errors over batches. By layer axes ("quantity", "layer") with quantities
        "mean" and "std", layers in order of execution. By channel axes ("quantity", "channel") with quantities "mean"
        and "variance", the channels of one layer behind those of another with labels "layer:0", "layer:1" and so on:
        layers need not agree in the number of channels. One forward pass per batch, no graph.

    Raises:
        ValueError: a layer without an axis of channels.
        TypeError: a layer whose output (input) is not one floating-point tensor.

    Source: Bjorck et al., "Understanding batch normalization", arXiv:1806.02375, figure 5.
    """

    by: By = "layer"
    select: Select = None
    side: Side = "output"
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_choice("by", self.by, get_args(By))
        check_select(self.select)
        check_choice("side", self.side, get_args(Side))
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Nothing: sites are looked for when it runs."""
        return frozenset()

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        stand_in = StandIn.of(subject)
        batches = (
            _moments(stand_in, inputs, self.select, self.side, seed=draw_seed(generator))
            for inputs, _ in subject.batches()
        )
        if self.by == "layer":
            return by_site("channel_moments", map(_by_layer, batches), quantities=("mean", "std"))
        return by_site("channel_moments", map(_by_channel, batches), quantities=("mean", "variance"), axis="channel")


@final
@dataclass(frozen=True, kw_only=True)
class ChannelMomentsAlongStep(Probe):
    r"""Mean and variance of the channels of chosen layers at :math:`\theta - f \eta \nabla L(\theta)`, by f.

    The gradient is that of one minibatch by all parameters, the moments are those of the same minibatch.

    Args:
        lr: η.
        fractions: f, shares of the step; 0 is before it and 1 after it.
        select: the layers, see `tap.sites`.
        side: "output" of the layers, or their first "input".
        mode: "train" or "eval".

    Returns:
        Reading "channel_moments_along_step", axes ("quantity", "fraction", "channel") with quantities "mean" and
        "variance" and channels labelled as by `ChannelMoments`; standard errors over batches. Values that are not
        finite are kept. One forward and backward pass per batch and a forward pass per fraction.

    Raises:
        ValueError: no fraction, or one that is negative or not finite; a learning rate that is not positive and finite;
            a layer without an axis of channels.
        TypeError: a layer whose output (input) is not one floating-point tensor.

    Source: Bjorck et al., "Understanding batch normalization", arXiv:1806.02375, figure 4.
    """

    lr: float = 0.1
    fractions: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    select: Select = None
    side: Side = "output"
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_learning_rate(self.lr)
        if not self.fractions or not all(math.isfinite(f) and f >= 0 for f in self.fractions):
            raise ValueError(
                f"`fractions` are finite shares of a step, at least 0, but {self.fractions!r} arrived. Try (0, 0.5, 1)."
            )
        check_select(self.select)
        check_choice("side", self.side, get_args(Side))
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Parameters to differentiate by."""
        return frozenset({"parameters"})

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        stand_in = differentiable_stand_in(subject)
        labels: tuple[str, ...] | None = None
        samples = []
        for batch in subject.batches():
            seed = draw_seed(generator)
            gradients = parameter_gradients(stand_in, batch, seed=seed)
            rows = []
            for fraction in self.fractions:
                there = constant(moved(stand_in, gradients, fraction * self.lr))
                moments = _by_channel(_moments(there, batch[0], self.select, self.side, seed=seed))
                labels = unchanged_labels(labels, moments)
                rows.append(torch.stack(list(moments.values()), dim=1))
            samples.append(torch.stack(rows, dim=1))  # (2, fractions, channels)
        values, stderr = mean_over_batches(samples)
        return Reading(
            name="channel_moments_along_step",
            unit="1",
            axes=("quantity", "fraction", "channel"),
            values=values,
            stderr=stderr,
            labels={
                "quantity": ("mean", "variance"),
                "fraction": tuple(str(float(fraction)) for fraction in self.fractions),
                "channel": labels or (),
            },
        )


def _moments(stand_in: StandIn, inputs: Inputs, select: Select, side: Side, *, seed: int) -> dict[str, Moments]:
    """The channels' moments at every layer, by label, in order of execution."""
    chosen = sites(stand_in.subject.model, select)
    moments: dict[str, Moments] = {}

    def read(label: str, value: Tensor) -> None:
        if select == "last":
            moments.clear()
        axis = channel_axis(chosen[label.partition("#")[0]], value.ndim) if value.ndim > 1 else 0
        if axis == 0:
            raise ValueError(
                f"Channels are read behind the axis of examples, but the {side} of {label!r} has the shape "
                f"{tuple(value.shape)}. Leave it out by select=lambda name, module: ..."
            )
        moments[label] = _channel_moments(value.detach(), axis)

    with tap(chosen, read, side=side):
        stand_in.forward(inputs, seed=seed)
    return moments


def _channel_moments(z: Tensor, axis: int) -> Moments:
    """Mean and variance (2, C) over every axis but the channels'."""
    by_channel = z.movedim(axis, 0).flatten(1).double()
    variances, means = torch.var_mean(by_channel, dim=1, correction=0)
    return torch.stack([means, variances])


def _by_layer(moments: Mapping[str, Moments]) -> dict[str, Tensor]:
    """Mean |mean| and mean standard deviation over the channels of each layer: (2,)."""
    return {
        layer: torch.stack([means.abs().mean(), variances.sqrt().mean()])
        for layer, (means, variances) in moments.items()
    }


def _by_channel(moments: Mapping[str, Moments]) -> dict[str, Tensor]:
    """Mean and variance of each channel of all layers: (2,), on the CPU."""
    return {
        f"{layer}:{index}": channel
        for layer, found in moments.items()
        for index, channel in enumerate(found.cpu().unbind(1))
    }
