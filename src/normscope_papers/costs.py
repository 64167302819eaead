"""What an item costs, in floating-point operations counted on its networks, and what that means in time.

Each network of a study is built and one forward pass of it counted; a gradient costs three of them (Kaplan et al. 2020,
arXiv:2001.08361, section 2.1), a product with the Hessian 2.1 gradients (measured, docs/curvature-benchmark.md). What
normalizers and activations add is not counted: on small networks it is time, but few operations. Of deep networks of
narrow layers the layers are counted too, and the drawing of their orthogonal weights. The rates at which a machine
works through all this are the caller's; those of one thread here were measured.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from torch.utils.flop_counter import FlopCounterMode

import normscope as ns
from normscope.study import Data, Experiment, Final, Item, Measurement, Model, Paper
from normscope_papers.common.passes import CURVATURE, GRADIENT, PRODUCT, passes
from normscope_papers.common.sizes import sizes_of

__all__ = [
    "GPU",
    "GRADIENT",
    "PRODUCT",
    "THREAD",
    "Cost",
    "Rates",
    "cost",
    "forward_operations",
    "table",
    "table_of_trained",
]


@dataclass(frozen=True, slots=True)
class Rates:
    """Operations per second.

    Attributes:
        curvature: of products with the Hessian.
        plain: of all else, by family of networks.
        drawing: of the decomposition that makes a weight orthogonal.
        layers: gradients of one layer of a `deep_mlp` per second, beyond their operations.
    """

    curvature: float
    plain: Mapping[str, float]
    drawing: float = math.inf
    layers: float = math.inf


THREAD = Rates(
    curvature=88e9,
    plain={"mlp": 50e9, "wrn": 60e9, "resnet": 35e9, "transformer": 60e9, "recurrent": 12e9}
    | {"cifar_resnet": 50e9, "vgg": 58e9, "deep_linear": 2.5e9, "deep_mlp": 35e9},
    drawing=2.7e9,
    layers=5900,
)
"""One thread of the laptop, measured: WRN-26-1 takes 0.35 s a step of 64 CIFAR-10 images and 4 s a product on 512; the
narrow ResNet-50 and ResNet-101 of table 3 take 0.28 and 0.42 s a step, its Transformer 0.18, LSTM and GRU 0.01 to 0.03.
With batch norm, the CIFAR ResNet-20 takes 0.62 s a step of 128 images, VGG-11 of width 16 takes 0.13, the deep linear
network 0.007 s a step of 1,000 vectors; 100 layers of a `deep_mlp` take 0.031 to 0.038 s a step at width and batch 100,
0.018 at 32 and at 16, and drawing a weight of width 100 takes 1.0 ms in float64 (processor time: the machine was busy).
"""

GPU = Rates(curvature=10e12, plain=dict.fromkeys(THREAD.plain, 30e12))
"""One large GPU in 32-bit precision with tensor cores. Assumed, not measured: a small share of what makers state."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Floating-point operations of all networks of an item.

    Attributes:
        training: of gradient steps by family of networks, the final stage included.
        measuring: of evaluations and measurements other than the Hessian's, by family.
        curvature: of products with the Hessian.
        runs: networks, and how many of them are trained.
        drawing: of making the weights of `deep_mlp` orthogonal.
        layers: gradients of single layers of `deep_mlp`: a number, not operations.
    """

    training: Mapping[str, float]
    measuring: Mapping[str, float]
    curvature: float
    runs: int
    trained: int
    drawing: float
    layers: float

    @property
    def total(self) -> float:
        """All operations."""
        return sum(self.training.values()) + sum(self.measuring.values()) + self.curvature + self.drawing

    def hours(self, rates: Rates, *, workers: int = 1) -> float:
        """Hours at these rates of each worker, if the work divides evenly."""
        parts = (*self.training.items(), *self.measuring.items())
        seconds = sum(operations / rates.plain[family] for family, operations in parts)
        seconds += self.curvature / rates.curvature + self.drawing / rates.drawing + self.layers / rates.layers
        return seconds / workers / 3600


def cost(item: Item, scale: str) -> Cost:
    """The cost of an item at a scale, with its fields as they are.

    Raises:
        ValueError: a data set whose sizes are not known here; an unknown scale.
    """
    if scale not in item.fields:
        raise ValueError(f"{item.name} has no scale {scale!r}; choose from {', '.join(item.fields)}.")
    experiments, final = item.study(**item.fields[scale])  # type: ignore[index]
    runs = [*experiments, *_final_stage(experiments, final)]
    trained = [experiment for experiment in runs if experiment.training is not None]
    measured = [(e, m) for e in runs for m in e.measurements]
    return Cost(
        training=_by_family((e, _training(e)) for e in trained),
        measuring=_by_family((e, _measuring(e, m)) for e, m in measured if m.probe not in CURVATURE),
        curvature=sum(_measuring(e, m) for e, m in measured if m.probe in CURVATURE),
        runs=sum(experiment.replicas for experiment in runs),
        trained=len(trained),
        drawing=sum(map(_drawing, runs)),
        layers=sum(map(_layers, runs)),
    )


def _by_family(parts: Iterable[tuple[Experiment, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for experiment, operations in parts:
        sums[experiment.model.family] = sums.get(experiment.model.family, 0.0) + operations
    return sums


def forward_operations(model: Model, data: Data) -> float:
    """Operations of one forward pass on one example: two for each multiplication with its addition."""
    sizes = sizes_of(data)
    options = tuple(sorted(model.options.items()))
    return _counted(model.family, options, sizes.shape, sizes.classes, tokens=data.sequence_length is not None)


@functools.cache
def _counted(
    family: str, options: tuple[tuple[str, Any], ...], shape: tuple[int, ...], classes: int, *, tokens: bool
) -> float:
    network = ns.models.family(family).build(
        shape,
        classes,
        normalizer=ns.normalizer("none"),
        generator=torch.Generator().manual_seed(0),
        **dict(options),
    )
    example = torch.zeros(1, *shape, dtype=torch.int64 if tokens else torch.float32)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(example)
    return float(counter.get_total_flops())


def _training(experiment: Experiment) -> float:
    training = experiment.training
    assert training is not None
    examples = training.steps * training.batch_size
    return GRADIENT * examples * forward_operations(experiment.model, experiment.data)


def _depth_and_width(experiment: Experiment) -> tuple[int, int]:
    """Of a `deep_mlp`; (0, 0) of other families."""
    options = experiment.model.options
    return (int(options["depth"]), int(options["width"])) if experiment.model.family == "deep_mlp" else (0, 0)  # type: ignore[arg-type]


def _drawing(experiment: Experiment) -> float:
    """Householder's QR and its orthogonal factor, 4/3 d^3 each, for every hidden weight."""
    depth, width = _depth_and_width(experiment)
    drawn = experiment.model.options.get("weights", "orthogonal") == "orthogonal"
    return experiment.replicas * depth * 8 / 3 * width**3 if drawn else 0.0


