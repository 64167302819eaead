"""How the entries of a weight's gradient are distributed: histogram, spread and tails."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import torch
from torch import Tensor, nn

from normscope.isolation import Mode, StandIn, draw_seed
from normscope.probes.gradient_sums import SelectLayers, check_select_layers, some_layers
from normscope.probes.gradients import parameter_gradients
from normscope.probes.probe import Probe, check_choice, check_mode
from normscope.probes.reading import Reading
from normscope.probes.weights import layer_weights
from normscope.subject import Subject

Statistic: TypeAlias = Literal["histogram", "moments"]


@final
@dataclass(frozen=True, kw_only=True)
class GradientHistogram(Probe):
    r"""Distribution of the entries of a weight's gradient, by layer: its histogram, or its spread and its tails.

    Args:
        statistic: "histogram", or "moments" for the standard deviation, the largest magnitude and the excess kurtosis
            :math:`m_4 / m_2^2 - 3` (0 for a Gaussian), moments about the mean.
        bins: of equal width between ± the largest magnitude of each layer.
        select: chooses among the layers that own parameters of two or more axes by (name, module); None for all.
        mode: "train" or "eval".

    Returns:
        Reading "gradient_histogram". A histogram has axes ("quantity", "layer", "bin") with quantities "left", "right"
        (edges of the bin) and "share" (of the entries; a layer's sum to 1); moments have ("quantity", "layer") with
        quantities "std", "largest" and "excess_kurtosis". Layers in the order the model lists them. The entries of all
        batches' gradients are pooled, so there is no standard error. NaN where a gradient is not finite; a histogram is
        where all entries are zero, and kurtosis where all are equal. One forward and backward pass per batch.

    Raises:
        ValueError: less than one bin; no layer is chosen.

    Source: Bjorck et al., "Understanding batch normalization", arXiv:1806.02375, figure 2.
    """

    statistic: Statistic = "histogram"
    bins: int = 100
    select: SelectLayers = None
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_choice("statistic", self.statistic, get_args(Statistic))
        if isinstance(self.bins, bool) or not isinstance(self.bins, int) or self.bins < 1:
            raise ValueError(f"`bins` is an integer of at least 1, but {self.bins!r} arrived. Try 100.")
        check_select_layers(self.select)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Weights to differentiate by."""
        return frozenset({"layer_weights"})

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        layers = self._layers(subject.model)
        stand_in = StandIn.of(subject, differentiate=frozenset(name for names in layers.values() for name in names))
        entries: dict[str, list[Tensor]] = {layer: [] for layer in layers}
        for batch in subject.batches():
            gradients = parameter_gradients(stand_in, batch, seed=draw_seed(generator))
            for layer, names in layers.items():
                entries[layer] += [gradients[name].flatten().double().cpu() for name in names]
        pooled = {layer: torch.cat(parts) for layer, parts in entries.items()}
        if self.statistic == "moments":
            values = torch.stack([_moments(g) for g in pooled.values()], dim=1)
            labels = {"quantity": ("std", "largest", "excess_kurtosis"), "layer": tuple(pooled)}
        else:
            values = torch.stack([_histogram(g, self.bins) for g in pooled.values()], dim=1)
            bins = tuple(map(str, range(1, self.bins + 1)))
            labels = {"quantity": ("left", "right", "share"), "layer": tuple(pooled), "bin": bins}
        return Reading(name="gradient_histogram", unit="1", axes=tuple(labels), values=values, labels=labels)

    def _layers(self, model: nn.Module) -> dict[str, tuple[str, ...]]:
        modules, owned = dict(model.named_modules()), layer_weights(model)
        chosen = {
            layer: names
            for layer, names in owned.items()
            if self.select is None or self.select(layer, modules.get(layer, model))
        }
        return some_layers(chosen, of=len(owned))


def _histogram(g: Tensor, bins: int) -> Tensor:
    """Rows left, right and share; columns the bins."""
    largest = g.abs().max().item()
    if not 0 < largest < math.inf:
        return torch.full((3, bins), torch.nan, dtype=torch.float64)
    counts, edges = torch.histogram(g, bins, range=(-largest, largest))
    return torch.stack([edges[:-1], edges[1:], counts / len(g)])


def _moments(g: Tensor) -> Tensor:
    """Standard deviation, largest magnitude and excess kurtosis: (3,)."""
    if not g.isfinite().all():
        return torch.full((3,), torch.nan, dtype=torch.float64)
    largest = g.abs().max()
    scaled = g / largest.where(largest > 0, 1.0)  # fourth powers of small gradients would underflow
    d = scaled - scaled.mean()
    variance = d.square().mean()
    return torch.stack([largest * variance.sqrt(), largest, d.pow(4).mean() / variance.square() - 3])
