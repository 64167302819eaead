"""The measurement at initialization: signal and gradients by depth, with the theory beside them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from normscope import probes, theory
from normscope.data import Dataset, shuffled_batches
from normscope.probes import Reading
from normscope.study import seeds
from normscope.study.building import network
from normscope.study.plan import Trial
from normscope.study.probing import ProbeName
from normscope.study.recipe import Recipe
from normscope.study.rows import Rows


def measure_initialization(trial: Trial, recipe: Recipe, dataset: Dataset, rows: Rows) -> None:
    """Write the probes' readings of the untrained model, and mean-field theory's prediction from the same start."""
    generator = seeds.generator(trial.seed, "init")
    model = network(recipe, trial.norm, dataset, depth=recipe.depth, generator=generator)
    stream = shuffled_batches(dataset.train, recipe.batch_size, generator=seeds.generator(trial.seed, "data"))
    batch, *more = itertools.islice(stream, recipe.init_batches)
    subject = probes.Subject(model, F.cross_entropy, batch, more=more)

    measurements: tuple[tuple[ProbeName, str, probes.Probe], ...] = (
        ("information_propagation", "correlation", probes.InformationPropagation(noise=recipe.noise)),
        ("gradient_correlation", "similar", probes.GradientCorrelation(pairs="similar", noise=recipe.noise)),
        ("gradient_correlation", "independent", probes.GradientCorrelation(pairs="independent")),
        ("gradient_norm", "norm", probes.GradientNorm()),
    )
    readings: dict[ProbeName, Reading] = {}
    for measurement, name, probe in measurements:
        if measurement in recipe.measured:
            readings[measurement] = probe(subject, generator=seeds.generator(trial.seed, "probe", 0))
            write_reading(rows, readings[measurement], name)
    if not recipe.skips:
        _write_theory(rows, trial.norm.name, readings)


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


def _write_theory(rows: Rows, normalizer: str, readings: Mapping[ProbeName, Reading]) -> None:
    """Mean-field predictions: the correlation from the first site's on, the gradient norm from the last site's back."""
    phase = theory.phase(normalizer)
    if phase is None:
        return
    if "information_propagation" in readings:
        propagation = readings["information_propagation"]
        start = propagation.values[0].item()
        correlations = theory.propagate(theory.correlation_map(phase), start, len(propagation.values))
        _write_curve(rows, propagation, "correlation", correlations)
    if "gradient_norm" in readings:
        norm = readings["gradient_norm"]
        growth = math.sqrt(theory.gradient_growth(phase))  # of the norm; theory gives it for the square
        layers_above = torch.arange(len(norm.values), dtype=torch.float64).flip(0)
        _write_curve(rows, norm, "norm", norm.values[-1].item() * growth**layers_above)


def _write_curve(rows: Rows, reading: Reading, name: str, values: Tensor) -> None:
    for index, (layer, value) in enumerate(zip(reading.labels["layer"], values.tolist(), strict=True)):
        rows.add(f"theory.{reading.name}", name, value, layer=layer, depth=index + 1, unit=reading.unit)