def _layers(experiment: Experiment) -> float:
    """Gradients of single layers, in training and in measurements, which take batches one after the other."""
    depth, _ = _depth_and_width(experiment)
    if not depth:
        return 0.0
    examples = experiment.replicas * sum(len(m.at) * passes(experiment, m) for m in experiment.measurements)
    steps = 0 if experiment.training is None else experiment.training.steps
    return depth * (steps + examples / experiment.batch_size / GRADIENT)


def _measuring(experiment: Experiment, measurement: Measurement) -> float:
    times = len(measurement.at) * experiment.replicas
    return times * passes(experiment, measurement) * forward_operations(experiment.model, experiment.data)


def _final_stage(experiments: tuple[Experiment, ...], final: Final | None) -> list[Experiment]:
    """One training for each group and seed; rates do not change the cost."""
    if final is None:
        return []
    groups = {(e.condition, e.norm.label): e for e in experiments if e.training is not None}
    replace = msgspec.structs.replace
    return [replace(e, seed=seed, measurements=final.measurements) for e in groups.values() for seed in final.seeds]


def table(paper: Paper) -> str:
    """What every item of a paper costs at laptop and at paper scale, as a table in Markdown."""
    header = (
        "| item | laptop: networks (trained) | two cores | paper: networks (trained) | operations | one GPU | eight |"
    )
    lines = [header, "|---|---|---:|---|---:|---:|---:|"]
    for item in paper.items:
        small, large = cost(item, "laptop"), cost(item, "paper")
        one, eight = large.hours(GPU), large.hours(GPU, workers=8)
        cells = (
            item.name,
            f"{small.runs} ({small.trained})",
            _time(small.hours(THREAD, workers=2)),
            f"{large.runs} ({large.trained})",
            f"{large.total:.1e}",
            _time(one),
            _time(eight),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def table_of_trained(paper: Paper) -> str:
    """What the items that train cost at laptop scale, as a table in Markdown: for networks that suit no GPU."""
    lines = ["| item | networks at laptop scale | operations | two cores |", "|---|---:|---:|---:|"]
    for item in paper.items:
        experiments, _ = item.study(**item.fields["laptop"])
        if any(experiment.training is not None for experiment in experiments):
            found = cost(item, "laptop")
            time = _time(found.hours(THREAD, workers=2))
            lines.append(f"| {item.name} | {found.runs} | {found.total:.1e} | {time} |")
    return "\n".join(lines)


def _time(hours: float) -> str:
    """Minutes below two hours, days from two days on."""
    if hours < 2:
        return f"{max(1, round(60 * hours))} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"
