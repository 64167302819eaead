"""The measurement at initialization: signal and gradients by depth, with the theory beside them."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from normscope import probes, theory
from normscope.data import Dataset, shuffled_batches
from normscope.probes import Reading
from normscope.study import seeds
from normscope.study.building import network
from normscope.study.plan import Trial
from normscope.study.recipe import Recipe
from normscope.study.rows import Rows


def measure_initialization(trial: Trial, recipe: Recipe, dataset: Dataset, rows: Rows) -> None:
    """Write the probes' readings of the untrained model, and mean-field theory's prediction from the same start."""
    generator = seeds.generator(trial.seed, "init")
    model = network(recipe, trial.norm, dataset, depth=recipe.depth, generator=generator)
    stream = shuffled_batches(dataset.train, recipe.batch_size, generator=seeds.generator(trial.seed, "data"))
    batch, *more = itertools.islice(stream, recipe.init_batches)
    subject = probes.Subject(model, F.cross_entropy, batch, more=more)

    def measure(probe: probes.Probe, name: str) -> Reading:
        reading = probe(subject, generator=seeds.generator(trial.seed, "probe", 0))
        write_reading(rows, reading, name)
        return reading

    propagation = measure(probes.InformationPropagation(noise=recipe.noise), "correlation")
    measure(probes.GradientCorrelation(pairs="similar", noise=recipe.noise), "similar")
    measure(probes.GradientCorrelation(pairs="independent"), "independent")
    gradient_norm = measure(probes.GradientNorm(), "norm")
    if not recipe.skips:
        _write_theory(rows, trial.norm.name, propagation, gradient_norm)


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


def _write_theory(rows: Rows, normalizer: str, propagation: Reading, gradient_norm: Reading) -> None:
    """Mean-field predictions: the correlation from the first site's on, the gradient norm from the last site's back."""
    phase = theory.phase(normalizer)
    if phase is None:
        return
    first, last = propagation.values[0].item(), gradient_norm.values[-1].item()
    correlation_map = theory.ordered_map if phase == "ordered" else theory.chaotic_map
    correlations = theory.propagate(correlation_map, first, len(propagation.values))
    growth = math.sqrt(theory.gradient_growth(phase))  # of the norm; theory gives it for the square
    layers_above = torch.arange(len(gradient_norm.values), dtype=torch.float64).flip(0)
    _write_curve(rows, propagation, "correlation", correlations)
    _write_curve(rows, gradient_norm, "norm", last * growth**layers_above)


def _write_curve(rows: Rows, reading: Reading, name: str, values: Tensor) -> None:
    for index, (layer, value) in enumerate(zip(reading.labels["layer"], values.tolist(), strict=True)):
        rows.add(f"theory.{reading.name}", name, value, layer=layer, depth=index + 1, unit=reading.unit)
