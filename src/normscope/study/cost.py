"""What the Hessian's spectra of a comparison will cost, found out before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import torch
from torch import nn

from normscope.data import Dataset
from normscope.probes import Subject
from normscope.probes.curvature import hessian_of
from normscope.study import preparation
from normscope.study.building import cast, cross_entropy, network
from normscope.study.comparison import experiment_of
from normscope.study.curvature import asked_spectrum, curvature_batch
from normscope.study.due import num_nodes, spectra
from normscope.study.engine import Engine
from normscope.study.experiment import Data, Experiment, Measurement, Study
from normscope.study.plan import plan, second_stage
from normscope.study.recipe import Recipe

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


def estimate(recipe: Recipe | Study, datasets: Mapping[Data, Dataset], engine: Engine) -> Cost:
    """Count the products, and time one with the Hessian of the first network as a worker would.

    Raises:
        ValueError: it does not fit into a worker's memory, a group matches no parameter of a network, or a normalizer
            has no exact Hessian.
    """
    experiments = [experiment for experiment in _all(recipe) if any(_of_hessian(m) for m in experiment.measurements)]
    models: dict[bytes, nn.Module] = {}
    products = {}
    for experiment in experiments:
        dataset = datasets[experiment.data]
        key = msgspec.json.encode([experiment.data, experiment.model, experiment.norm, experiment.switches])
        if key not in models:
            models[key] = _model(experiment, dataset)
            _try_out(experiment, dataset)
        products[experiment.id] = sum(_products(m, experiment, models[key]) for m in experiment.measurements)
    seconds = engine.call(seconds_of_a_product, experiments[0], 1 / max(1, engine.describe()["workers"]))
    return Cost(seconds, {name: count for name, count in products.items() if count})


def seconds_of_a_product(experiment: Experiment, share: float) -> float:
    """Time a product with the Hessian of the experiment's untrained network, in that share of the memory."""
    dataset = preparation.load_on_device(experiment.data)
    examples = next(m.options["examples"] for m in experiment.measurements if _of_hessian(m))
    assert isinstance(examples, int)
    inputs, targets = curvature_batch(dataset, examples, seed=0)
    subject = Subject(_model(experiment, dataset), cross_entropy, (cast(inputs, experiment), targets))
    limit = preparation.memory_limit(share=share)
    return hessian_of(subject, params=None, mode="train", memory_limit=limit).report.seconds


def _all(recipe: Recipe | Study) -> list[Experiment]:
    """Every experiment; those of a study's final stage at rates that may not be the ones it will choose."""
    if isinstance(recipe, Study):
        final = second_stage(recipe, {experiment.id: 0.0 for experiment in recipe.experiments})
        return [*recipe.experiments, *(trial.experiment for trial in final if trial.experiment is not None)]
    return [experiment_of(trial, recipe) for trial in plan(recipe)]


def _of_hessian(measurement: Measurement) -> bool:
    return measurement.probe in ("spectrum", "sharpness")


def _products(measurement: Measurement, experiment: Experiment, model: nn.Module) -> int:
    if measurement.probe == "sharpness":
        return _SHARPNESS_PRODUCTS * len(measurement.at)
    if measurement.probe != "spectrum":
        return 0
    options = {name: value for name, value in measurement.options.items() if name != "examples"}
    spectrum = asked_spectrum(**options)  # type: ignore[arg-type]
    for group in spectrum.groups:
        if num_nodes(spectrum, model, group) == 0:
            names = [name for name, _ in model.named_parameters()]
            raise ValueError(
                f"spectrum_groups must match parameters of every network, and {group!r} matches none with "
                f"{experiment.norm.label}; names are such as {names[0]}, {names[-1]}."
            )
    nodes = sum(num_nodes(spectrum, model, due.group) for due in spectra(spectrum, model))
    return spectrum.lanczos_starts * nodes * len(measurement.at)


def _try_out(experiment: Experiment, dataset: Dataset) -> None:
    """A product with the Hessian of a small network, which is exact or refused."""
    model = _model(preparation.small(experiment), dataset)
    batch = (cast(dataset.train.inputs[:4], experiment), dataset.train.targets[:4])
    try:
        hessian_of(Subject(model, cross_entropy, batch), params=None, mode="train", memory_limit=None)
    except ValueError as error:
        raise ValueError(f"{experiment.norm.label}: {error}") from None


def _model(experiment: Experiment, dataset: Dataset) -> nn.Module:
    return network(experiment, dataset, generator=torch.Generator().manual_seed(0)).model
