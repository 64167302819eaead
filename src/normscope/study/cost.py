"""What the Hessian's spectra of a comparison will cost, found out before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from normscope.data import Dataset
from normscope.probes import Subject
from normscope.probes.curvature import hessian_of
from normscope.study import preparation
from normscope.study.building import network
from normscope.study.curvature import (
    curvature_batch,
    num_parameters,
    sharpness_steps,
    spectra,
    spectrum_steps,
    tracks_running_statistics,
)
from normscope.study.plan import Trial, plan
from normscope.study.recipe import Norm, Recipe

# What the ten largest eigenvalues and the smallest took on networks in early training; it varies with their gaps.
SHARPNESS_PRODUCTS = 100


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of one product with the largest Hessian, and the products that each trial will take, by id."""

    seconds: float
    products: Mapping[str, int]

    def total(self, trials: Sequence[str], *, workers: int) -> float:
        """Seconds that the products of these trials will take."""
        counts = [self.products.get(trial, 0) for trial in trials]
        return self.seconds * max(sum(counts) / workers, max(counts, default=0))

    def describe(self, trials: Sequence[str], *, workers: int) -> str:
        """What is to come, in words."""
        counts = [count for trial in trials if (count := self.products.get(trial, 0))]
        each = f"{min(counts)}" if len({*counts}) == 1 else f"{min(counts)} to {max(counts)}"
        minutes = self.total(trials, workers=workers) / 60
        return (
            f"spectra: {len(counts)} trials x {each} products of about {self.seconds:.2g} s: about "
            f"{f'{minutes:.0f} min' if minutes >= 1 else f'{60 * minutes:.0f} s'}"
        )


def estimate(recipe: Recipe, dataset: Dataset, *, workers: int, threads: int) -> Cost | None:
    """Time a product of the first normalizer's Hessian as a worker would; None where none is asked for.

    Raises:
        ValueError: it does not fit into a worker's memory, a group matches no parameter of a network, or a normalizer
            has no exact Hessian.
    """
    if not recipe.measures_curvature:
        return None
    models = {norm.label: _model(recipe, norm, dataset, depth=recipe.train_depth) for norm in recipe.norms}
    for label, model in models.items():
        _check_groups(recipe, label, model)
    for norm in recipe.norms:
        _try_out(recipe, norm, dataset)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        seconds = _seconds(recipe, models[recipe.norms[0].label], dataset, workers)
    finally:
        torch.set_num_threads(before)
    products = {trial.id: _products(trial, recipe, models[trial.norm.label]) for trial in plan(recipe)}
    return Cost(seconds, {name: count for name, count in products.items() if count})


def _seconds(recipe: Recipe, model: nn.Module, dataset: Dataset, workers: int) -> float:
    device = preparation.device()
    inputs, targets = curvature_batch(recipe, dataset, seed=0)
    subject = Subject(model.to(device), F.cross_entropy, (inputs.to(device), targets.to(device)))
    limit = preparation.memory_limit(share=1 / workers)
    return hessian_of(subject, params=None, mode="train", memory_limit=limit).report.seconds


def _products(trial: Trial, recipe: Recipe, model: nn.Module) -> int:
    due = spectra(recipe, tracks=tracks_running_statistics(model))
    at_a_step = sum(
        recipe.spectrum.lanczos_starts * min(recipe.spectrum.lanczos_steps, num_parameters(model, each.group))
        for each in due
    )
    sharpness = SHARPNESS_PRODUCTS * len(sharpness_steps(trial, recipe))
    return at_a_step * len(spectrum_steps(trial, recipe)) + sharpness


def _check_groups(recipe: Recipe, label: str, model: nn.Module) -> None:
    for due in spectra(recipe, tracks=False):
        if num_parameters(model, due.group) == 0:
            names = [name for name, _ in model.named_parameters()]
            raise ValueError(
                f"spectrum_groups must match parameters of every network, and {due.group!r} matches none with {label}; "
                f"names are such as {names[0]}, {names[-1]}."
            )


def _try_out(recipe: Recipe, norm: Norm, dataset: Dataset) -> None:
    """A product with the Hessian of a small network, which is exact or refused."""
    small = preparation.small(recipe)
    model = _model(small, norm, dataset, depth=small.train_depth)
    batch = (dataset.train.inputs[:4], dataset.train.targets[:4])
    try:
        hessian_of(Subject(model, F.cross_entropy, batch), params=None, mode="train", memory_limit=None)
    except ValueError as error:
        raise ValueError(f"{norm.label}: {error}") from None


def _model(recipe: Recipe, norm: Norm, dataset: Dataset, *, depth: int) -> nn.Module:
    return network(recipe, norm, dataset, depth=depth, generator=torch.Generator().manual_seed(0))
