"""What an experiment can measure: each measurement by name, from the model as it stands to rows."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, final

import msgspec
import torch
from torch import Tensor, nn

from normscope import probes, theory
from normscope.data import Dataset, Split, even_batches, shuffled_batches
from normscope.probes import Reading
from normscope.study import seeds
from normscope.study.building import cast, cross_entropy, data_loss
from normscope.study.experiment import Experiment, Measurement
from normscope.study.rows import Rows

# Told what is under way, how many products are done, and of how many where that is known beforehand.
Advance: TypeAlias = Callable[[str, int, int | None], None]
Source: TypeAlias = Literal["probe", "data"]
Measure: TypeAlias = "Callable[..., None]"  # (scene, model, step, **options)


@final
@dataclass(frozen=True, kw_only=True)
class Scene:
    """What measurements of one experiment share.

    Attributes:
        memory_limit: in bytes, for products of the Hessian.
        losses: the validation loss of each evaluation by step, from which divergence is judged at the end.
        weighed: steps at which the size of the weights was written.
    """

    experiment: Experiment
    dataset: Dataset
    rows: Rows
    memory_limit: int | None = None
    advance: Advance = lambda _what, _done, _total: None
    losses: dict[int, float] = field(default_factory=dict)
    weighed: set[int] = field(default_factory=set)

    def generator(self, step: int) -> torch.Generator:
        """Of a measurement at this step."""
        return seeds.generator(self.experiment.seed, "probe", step)

    def batches(self, count: int, source: Source, *, size: int | None = None) -> list[tuple[Tensor, Tensor]]:
        """Training batches that stay the same while the model trains, so that a curve shows the model's change alone.

        Those of "data" are the ones that training begins with, those of "probe" are drawn apart from it. They are of
        `size` examples, or of as many as the experiment says.
        """
        generator = seeds.generator(self.experiment.seed, source)
        stream = shuffled_batches(self.dataset.train, size or self.experiment.batch_size, generator=generator)
        return [(cast(inputs, self.experiment), targets) for inputs, targets in itertools.islice(stream, count)]

    def of_seed(self, seed: int) -> Scene:
        """The scene of the experiment's network of this seed alone; its rows come to the same collection."""
        alone = msgspec.structs.replace(self.experiment, seed=seed, replicas=1)
        return dataclasses.replace(self, experiment=alone, rows=self.rows.of_seed(seed), losses={}, weighed=set())

    def subject(self, model: nn.Module, count: int, source: Source) -> probes.Subject:
        """The model with its loss on so many batches."""
        batch, *more = self.batches(count, source)
        return probes.Subject(model, data_loss, batch, more=more)


@final
@dataclass(frozen=True)
class Measurements:
    """The measurements of one experiment, taken where they are due."""

    scene: Scene

    def __post_init__(self) -> None:
        for measurement in self.scene.experiment.measurements:
            check(measurement)

    def take(self, model: nn.Module, step: int) -> None:
        """Take every measurement that is due at this step, in order; they leave no trace in the model."""
        for measurement in self.scene.experiment.measurements:
            if step in measurement.at:
                registry()[measurement.probe](self.scene, model, step, **measurement.options)


def check(measurement: Measurement) -> None:
    """Refuse a measurement, or an option of it, that does not exist; ValueError names those that do."""
    table = registry()
    if measurement.probe not in table:
        raise ValueError(f"a measurement must be one of {', '.join(table)}, got {measurement.probe!r}.")
    known = list(inspect.signature(table[measurement.probe]).parameters)[3:]
    for option in measurement.options:
        if option not in known:
            raise ValueError(f"options of {measurement.probe} are {', '.join(known)}, got {option!r}.")
    noise = measurement.options.get("noise", 0.1)
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 < noise < math.inf:
        raise ValueError(f"noise must be positive and finite, got {noise}.")


def information_propagation(
    scene: Scene,
    model: nn.Module,
    step: int,
    *,
    noise: float = 0.1,
    select: Literal["last"] | None = None,
    batches: int = 1,
    source: Source = "probe",
    theory: bool = False,
) -> None:
    """Correlation of two similar batches, by site; with the mean-field map from the first site on."""
    probe = probes.InformationPropagation(noise=noise, select=select)
    reading = probe(scene.subject(model, batches, source), generator=scene.generator(step))
    first = _sites(model) if select == "last" else 1
    write_reading(scene.rows, reading, "correlation", step=step, first_depth=first)
    if theory:
        _write_correlation_map(scene, reading, step)


