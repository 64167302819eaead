"""What an item costs, in floating-point operations counted on its networks, and what that means in time.

Each network of a study is built and one forward pass of it counted; a gradient costs three of them (Kaplan et al. 2020,
arXiv:2001.08361, section 2.1), a product with the Hessian 2.1 gradients (measured, docs/curvature-benchmark.md). What
normalizers and activations add is not counted: on small networks it is time, but few operations. The rates at which a
machine works through them are the caller's; those of one thread here were measured.
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


@dataclass(frozen=True, slots=True)
class Rates:
    """Operations per second: of products with the Hessian, and of all else by family of networks."""

    curvature: float
    plain: Mapping[str, float]


GRADIENT = 3.0
"""Forward passes of a gradient."""

PRODUCT = 2.1 * GRADIENT
"""Forward passes of a product with the Hessian."""

THREAD = Rates(
    curvature=88e9,
    plain={"mlp": 50e9, "wrn": 60e9, "resnet": 35e9, "transformer": 60e9, "recurrent": 12e9}
    | {"cifar_resnet": 50e9, "vgg": 58e9, "deep_linear": 2.5e9, "deep_mlp": 22e9},
)
"""One thread of the laptop, measured: WRN-26-1 takes 0.35 s a step of 64 CIFAR-10 images and 4 s a product on 512; the
narrow ResNet-50 and ResNet-101 of table 3 take 0.28 and 0.42 s a step, its Transformer 0.18, LSTM and GRU 0.01 to 0.03.
With batch norm, the CIFAR ResNet-20 takes 0.62 s a step of 128 images, VGG-11 of width 16 takes 0.13, the deep linear
network 0.007 s a step of 1,000 vectors, 100 layers of width 100 take 0.03 to 0.04 a step of 100 images (processor time,
since the machine was busy).
"""

GPU = Rates(curvature=10e12, plain=dict.fromkeys(THREAD.plain, 30e12))
"""One large GPU in 32-bit precision with tensor cores. Assumed, not measured: a small share of what makers state."""

SHARPNESS_PRODUCTS = 100
"""What the ten largest eigenvalues and the smallest took on networks in early training."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is known of a data set without loading it: one example, classes, and examples to validate and test on."""

    shape: tuple[int, ...]
    classes: int
    validation: int
    test: int


# By hub id; stored or cut as `normscope.data` does.
DATA: Mapping[str, Sizes] = {
    "digits": Sizes((1, 8, 8), 10, 180, 180),
    "declaration": Sizes((), 0, 50, 50),
    "ylecun/mnist": Sizes((1, 28, 28), 10, 6000, 10_000),
    "zalando-datasets/fashion_mnist": Sizes((1, 28, 28), 10, 6000, 10_000),
    "uoft-cs/cifar10": Sizes((3, 32, 32), 10, 5000, 10_000),
    "uoft-cs/cifar100": Sizes((3, 32, 32), 100, 5000, 10_000),
    "zh-plus/tiny-imagenet": Sizes((3, 64, 64), 200, 10_000, 10_000),
    "ILSVRC/imagenet-1k": Sizes((3, 224, 224), 1000, 50_000, 128_000),
    "linear-map": Sizes((10,), 10, 200, 200),
    "dvruette/lm1b": Sizes((), 0, 250_000, 250_000),
    "Salesforce/wikitext:wikitext-2-v1": Sizes((), 0, 9000, 10_000),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """Floating-point operations of all networks of an item.

    Attributes:
        training: of gradient steps by family of networks, the final stage included.
        measuring: of evaluations and measurements other than the Hessian's, by family.
        curvature: of products with the Hessian.
        runs: networks, and how many of them are trained.
    """

    training: Mapping[str, float]
    measuring: Mapping[str, float]
    curvature: float
    runs: int
    trained: int

    @property
    def total(self) -> float:
        """All operations."""
        return sum(self.training.values()) + sum(self.measuring.values()) + self.curvature

    def hours(self, rates: Rates, *, workers: int = 1) -> float:
        """Hours at these rates of each worker, if the work divides evenly."""
        parts = (*self.training.items(), *self.measuring.items())
        seconds = sum(operations / rates.plain[family] for family, operations in parts)
        return (seconds + self.curvature / rates.curvature) / workers / 3600


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
        measuring=_by_family((e, _measuring(e, m)) for e, m in measured if m.probe not in _CURVATURE),
        curvature=sum(_measuring(e, m) for e, m in measured if m.probe in _CURVATURE),
        runs=sum(experiment.replicas for experiment in runs),
        trained=len(trained),
    )


