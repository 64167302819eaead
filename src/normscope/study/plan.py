"""Which trials a recipe consists of, in the order in which they run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import UNSET

from normscope.study.experiment import Experiment, Norm, Study
from normscope.study.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Trial:
    """One unit of work: a model measured at initialization ("init"), or trained at one learning rate ("train").

    `experiment` is given for trials of a study; that of a comparison's trial follows from its recipe.
    """

    id: str
    kind: Literal["init", "train"]
    norm: Norm
    lr: float | None  # None for kind "init"
    seed: int
    condition: str = ""
    experiment: Experiment | None = None

    def __str__(self) -> str:
        what = "at initialization" if self.lr is None else f"lr {self.lr:g}"
        condition = f" {self.condition}" if self.condition else ""
        more = 0 if self.experiment is None else self.experiment.replicas - 1
        seeds = f"seeds {self.seed} to {self.seed + more}" if more else f"seed {self.seed}"
        return f"{self.norm.label}{condition} {what} {seeds}"


def plan(recipe: Recipe | Study) -> tuple[Trial, ...]:
    """Every trial of the recipe that is known from the start; of a study, those of its first stage."""
    if isinstance(recipe, Study):
        return tuple(trial_of(experiment) for experiment in recipe.experiments)
    trials = []
    for norm in recipe.norms:
        stem = norm.label.replace(":", ",")  # a colon is not allowed in every file system's names
        for seed in range(recipe.seeds if recipe.measures_initialization else 0):
            trials.append(Trial(f"{stem}-init-seed{seed}", "init", norm, None, seed))
        for lr in recipe.lrs:
            for seed in range(recipe.seeds):
                trials.append(Trial(f"{stem}-train-lr{lr:g}-seed{seed}", "train", norm, lr, seed))
    return tuple(trials)


def trial_of(experiment: Experiment) -> Trial:
    """The trial that runs an experiment."""
    training = experiment.training
    kind: Literal["init", "train"] = "init" if training is None else "train"
    lr = None if training is None else training.optimizer.lr
    return Trial(experiment.id, kind, experiment.norm, lr, experiment.seed, experiment.condition, experiment)


def second_stage(study: Study, scores: Mapping[str, float]) -> tuple[Trial, ...]:
    """The trials of the final stage, from the score of every trial of the first by id; the highest mean wins.

    Of equal rates the smallest. A group without training has no final stage.
    """
    if study.final is None:
        return ()
    found = []
    for group in _groups(study.experiments):
        rates: dict[float, list[float]] = defaultdict(list)
        by_rate = {_rate(experiment): experiment for experiment in reversed(group)}
        for experiment in group:
            rates[_rate(experiment)].append(scores[experiment.id])
        best = min(rates, key=lambda rate: (-sum(rates[rate]) / len(rates[rate]), rate))
        for seed in study.final.seeds:
            chosen = msgspec.structs.replace(
                by_rate[best],
                id=f"final-{by_rate[best].id}-seed{seed}",
                seed=seed,
                measurements=study.final.measurements,
            )
            found.append(trial_of(chosen))
    return tuple(found)


def _groups(experiments: Iterable[Experiment]) -> list[list[Experiment]]:
    """Trained experiments that differ in learning rate, seed and id alone, in order."""
    groups: dict[bytes, list[Experiment]] = defaultdict(list)
    for experiment in experiments:
        if experiment.training is None:
            continue
        optimizer = msgspec.structs.replace(experiment.training.optimizer, lr=1.0)
        training = msgspec.structs.replace(experiment.training, optimizer=optimizer)
        same = msgspec.structs.replace(experiment, id="", seed=0, training=training)
        groups[msgspec.json.encode(same, order="sorted")].append(experiment)
    return list(groups.values())


def _rate(experiment: Experiment) -> float:
    assert experiment.training is not None
    return experiment.training.optimizer.lr


def cost(trial: Trial, recipe: Recipe | Study, *, products: int) -> float:
    """Rough cost in forward passes of one layer on a batch, for the estimate of the time left.

    `products` with the Hessian cost two gradients each, on another number of examples.
    """
    if isinstance(recipe, Study):
        return _cost_of(trial, products)
    if trial.kind == "init":
        return 20.0 * recipe.depth * recipe.init_batches
    examples = 0 if recipe.curvature_examples is UNSET else recipe.curvature_examples
    return recipe.train_depth * (4.0 * recipe.steps + 6.0 * products * examples / recipe.batch_size)


def _cost_of(trial: Trial, products: int) -> float:
    experiment = trial.experiment
    assert experiment is not None
    measured = sum(len(measurement.at) for measurement in experiment.measurements)
    trained = 0 if experiment.training is None else experiment.training.steps
    return 4.0 * trained + (10.0 * measured + 1.0) * experiment.replicas + 30.0 * products