def gradient_correlation(
    scene: Scene,
    model: nn.Module,
    step: int,
    *,
    pairs: Literal["similar", "independent"] = "similar",
    by: Literal["layer", "network"] = "layer",
    noise: float = 0.1,
    batches: int | None = None,
    source: Source = "probe",
) -> None:
    """Correlation of the gradients of two batches, which are a batch and its noisy copy or two batches."""
    probe = probes.GradientCorrelation(pairs=pairs, by=by, noise=noise)
    count = (1 if pairs == "similar" else 2) if batches is None else batches
    reading = probe(scene.subject(model, count, source), generator=scene.generator(step))
    write_reading(scene.rows, reading, pairs, step=step)


def gradient_norm(
    scene: Scene, model: nn.Module, step: int, *, batches: int = 1, source: Source = "probe", theory: bool = False
) -> None:
    """Size of the loss's gradient by site; with mean-field growth from the last site back."""
    reading = probes.GradientNorm()(scene.subject(model, batches, source), generator=scene.generator(step))
    write_reading(scene.rows, reading, "norm", step=step)
    if theory:
        _write_growth(scene, reading, step)


def penalty(scene: Scene, model: nn.Module, step: int, *, batches: int = 1, source: Source = "probe") -> None:
    """RegNorm's penalty of every site's output, whether it is minimized or not, and its sampling floor 1/N."""
    reading = probes.Penalty()(scene.subject(model, batches, source), generator=scene.generator(step))
    write_reading(scene.rows, reading, "R", step=step)
    scene.rows.add("penalty", "floor", 1 / scene.experiment.batch_size, step=step)


def moments(scene: Scene, model: nn.Module, step: int, *, batches: int = 1, source: Source = "probe") -> None:
    """Mean and root mean square of every site's normalized values, over the batch and over the layer."""
    reading = probes.Moments()(scene.subject(model, batches, source), generator=scene.generator(step))
    write_quantities(scene.rows, reading, step=step)


def batch_dependence(scene: Scene, model: nn.Module, step: int, *, mode: Literal["train", "eval"] = "train") -> None:
    """How much an example's output changes when the others of its batch are exchanged."""
    probe = probes.BatchDependence(mode=mode)
    reading = probe(scene.subject(model, 2, "probe"), generator=scene.generator(step))
    write_reading(scene.rows, reading, f"{mode}_change", step=step)


def train_eval_gap(scene: Scene, model: nn.Module, step: int) -> None:
    """Relative distance of a batch's outputs in train and in eval mode."""
    reading = probes.TrainEvalGap()(scene.subject(model, 1, "probe"), generator=scene.generator(step))
    write_reading(scene.rows, reading, "change", step=step)


def batch_size_accuracy(
    scene: Scene,
    model: nn.Module,
    step: int,
    *,
    sizes: str = "2 8 32 128",
    partitions: int = 1,
) -> None:
    """Test accuracy with the statistics of test batches, by their size."""
    counts = tuple(int(size) for size in sizes.split())
    probe = probes.BatchSizeAccuracy(sizes=counts, partitions=partitions)
    split = scene.dataset.test
    subject = probes.Subject(model, cross_entropy, (cast(split.inputs, scene.experiment), split.targets))
    reading = probe(subject, generator=scene.generator(step))
    for index, size in enumerate(counts):
        stderr = math.nan if reading.stderr is None else reading.stderr[index].item()
        value = reading.values[index].item()
        scene.rows.add(reading.name, "test_accuracy", value, step=step, depth=size, stderr=stderr)


def evaluation(
    scene: Scene, model: nn.Module, step: int, *, split: Literal["validation", "test"] = "validation"
) -> None:
    """Accuracy and mean cross-entropy in eval mode over the whole split, of examples or of tokens."""
    loss = evaluate(model, getattr(scene.dataset, split), scene, split, step=step)
    if split == "validation":
        scene.losses[step] = loss


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, scene: Scene, name: str, *, step: int) -> float:
    """Write accuracy and mean cross-entropy (nats) over the split; return the latter.

    Batches are of nearly equal size: rows without running statistics use those of the batch at hand in eval mode too.
    """
    loss, correct, counted = 0.0, 0, 0
    classes = not split.targets.is_floating_point()  # real targets have no accuracy
    model.eval()
    for inputs, targets in even_batches(split, scene.experiment.batch_size):
        outputs = model(cast(inputs, scene.experiment))
        loss += data_loss(outputs, targets, reduction="sum").item()
        correct += int((outputs.argmax(-1) == targets).sum()) if classes else 0
        counted += int((targets >= 0).sum()) if classes else len(targets)
    model.train()
    if classes:
        scene.rows.add("evaluation", f"{name}_accuracy", correct / counted, step=step)
    scene.rows.add("evaluation", f"{name}_loss", loss / counted, step=step, unit="nats" if classes else "1")
    return loss / counted


