"""What a step of gradient descent does to activations, gradients and loss: probes as measurements, from model to rows.

Rows have one place along a curve, the column `depth`, which counts from 1; where a curve goes along numbers, such as
step sizes, the column `layer` holds each as text. Modules are named by regular expressions, separated by spaces, each
of which has to match some whole name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from normscope import probes
from normscope.data import Split, shuffled_batches
from normscope.probes import Reading
from normscope.study import seeds
from normscope.study.building import cast, data_loss
from normscope.study.measuring import Scene, evaluate, write_reading

From: TypeAlias = Literal["probe", "next"]
Batch: TypeAlias = tuple[Tensor, Tensor]


def channel_moments(
    scene: Scene,
    model: nn.Module,
    step: int,
    *,
    modules: str,
    channels: str = "",
    source: From = "probe",
) -> None:
    """Mean over channels of |channel mean| and of the channel's deviation, by layer; of `channels`, each channel's."""
    subject = _subject(scene, model, step, source)
    by_layer = probes.ChannelMoments(by="layer", select=chosen(model, modules))
    _write_by_layer(scene, by_layer(subject, generator=scene.generator(step)), step)
    if channels:
        by_channel = probes.ChannelMoments(by="channel", select=chosen(model, channels))
        reading = by_channel(subject, generator=scene.generator(step))
        for quantity, values in zip(reading.labels["quantity"], reading.values, strict=True):
            _write_channels(scene, reading, f"channel_{quantity}", values, step, at="")


def channel_moments_along_step(
    scene: Scene,
    model: nn.Module,
    step: int,
    *,
    modules: str,
    points: int,
    lr: float | None = None,
    low: float = 1e-5,
    high: float = 1.0,
    sizes: int = 26,
    divergence: float = 1e3,
    source: From = "probe",
) -> None:
    """Each channel's mean and variance at so many even shares of one step; the column `layer` is layer@share.

    Without `lr` the step has the first of so many `sizes` from `low` to `high` at which its relative loss exceeds
    `divergence`, or the last where it does at none; the relative losses are written, too.

    Raises:
        ValueError: fewer than two points; sizes as `step_sizes` refuses them.
    """
    if points < 2:
        raise ValueError(f"points must be at least 2, the beginning and the end of the step, got {points}.")
    fractions = tuple(round(i / (points - 1), 6) for i in range(points))
    subject = _subject(scene, model, step, source)
    if lr is None:
        relative = probes.RelativeLoss(step_sizes=step_sizes(low, high, sizes))
        ratios = relative(subject, generator=scene.generator(step))
        _write_along(scene, ratios, "relative_loss", ratios.values, step, unit="1")
        # Not "greater": a ratio of no number is divergence, too.
        curve = zip(relative.step_sizes, ratios.values.tolist(), strict=True)
        lr = next((size for size, ratio in curve if not ratio <= divergence), relative.step_sizes[-1])
    probe = probes.ChannelMomentsAlongStep(lr=lr, fractions=fractions, select=chosen(model, modules))
    reading = probe(subject, generator=scene.generator(step))
    for quantity, by_fraction in zip(reading.labels["quantity"], reading.values, strict=True):
        for fraction, values in zip(fractions, by_fraction, strict=True):
            _write_channels(scene, reading, f"channel_{quantity}", values, step, at=f"@{fraction:g}")


def relative_loss(
    scene: Scene, model: nn.Module, step: int, *, low: float, high: float, points: int, source: From = "next"
) -> None:
    """The loss after a step along the gradient beside that before it, by the size of the step."""
    probe = probes.RelativeLoss(step_sizes=step_sizes(low, high, points))
    reading = probe(_subject(scene, model, step, source), generator=scene.generator(step))
    _write_along(scene, reading, "relative_loss", reading.values, step, unit="1")


def loss_along_gradient(
    scene: Scene, model: nn.Module, step: int, *, low: float, high: float, points: int, source: From = "next"
) -> None:
    """Loss, distance of the gradient and effective smoothness along the gradient, by the size of the step.

    `theory.loss_along_gradient` is 1/η, where the smoothness saturates: the gradient changes by its own size.
    """
    probe = probes.LossAlongGradient(step_sizes=step_sizes(low, high, points))
    reading = probe(_subject(scene, model, step, source), generator=scene.generator(step))
    nats = scene.dataset.task != "regression"
    for quantity, values in zip(reading.labels["quantity"], reading.values, strict=True):
        _write_along(scene, reading, quantity, values, step, unit="nats" if nats and quantity == "loss" else "1")
    for place, size in enumerate(probe.step_sizes, start=1):
        scene.rows.add(f"theory.{reading.name}", "smoothness", 1 / size, step=step, layer=f"{size:.6g}", depth=place)


def covariate_shift(scene: Scene, model: nn.Module, step: int, *, lr: float, source: From = "next") -> None:
    """Distance and cosine of a layer's gradient before and after the layers below have taken their step."""
    probe = probes.CovariateShift(lr=lr)
    reading = probe(_subject(scene, model, step, source), generator=scene.generator(step))
    _write_by_layer(scene, reading, step)


def logit_gradients(scene: Scene, model: nn.Module, step: int, *, source: From = "probe") -> None:
    """The gradient with respect to the logits by image (`depth`) and class (`layer`), and its rows' mean cosine."""
    subject = _subject(scene, model, step, source)
    reading = probes.LogitGradients()(subject, generator=scene.generator(step))
    for image, row in enumerate(reading.values.tolist(), start=1):
        for name, value in zip(reading.labels["class"], row, strict=True):
            scene.rows.add(reading.name, "gradient", value, step=step, layer=name, depth=image, unit=reading.unit)
    targets = subject.batch[1]
    if not targets.is_floating_point():  # real targets are no classes
        for image, target in enumerate(targets.flatten().tolist(), start=1):
            scene.rows.add(reading.name, "target", target, step=step, depth=image)
    similarity = probes.LogitGradients(statistic="similarity")
    write_reading(scene.rows, similarity(subject, generator=scene.generator(step)), "cosine", step=step)


