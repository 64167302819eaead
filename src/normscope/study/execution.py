"""Run one experiment: build the network, measure it, train it, measure it on the way."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from normscope.data import ShuffledBatches, StreamedBatches, crop_flip, resized_crop_flip, shuffled_batches
from normscope.isolation import seeded
from normscope.nn import Penalised
from normscope.study import seeds
from normscope.study.building import Network, cast, data_loss, network
from normscope.study.experiment import Training
from normscope.study.measuring import Measurements, Scene
from normscope.train import Objective, Setup, checkpoint, fit, optimizer, schedule, setup

Batch = tuple[Tensor, Tensor]

_AUGMENTATIONS: Mapping[str, Callable[..., Tensor]] = {
    "crop_flip": crop_flip,
    "resized_crop_flip": resized_crop_flip,
}


class CheckpointError(ValueError):
    """A checkpoint is there and cannot be gone on from; nothing was changed."""


def execute(scene: Scene, kept: Path) -> None:
    """Measure at initialization; train for the steps asked for, or until it diverges, which is a result too.

    Written are every step's loss, and penalty where there is one; what is measured, where it is due; and at the end
    whether the training diverged: its loss left the range `fit` allows, or the last validation loss is not finite.
    A training that asks for checkpoints keeps the last one at `kept` and goes on from the one it finds there. The
    replicas of an untrained network are built and measured one after the other, each as if it were alone.
    """
    experiment = scene.experiment
    if experiment.training is None:
        for seed in experiment.seeds:
            one = scene.of_seed(seed)
            Measurements(one).take(_initial(one).model, 0)
        return
    measurements, built = Measurements(scene), _initial(scene)
    device = scene.dataset.train.inputs.device
    cuda = (device.index,) if device.type == "cuda" else ()
    with seeded(seeds.derive(experiment.seed, "dropout"), cuda):
        _train(_prepare(scene, built, experiment.training, kept), measurements)


def _initial(scene: Scene) -> Network:
    """The network at initialization."""
    seed = scene.experiment.seed
    return network(scene.experiment, scene.dataset, generator=seeds.generator(seed, "init"))


@dataclass(frozen=True, kw_only=True)
class _Course:
    """A training that is ready to begin, or to go on."""

    scene: Scene
    built: Network
    training: Training
    prepared: Setup
    stream: ShuffledBatches | StreamedBatches[Any]
    kept: Path

    def save(self, step: int) -> None:
        """Keep everything that going on from after this step needs, the rows so far among it."""
        checkpoint.save(
            self.kept,
            model=self.built.model,
            optimizer=self.prepared.optimizer,
            step=step,
            batches=self.stream,
            precision=self.prepared,
            extra={"rows": json.dumps(self.scene.rows.plain()), "losses": json.dumps(list(self.scene.losses.items()))},
        )

    def restore(self) -> int:
        """Go on from the checkpoint, if there is one; return the last step taken, 0 at the beginning."""
        if not self.kept.exists():
            return 0
        try:
            found = checkpoint.restore(
                self.kept,
                model=self.built.model,
                optimizer=self.prepared.optimizer,
                batches=self.stream,
                precision=self.prepared,
            )
        except ValueError as error:
            raise CheckpointError(str(error)) from error
        self.scene.rows.restore(json.loads(found.extra["rows"]))
        self.scene.losses.update(json.loads(found.extra["losses"]))
        return found.step


def _prepare(scene: Scene, built: Network, training: Training, kept: Path) -> _Course:
    asked = training.optimizer
    prepared = setup(
        Penalised(built.model),
        optimizer(built.model, asked.name, asked.lr, **asked.options),
        precision=training.precision,
        accelerator="cuda" if scene.dataset.train.inputs.is_cuda else "cpu",
    )
    stream = _stream(scene, training.batch_size)
    return _Course(scene=scene, built=built, training=training, prepared=prepared, stream=stream, kept=kept)


def _stream(scene: Scene, batch_size: int) -> ShuffledBatches | StreamedBatches[Any]:
    """Batches to train on, in an order that the seed alone decides; from memory, or read as they are needed."""
    generator, buffer = seeds.generator(scene.experiment.seed, "data"), scene.experiment.data.buffer
    if scene.dataset.streamed is None or buffer is None:
        return shuffled_batches(scene.dataset.train, batch_size, generator=generator)
    # As many batches are decoded ahead as this process has threads, which changes no number.
    workers = torch.get_num_threads()
    return scene.dataset.streamed.shuffled(batch_size, generator=generator, buffer=buffer, workers=workers)


def _train(course: _Course, measurements: Measurements) -> None:
    scene, training, rows, model = course.scene, course.training, course.scene.rows, course.built.model
    last, diverged = course.restore(), False
    if last == 0:
        measurements.take(model, 0)
    steps = fit(
        _objective(course.prepared.model, training, penalized=course.built.penalized),
        _batches(course, first=last + 1),
        course.prepared.optimizer,
        schedule=schedule(training.schedule.name, **training.schedule.options),
        first=last + 1,
        backward=course.prepared.backward,
        diverged_loss=training.diverged_loss,
    )
    for step in steps:
        last, diverged = step.index, step.diverged
        rows.add("train", "loss", step.loss, step=last, unit="nats")
        if course.built.penalized:
            rows.add("train", "penalty", step.parts["penalty"], step=last)
        if not diverged:
            measurements.take(model, last)
            if training.checkpoint_every and last % training.checkpoint_every == 0:
                course.save(last)
    seen = scene.losses[max(scene.losses)] if scene.losses else 0.0
    rows.add("outcome", "diverged", float(diverged or not math.isfinite(seen)), step=last)


def _batches(course: _Course, *, first: int) -> Iterator[Batch]:
    """The batches of training from step `first` on, augmented. What a step draws follows from its number alone."""
    seed, augment = course.scene.experiment.seed, _AUGMENTATIONS.get(course.scene.experiment.data.augment)
    device = course.scene.dataset.train.inputs.device
    for index in range(first, course.training.steps + 1):
        inputs, targets = (part.to(device) for part in next(course.stream))
        course.built.at_step(index)
        if augment is not None:
            inputs = augment(inputs, generator=seeds.generator(seed, "augment", index))
        inputs = cast(inputs, course.scene.experiment)
        _reseed(inputs.device, seeds.derive(seed, "dropout", index))
        yield inputs, targets


def _reseed(device: torch.device, seed: int) -> None:
    """Dropout draws from the device's own random state."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(seed)


def _objective(penalised: nn.Module, training: Training, *, penalized: bool) -> Callable[[Batch], Objective]:
    weight = training.penalty_weight if penalized else 0.0
    alone = training.objective == "penalty"

    def objective(batch: Batch) -> Objective:
        inputs, targets = batch
        outputs, penalty = penalised(inputs)
        loss = data_loss(outputs, targets)
        total = penalty if alone else loss + weight * penalty
        return Objective(total=total, loss=loss, parts={"penalty": penalty})

    return objective
