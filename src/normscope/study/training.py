"""The first steps of training, probed on the way, evaluated on data the training never saw."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normscope import probes
from normscope.data import Dataset, Split, even_batches, shuffled_batches
from normscope.nn import Penalised
from normscope.study import seeds
from normscope.study.building import network, row
from normscope.study.curvature import CurvatureProbes
from normscope.study.initialization import write_reading
from normscope.study.plan import Trial
from normscope.study.probing import ProbeName
from normscope.study.recipe import Recipe
from normscope.study.rows import Rows
from normscope.train import Objective, fit, log_spaced, sgd

_PROBES_PER_DECADE = 3


def train(trial: Trial, recipe: Recipe, dataset: Dataset, rows: Rows, curvature: CurvatureProbes | None) -> None:
    """Train at one learning rate for the recipe's steps, or until it diverges, which is a result too.

    Written are every step's loss; at steps spaced evenly in the logarithm the last site's correlation, the gradients'
    correlations and validation loss and accuracy; at the end test loss and accuracy, and whether it diverged: the
    training loss left the range `fit` allows, or the last validation loss is not finite. `curvature` measures the
    Hessian at the steps it knows.
    """
    if trial.lr is None:
        raise ValueError(f"a trial of kind {trial.kind!r} names no learning rate to train at; measure it instead.")
    generator = seeds.generator(trial.seed, "init")
    model = network(recipe, trial.norm, dataset, depth=recipe.train_depth, generator=generator)
    penalized = row(trial.norm).penalized
    stream = shuffled_batches(dataset.train, recipe.batch_size, generator=seeds.generator(trial.seed, "data"))
    batches = itertools.islice(stream, recipe.steps)
    probe_steps = frozenset(log_spaced(recipe.steps, per_decade=_PROBES_PER_DECADE))
    pair = _probe_batches(trial, recipe, dataset)
    objective = _objective(model, recipe.penalty_weight if penalized else 0.0)
    optimizer = sgd(model, lr=trial.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)

    def observe(step: int) -> float:
        _probe(model, pair, recipe, rows, seed=trial.seed, step=step)
        return _evaluate(model, dataset.validation, recipe.batch_size, rows, "validation", step=step)

    measure_hessian = (lambda _model, _step: None) if curvature is None else curvature.observe
    validation_loss, last, diverged = observe(0), 0, False
    measure_hessian(model, 0)
    for step in fit(objective, batches, optimizer):
        last, diverged = step.index, step.diverged
        rows.add("train", "loss", step.loss, step=step.index, unit="nats")
        if penalized:
            rows.add("train", "penalty", step.parts["penalty"], step=step.index)
        if step.index in probe_steps and not diverged:
            validation_loss = observe(step.index)
        if not diverged:
            measure_hessian(model, step.index)
    if not diverged:
        _evaluate(model, dataset.test, recipe.batch_size, rows, "test", step=last)
    rows.add("outcome", "diverged", float(diverged or not math.isfinite(validation_loss)), step=last)


def _objective(model: nn.Module, penalty_weight: float) -> Callable[[tuple[Tensor, Tensor]], Objective]:
    penalised = Penalised(model)

    def objective(batch: tuple[Tensor, Tensor]) -> Objective:
        inputs, targets = batch
        outputs, penalty = penalised(inputs)
        loss = F.cross_entropy(outputs, targets)
        return Objective(total=loss + penalty_weight * penalty, loss=loss, parts={"penalty": penalty})

    return objective


def _probe_batches(trial: Trial, recipe: Recipe, dataset: Dataset) -> list[tuple[Tensor, Tensor]]:
    """Two batches that stay the same while the model trains, so that a curve shows the model's change alone."""
    stream = shuffled_batches(dataset.train, recipe.batch_size, generator=seeds.generator(trial.seed, "probe"))
    return list(itertools.islice(stream, 2))


def _probe(
    model: nn.Module, pair: list[tuple[Tensor, Tensor]], recipe: Recipe, rows: Rows, *, seed: int, step: int
) -> None:
    first, second = pair
    one, two = probes.Subject(model, F.cross_entropy, first), probes.Subject(model, F.cross_entropy, first, [second])
    last_site = sum(hasattr(module, "normalizer_site") for module in model.modules())
    # The spread is taken over seeds; one batch a measurement keeps probing cheaper than the training it watches.
    measurements: tuple[tuple[ProbeName, str, probes.Probe, probes.Subject], ...] = (
        (
            "information_propagation",
            "correlation",
            probes.InformationPropagation(noise=recipe.noise, select="last"),
            one,
        ),
        (
            "gradient_correlation",
            "similar",
            probes.GradientCorrelation(pairs="similar", by="network", noise=recipe.noise),
            one,
        ),
        ("gradient_correlation", "independent", probes.GradientCorrelation(pairs="independent", by="network"), two),
    )
    for measurement, name, probe, subject in measurements:
        if measurement not in recipe.measured:
            continue
        reading = probe(subject, generator=seeds.generator(seed, "probe", step))
        write_reading(rows, reading, name, step=step, first_depth=last_site)


@torch.no_grad()
def _evaluate(model: nn.Module, split: Split, batch_size: int, rows: Rows, name: str, *, step: int) -> float:
    """Write accuracy and mean cross-entropy (nats) in eval mode over the whole split; return the latter.

    Batches are of nearly equal size: rows without running statistics use those of the batch at hand in eval mode too.
    """
    loss, correct = 0.0, 0
    model.eval()
    for inputs, targets in even_batches(split, batch_size):
        outputs = model(inputs)
        loss += F.cross_entropy(outputs, targets, reduction="sum").item()
        correct += int((outputs.argmax(1) == targets).sum())
    model.train()
    rows.add("evaluation", f"{name}_accuracy", correct / len(split), step=step)
    rows.add("evaluation", f"{name}_loss", loss / len(split), step=step, unit="nats")
    return loss / len(split)