def gradient_sums(scene: Scene, model: nn.Module, step: int, *, modules: str, source: From = "probe") -> None:
    """Of each weight's gradient, the sum of its parts' sizes (a), the size of their sum (b), and a/b, by layer."""
    probe = probes.GradientSums(select=chosen(model, modules))
    reading = probe(_subject(scene, model, step, source), generator=scene.generator(step))
    _write_by_layer(scene, reading, step)


def gradient_histogram(
    scene: Scene, model: nn.Module, step: int, *, modules: str, bins: int = 100, source: From = "probe"
) -> None:
    """Histogram of a layer's weight gradient, with its deviation, largest size and excess kurtosis."""
    subject, select = _subject(scene, model, step, source), chosen(model, modules)
    moments = probes.GradientHistogram(statistic="moments", select=select)
    _write_by_layer(scene, moments(subject, generator=scene.generator(step)), step)
    histogram = probes.GradientHistogram(bins=bins, select=select)
    reading = histogram(subject, generator=scene.generator(step))
    for layer, columns in zip(reading.labels["layer"], reading.values.unbind(1), strict=True):
        for name, values in zip(reading.labels["quantity"], columns.tolist(), strict=True):
            for place, value in enumerate(values, start=1):
                scene.rows.add(reading.name, name, value, step=step, layer=layer, depth=place, unit=reading.unit)


def training_accuracy(scene: Scene, model: nn.Module, step: int, *, examples: int) -> None:
    """Accuracy and mean cross-entropy in eval mode of the first training examples, without augmentation."""
    train = scene.dataset.train
    some = Split(train.inputs[:examples], train.targets[:examples])
    evaluate(model, some, scene, "train", step=step)


def chosen(model: nn.Module, modules: str) -> Callable[[str, nn.Module], bool]:
    """The selection of modules by regular expressions.

    Raises:
        ValueError: one of them matches no name.
    """
    patterns = [re.compile(text) for text in modules.split()]
    names = [name for name, _ in model.named_modules() if name]
    for pattern in patterns:
        if not any(map(pattern.fullmatch, names)):
            raise ValueError(
                f"modules must match names of {type(model).__name__}, and {pattern.pattern!r} matches none; names are "
                f"such as {', '.join(names[:3])} and {names[-1]}."
            )
    return lambda name, _module: any(pattern.fullmatch(name) for pattern in patterns)


def step_sizes(low: float, high: float, points: int) -> tuple[float, ...]:
    """So many step sizes from `low` to `high`, evenly by their logarithm, with six digits each.

    >>> step_sizes(0.01, 1.0, 3)
    (0.01, 0.1, 1.0)

    Raises:
        ValueError: they do not ascend from a positive number, or are fewer than two.
    """
    if not 0 < low < high or points < 2:
        raise ValueError(f"step sizes ascend from a positive one, two at least, got {points} from {low} to {high}.")
    return tuple(float(f"{low * (high / low) ** (i / (points - 1)):.6g}") for i in range(points))


def next_batch(scene: Scene, step: int) -> Batch:
    """The batch that training takes after this step, as it is before augmentation."""
    training, train = scene.experiment.training, scene.dataset.train
    size = scene.experiment.batch_size if training is None else training.batch_size
    generator = seeds.generator(scene.experiment.seed, "data")
    epochs, taken = divmod(step, len(train) // size)
    for _ in range(epochs):
        torch.randperm(len(train), generator=generator)
    stream = shuffled_batches(train, size, generator=generator)
    stream.restore({"epoch_start": generator.get_state(), "taken": torch.tensor(taken)})
    inputs, targets = next(stream)
    return cast(inputs, scene.experiment), targets


def _subject(scene: Scene, model: nn.Module, step: int, source: From) -> probes.Subject:
    """The model on the batch that stays the same through training, or on the one that is trained on next."""
    if source == "probe":
        return scene.subject(model, 1, source)
    return probes.Subject(model, data_loss, next_batch(scene, step))


def _write_by_layer(scene: Scene, reading: Reading, step: int) -> None:
    """A reading with axes ("quantity", "layer"), each quantity a name."""
    for quantity, values in zip(reading.labels["quantity"], reading.values.tolist(), strict=True):
        for depth, (layer, value) in enumerate(zip(reading.labels["layer"], values, strict=True), start=1):
            scene.rows.add(reading.name, quantity, value, step=step, layer=layer, depth=depth, unit=reading.unit)


def _write_channels(scene: Scene, reading: Reading, name: str, values: Tensor, step: int, *, at: str) -> None:
    """One value per channel, whose labels are layer:index; channels count from 1 in the column `depth`."""
    for label, value in zip(reading.labels["channel"], values.tolist(), strict=True):
        layer, _, index = label.rpartition(":")
        scene.rows.add(
            reading.name, name, value, step=step, layer=f"{layer}{at}", depth=int(index) + 1, unit=reading.unit
        )


def _write_along(scene: Scene, reading: Reading, name: str, values: Tensor, step: int, *, unit: str) -> None:
    """One value per step size."""
    sizes: Sequence[str] = reading.labels["step_size"]
    for place, (size, value) in enumerate(zip(sizes, values.tolist(), strict=True), start=1):
        scene.rows.add(reading.name, name, value, step=step, layer=f"{float(size):.6g}", depth=place, unit=unit)