@functools.cache
def registry() -> Mapping[str, Measure]:
    """Every measurement by name."""
    from normscope.study import backward_identity, curvature, depth, depth_steps, gradient_noise, landscape, matrices

    table: Iterable[Measure] = (
        information_propagation,
        gradient_correlation,
        gradient_norm,
        penalty,
        moments,
        batch_dependence,
        train_eval_gap,
        batch_size_accuracy,
        evaluation,
        curvature.spectrum,
        curvature.sharpness,
        depth.isometry_gap,
        depth.weight_orthogonality,
        depth.weight_gradient_norm,
        depth.explosion_rate,
        depth.gradient_symmetry,
        depth.batch_rank,
        depth.batch_accuracy,
        depth_steps.normalizer_jacobian,
        depth_steps.aligned_isometry_gap,
        landscape.channel_moments,
        landscape.channel_moments_along_step,
        landscape.relative_loss,
        landscape.loss_along_gradient,
        landscape.covariate_shift,
        landscape.logit_gradients,
        landscape.gradient_sums,
        landscape.gradient_histogram,
        landscape.training_accuracy,
        gradient_noise.gradient_noise,
        backward_identity.backward_identity,
        matrices.gaussian_products,
        matrices.fuss_catalan,
    )
    return {measure.__name__: measure for measure in table}


def write_reading(rows: Rows, reading: Reading, name: str, *, step: int = 0, first_depth: int = 1) -> None:
    """Write a reading by depth, whose first layer lies at `first_depth`, or of the whole network, as rows `name`."""
    stderr = torch.full_like(reading.values, math.nan) if reading.stderr is None else reading.stderr
    if not reading.axes:
        rows.add(reading.name, name, reading.values.item(), step=step, stderr=stderr.item(), unit=reading.unit)
        return
    for index, layer in enumerate(reading.labels["layer"]):
        rows.add(
            reading.name,
            name,
            reading.values[index].item(),
            step=step,
            layer=layer,
            depth=first_depth + index,
            stderr=stderr[index].item(),
            unit=reading.unit,
        )


def write_quantities(rows: Rows, reading: Reading, *, step: int = 0) -> None:
    """Write a reading with axes ("quantity", "layer"), each quantity as `write_reading` does and by its own name."""
    for index, quantity in enumerate(reading.labels["quantity"]):
        stderr = None if reading.stderr is None else reading.stderr[index]
        layers = {"layer": reading.labels["layer"]}
        one = dataclasses.replace(reading, axes=("layer",), labels=layers, values=reading.values[index], stderr=stderr)
        write_reading(rows, one, quantity, step=step)


def _sites(model: nn.Module) -> int:
    return sum(hasattr(module, "normalizer_site") for module in model.modules())


def _write_correlation_map(scene: Scene, reading: Reading, step: int) -> None:
    """The prediction for the row, where it has one, from the measured first site on."""
    phase = theory.phase(scene.experiment.norm.name)
    if phase is not None:
        values = theory.propagate(theory.correlation_map(phase), reading.values[0].item(), len(reading.values))
        _write_curve(scene.rows, reading, "correlation", values, step)


def _write_growth(scene: Scene, reading: Reading, step: int) -> None:
    """The prediction for the row, where it has one, from the measured last site back."""
    phase = theory.phase(scene.experiment.norm.name)
    if phase is not None:
        growth = math.sqrt(theory.gradient_growth(phase))  # of the norm; theory gives it for the square
        layers_above = torch.arange(len(reading.values), dtype=torch.float64).flip(0)
        _write_curve(scene.rows, reading, "norm", reading.values[-1].item() * growth**layers_above, step)


def _write_curve(rows: Rows, reading: Reading, name: str, values: Tensor, step: int) -> None:
    for index, (layer, value) in enumerate(zip(reading.labels["layer"], values.tolist(), strict=True)):
        probe = f"theory.{reading.name}"
        rows.add(probe, name, value, step=step, layer=layer, depth=index + 1, unit=reading.unit)
