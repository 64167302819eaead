"""What the Hessian's spectra of a comparison will cost, found out before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from msgspec import UNSET
from torch import nn
from torch.nn import functional as F

from normscope.data import Dataset
from normscope.probes import Subject
from normscope.probes.curvature import hessian_of
from normscope.study import preparation
from normscope.study.building import network
from normscope.study.curvature import curvature_batch
from normscope.study.due import num_nodes, sharpness_steps, spectra, spectrum_steps
from normscope.study.engine import Engine
from normscope.study.plan import Trial, plan
from normscope.study.recipe import Norm, Recipe

# What the ten largest eigenvalues and the smallest took on networks in early training; it varies with their gaps.
_SHARPNESS_PRODUCTS = 100


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
        if not counts:
            return "spectra: all are measured"
        each = f"{min(counts)}" if len({*counts}) == 1 else f"{min(counts)} to {max(counts)}"
        minutes = self.total(trials, workers=workers) / 60
        return (
            f"spectra: {len(counts)} trials x {each} products of about {self.seconds:.2g} s: about "
            f"{f'{minutes:.0f} min' if minutes >= 1 else f'{60 * minutes:.0f} s'}"
        )


def estimate(recipe: Recipe, dataset: Dataset, engine: Engine) -> Cost:
    """Count the products, and time one with the Hessian of the first normalizer's network as a worker would.

    Raises:
        ValueError: it does not fit into a worker's memory, a group matches no parameter of a network, or a normalizer
            has no exact Hessian.
    """
    models = {norm.label: _model(recipe, norm, dataset, depth=recipe.train_depth) for norm in recipe.norms}
    for label, model in models.items():
        _check_groups(recipe, label, model)
    for norm in recipe.norms:
        _try_out(recipe, norm, dataset)
    seconds = engine.call(seconds_of_a_product, recipe, 1 / max(1, engine.describe()["workers"]))
    products = {trial.id: _products(trial, recipe, models[trial.norm.label]) for trial in plan(recipe)}
    return Cost(seconds, {name: count for name, count in products.items() if count})


def seconds_of_a_product(recipe: Recipe, share: float) -> float:
    """Time a product with the Hessian of the first normalizer's network, in that share of the memory."""
    dataset = preparation.load_on_device(recipe)
    model = _model(recipe, recipe.norms[0], dataset, depth=recipe.train_depth)
    subject = Subject(model, F.cross_entropy, curvature_batch(recipe, dataset, seed=0))
    limit = preparation.memory_limit(share=share)
    return hessian_of(subject, params=None, mode="train", memory_limit=limit).report.seconds


def _products(trial: Trial, recipe: Recipe, model: nn.Module) -> int:
    sharpness = _SHARPNESS_PRODUCTS * len(sharpness_steps(trial, recipe))
    spectrum = recipe.spectrum
    if spectrum is UNSET:
        return sharpness
    nodes = sum(num_nodes(spectrum, model, due.group) for due in spectra(spectrum, model))
    return sharpness + spectrum.lanczos_starts * nodes * len(spectrum_steps(trial, recipe))


def _check_groups(recipe: Recipe, label: str, model: nn.Module) -> None:
    if recipe.spectrum is UNSET:
        return
    for group in recipe.spectrum.groups:
        if num_nodes(recipe.spectrum, model, group) == 0:
            names = [name for name, _ in model.named_parameters()]
            raise ValueError(
                f"spectrum_groups must match parameters of every network, and {group!r} matches none with {label}; "
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
