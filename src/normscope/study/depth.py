"""What depth does to activations and gradients: isometry, gradients by layer, rank; with closed forms beside them.

Measurements are taken on the batch that `depth_batches.subject` makes of the options samples, repeated and, for some,
near_identity. `layers` are numbers of sites, or of layers with weights, separated by spaces: counted from 1 at the
input or from -1 at the output; all where it is empty. The column `depth` holds the number counted from the input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from torch import Tensor, nn

from normscope import probes
from normscope.data import Split
from normscope.probes import Reading
from normscope.probes.tap import sites
from normscope.probes.weights import layer_weights
from normscope.study import depth_theory
from normscope.study.building import cast, cross_entropy
from normscope.study.depth_batches import subject
from normscope.study.measuring import Scene
from normscope.study.rows import Rows

Select: TypeAlias = Callable[[str, nn.Module], bool]


def isometry_gap(
    scene: Scene,
    model: nn.Module,
    step: int,
    *,
    of: Literal["activations", "weights"] = "activations",
    side: Literal["output", "input"] = "output",
    centered: bool | None = None,
    layers: str = "",
    samples: int | None = None,
    repeated: int = 0,
    near_identity: float | None = None,
    theory: bool = False,
) -> None:
    """Isometry gap by site, as `gap`, or of weights, as `weight_gap`; with theory of what enters each site.

    With centered=False it is `uncentered_gap`, in which the direction counts that a mean subtraction leaves null.
    """
    on = subject(scene, model, step, samples=samples, repeated=repeated, near_identity=near_identity)
    places = Places.of(sites(model) if of == "activations" else layer_weights(model), layers)
    probe = probes.IsometryGap(of=of, side=side, centered=centered, select=places.select)
    reading = probe(on, generator=scene.generator(step))
    names = {None: "gap", False: "uncentered_gap", True: "centered_gap"}
    _write(scene.rows, reading, reading.values, "weight_gap" if of == "weights" else names[centered], places, step)
    if theory:
        for name, by_site in depth_theory.gaps(on, scene.generator(step)).items():
            for number, value in by_site.items():
                scene.rows.add("theory.isometry_gap", name, value, step=step, depth=number, unit="nats")


def weight_orthogonality(scene: Scene, model: nn.Module, step: int, *, layers: str = "") -> None:
    """Distance of each layer's weight from an orthogonal matrix, free of scale."""
    on = subject(scene, model, step, samples=None, repeated=0)
    places = Places.of(layer_weights(model), layers)
    reading = probes.WeightOrthogonality(select=places.select)(on, generator=scene.generator(step))
    _write(scene.rows, reading, reading.values, "distance", places, step)


def weight_gradient_norm(
    scene: Scene,
    model: nn.Module,
    step: int,
    *,
    layers: str = "",
    samples: int | None = None,
    repeated: int = 0,
    theory: bool = False,
) -> None:
    """Natural log of the norm of the loss's gradient by each layer's weight.

    With theory: its growth, where there is one, from the value measured at the last hidden layer back to the second, as
    the first weight has the shape of the data, which its gradient's norm goes with.
    """
    on = subject(scene, model, step, samples=samples, repeated=repeated)
    growth = _growth(scene, samples, repeated) if theory else None
    anchor = () if growth is None else (len(growth),)
    places = Places.of(layer_weights(model), layers, and_also=anchor)
    reading = probes.WeightGradientNorm(select=places.select)(on, generator=scene.generator(step))
    _write(scene.rows, reading, reading.values, "log_norm", places, step)
    if growth is None:
        return
    start = dict(zip(places.numbers, reading.values.tolist(), strict=True))[len(growth)]
    for number in (number for number in places.numbers if 2 <= number <= len(growth)):
        value = start + growth[number - 1 : -1].sum().item()
        scene.rows.add("theory.weight_gradient_norm", "log_norm", value, step=step, depth=number, unit="nats")


def explosion_rate(
    scene: Scene,
    model: nn.Module,
    step: int,
    *,
    gap: int = 10,
    layers: str = "",
    samples: int | None = None,
    repeated: int = 0,
    theory: bool = False,
) -> None:
    """Growth of log gradient norms per layer, over the `gap` layers that end at each.

    With theory's, if it has one, where these begin behind the first weight, which has the shape of the data.
    """
    on = subject(scene, model, step, samples=samples, repeated=repeated)
    reading = probes.ExplosionRate(gap=gap)(on, generator=scene.generator(step))
    rates = dict(zip(reading.labels["layer"], reading.values.tolist(), strict=True))
    growth = _growth(scene, samples, repeated) if theory else None
    places = Places.of(layer_weights(model), layers)
    for number, layer in zip(places.numbers, places.names, strict=True):
        if layer in rates:
            scene.rows.add(reading.name, "rate", rates[layer], step=step, layer=layer, depth=number, unit=reading.unit)
        if layer in rates and growth is not None and gap + 2 <= number <= len(growth):
            mean = growth[number - gap - 1 : number - 1].mean().item()
            scene.rows.add("theory.explosion_rate", "rate", mean, step=step, depth=number, unit=reading.unit)