def _by_family(parts: Iterable[tuple[Experiment, float]]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for experiment, operations in parts:
        sums[experiment.model.family] = sums.get(experiment.model.family, 0.0) + operations
    return sums


def forward_operations(model: Model, data: Data) -> float:
    """Operations of one forward pass on one example: two for each multiplication with its addition."""
    sizes = _sizes(data)
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


_CURVATURE = ("spectrum", "sharpness")


def _sizes(data: Data) -> Sizes:
    if data.name not in DATA:
        raise ValueError(f"the sizes of {data.name} are not known here; known are {', '.join(DATA)}.")
    known = DATA[data.name]
    shape, classes = known.shape, known.classes
    if data.sequence_length is not None:
        shape, classes = (data.sequence_length,), data.vocabulary or 256
    elif data.image_size is not None:
        shape = (shape[0], data.image_size, data.image_size)
    limit = math.inf if data.max_eval is None else data.max_eval
    return Sizes(shape, classes, int(min(limit, known.validation)), int(min(limit, known.test)))


def _training(experiment: Experiment) -> float:
    training = experiment.training
    assert training is not None
    examples = training.steps * training.batch_size
    return GRADIENT * examples * forward_operations(experiment.model, experiment.data)


def _measuring(experiment: Experiment, measurement: Measurement) -> float:
    times = len(measurement.at) * experiment.replicas
    return times * _passes(experiment, measurement) * forward_operations(experiment.model, experiment.data)


def _passes(experiment: Experiment, measurement: Measurement) -> float:
    """Forward passes of one example that a measurement takes at one step."""
    options, sizes = measurement.options, _sizes(experiment.data)

    def number(option: str) -> int:
        return int(options.get(option) or 0)

    batches = max(1, number("batches"))
    independent = options.get("pairs") == "independent"
    products = number("lanczos_steps") * number("lanczos_starts") or SHARPNESS_PRODUCTS
    of_batch = {
        "information_propagation": 2 * batches,
        "gradient_correlation": GRADIENT * max(2, batches) if independent else 2 * GRADIENT * batches,
        "gradient_norm": GRADIENT * batches,
        "penalty": batches,
        "moments": batches,
        "batch_dependence": 2,
        "train_eval_gap": 2,
        "channel_moments": 2 if options.get("channels") else 1,
        "channel_moments_along_step": GRADIENT + number("points"),
        "relative_loss": GRADIENT + number("points"),
        "loss_along_gradient": GRADIENT * (1 + number("points")),
        "covariate_shift": GRADIENT * int(experiment.model.options.get("depth") or 1),  # a gradient for each layer
        "logit_gradients": 2,
        "gradient_sums": 2 * GRADIENT,
        "gradient_histogram": 2 * GRADIENT,
        "backward_identity": GRADIENT,
        "weight_gradient_norm": GRADIENT,
        "explosion_rate": GRADIENT,
        "gradient_symmetry": GRADIENT,
        "isometry_gap": 1,
        "batch_rank": batches,
        "normalizer_jacobian": 1,
        "aligned_isometry_gap": 1,
    }
    passes = {
        "evaluation": sizes.test if options.get("split") == "test" else sizes.validation,
        "training_accuracy": number("examples"),
        "batch_accuracy": number("examples") or 1000,
        "gradient_noise": GRADIENT * _noise_examples(options),
        "gaussian_products": 0,  # it has no network, and takes seconds
        "fuss_catalan": 0,
        "batch_size_accuracy": sizes.test * len(str(options.get("sizes", "")).split()),
        **{probe: experiment.batch_size * count for probe, count in of_batch.items()},
        **{probe: PRODUCT * number("examples") * products for probe in _CURVATURE},
    }
    return float(passes[measurement.probe])


def _noise_examples(options: Mapping[str, Any]) -> int:
    """Examples whose gradient the noise takes at one step: each alone and all together, and every drawn minibatch."""
    drawn = int(options.get("draws", 0)) * sum(map(int, str(options.get("sizes", "")).split()))
    return len(str(options.get("lrs", "")).split()) * (2 * int(options.get("examples", 0)) + drawn)


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
