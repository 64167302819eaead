"""Which trials a recipe consists of, in the order in which they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET

from normscope.study.recipe import Norm, Recipe


@dataclass(frozen=True, slots=True)
class Trial:
    """One unit of work: a model measured at initialization ("init"), or trained at one learning rate ("train")."""

    id: str
    kind: Literal["init", "train"]
    norm: Norm
    lr: float | None  # None for kind "init"
    seed: int

    def __str__(self) -> str:
        what = "at initialization" if self.lr is None else f"lr {self.lr:g}"
        return f"{self.norm.label} {what} seed {self.seed}"


def plan(recipe: Recipe) -> tuple[Trial, ...]:
    """Every trial of the recipe, normalizer by normalizer, so that the table of results fills row by row."""
    trials = []
    for norm in recipe.norms:
        stem = norm.label.replace(":", ",")  # a colon is not allowed in every file system's names
        for seed in range(recipe.seeds if recipe.measures_initialization else 0):
            trials.append(Trial(f"{stem}-init-seed{seed}", "init", norm, None, seed))
        for lr in recipe.lrs:
            for seed in range(recipe.seeds):
                trials.append(Trial(f"{stem}-train-lr{lr:g}-seed{seed}", "train", norm, lr, seed))
    return tuple(trials)


def cost(trial: Trial, recipe: Recipe, *, products: int) -> float:
    """Rough cost in forward passes of one layer on a batch, for the estimate of the time left.

    `products` with the Hessian cost two gradients each, on another number of examples.
    """
    if trial.kind == "init":
        return 20.0 * recipe.depth * recipe.init_batches
    examples = 0 if recipe.curvature_examples is UNSET else recipe.curvature_examples
    return recipe.train_depth * (4.0 * recipe.steps + 6.0 * products * examples / recipe.batch_size)