def gradient_symmetry(
    scene: Scene, model: nn.Module, step: int, *, layers: str = "", samples: int | None = None, repeated: int = 0
) -> None:
    """Norms of the symmetric and the antisymmetric part of each square weight's gradient times its transpose."""
    on = subject(scene, model, step, samples=samples, repeated=repeated)
    places = Places.of(layer_weights(model), layers)
    reading = probes.GradientSymmetry(select=places.select)(on, generator=scene.generator(step))
    square = places.among(reading.labels["layer"])
    for part, values in zip(reading.labels["part"], reading.values, strict=True):
        _write(scene.rows, reading, values, part, square, step)


def batch_rank(
    scene: Scene,
    model: nn.Module,
    step: int,
    *,
    precision: Literal["float64", "float32"] = "float64",
    raw: bool = False,
    batches: int = 1,
    samples: int | None = None,
    repeated: int = 0,
) -> None:
    """Rank of the Gram matrix of the inputs, as `rank_float64` or `rank_float32`, and their mean cosine, as `cosine`.

    Means over so many batches, with standard errors. Of `raw` inputs the names begin with raw.

    Raises:
        ValueError: the inputs are no real numbers.
    """
    on = subject(scene, model, step, samples=samples, repeated=repeated, batches=batches, raw=raw)
    unit = "raw_" if raw else ""
    names: dict[Literal["rank", "cosine"], str] = {"rank": f"{unit}rank_{precision}", "cosine": f"{unit}cosine"}
    for statistic, name in names.items():
        probe = probes.BatchRank(statistic=statistic, precision=precision, select="last")
        reading = probe(on, generator=scene.generator(step))
        if reading.labels["layer"][0] != "input":
            raise ValueError(f"the rank of inputs is that of real numbers, got {on.batch[0].dtype}; choose other data.")
        stderr = math.nan if reading.stderr is None else reading.stderr[0].item()
        scene.rows.add(reading.name, name, reading.values[0].item(), step=step, layer="input", stderr=stderr)


def batch_accuracy(
    scene: Scene, model: nn.Module, step: int, *, split: Literal["train", "test"] = "train", examples: int = 1000
) -> None:
    """Accuracy on the first examples of a split in train mode: each batch under its own statistics."""
    held: Split = getattr(scene.dataset, split)
    some = (cast(held.inputs[:examples], scene.experiment), held.targets[:examples])
    size = min(scene.experiment.batch_size, len(some[1]))
    probe = probes.BatchSizeAccuracy(sizes=(size,), mode="train")
    reading = probe(probes.Subject(model, cross_entropy, some), generator=scene.generator(step))
    scene.rows.add("batch_accuracy", f"{split}_accuracy", reading.values[0].item(), step=step)


@final
@dataclass(frozen=True)
class Places:
    """Some of a model's sites, or of its layers with weights: names in order, and numbers counted from 1."""

    names: tuple[str, ...]
    numbers: tuple[int, ...]

    @classmethod
    def of(cls, every: Iterable[str], asked: str, *, and_also: tuple[int, ...] = ()) -> Places:
        """Those that are asked for by number, and further ones.

        Raises:
            ValueError: a number that none of them has, or no number.
        """
        names = tuple(every)
        if not asked:
            return cls(names, tuple(range(1, len(names) + 1)))
        wanted = {_number(text, len(names)) for text in asked.split()} | {*and_also}
        numbers = tuple(sorted(wanted))
        return cls(tuple(names[number - 1] for number in numbers), numbers)

    @property
    def select(self) -> Select:
        """As probes take it."""
        chosen = frozenset(self.names)
        return lambda name, _module: name in chosen

    def among(self, names: Iterable[str]) -> Places:
        """Those with these names."""
        by_name = dict(zip(self.names, self.numbers, strict=True))
        kept = tuple(names)
        return Places(kept, tuple(by_name[name] for name in kept))


def _number(text: str, count: int) -> int:
    number = int(text) if text.lstrip("-").isdecimal() else 0
    if not 1 <= abs(number) <= count:
        raise ValueError(f"layers are numbers from 1 to {count}, or from -1 to -{count}, got {text!r}.")
    return number if number > 0 else count + 1 + number


def _growth(scene: Scene, samples: int | None, repeated: int) -> Tensor | None:
    return depth_theory.growth(scene.experiment, samples or scene.experiment.batch_size, repeated=repeated)


def _write(rows: Rows, reading: Reading, values: Tensor, name: str, places: Places, step: int) -> None:
    """Rows by layer, numbered as the model counts them."""
    for layer, number, value in zip(places.names, places.numbers, values.tolist(), strict=True):
        rows.add(reading.name, name, value, step=step, layer=layer, depth=number, unit=reading.unit)
