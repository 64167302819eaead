"""The Hessian of a network in training: its spectra and largest eigenvalues as rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
import torch.nn.functional as F
from msgspec import UNSET
from torch import Tensor, nn

from normscope.data import Dataset, shuffled_batches
from normscope.probes import Reading, Sharpness, SpectralDensity, Subject
from normscope.study import seeds
from normscope.study.due import (
    Due,
    num_nodes,
    sharpness_steps,
    spectra,
    spectrum_steps,
    tracks_running_statistics,
)
from normscope.study.plan import Trial
from normscope.study.probing import Spectrum
from normscope.study.recipe import Recipe
from normscope.study.rows import Rows

# Told what is under way, how many products are done, and of how many where that is known beforehand.
Advance: TypeAlias = Callable[[str, int, int | None], None]

_EIGENVALUES = 10  # K of lambda_1 / lambda_K: the number of classes of the paper's data set


@final
@dataclass(frozen=True, kw_only=True)
class CurvatureProbes:
    """Measures the Hessian of the model of one training trial at the steps it is due.

    The loss is the mean cross-entropy of one batch of training examples, the same at every step: no penalty, no weight
    decay, no augmentation, dropout off.
    """

    trial: Trial
    recipe: Recipe
    batch: tuple[Tensor, Tensor]
    rows: Rows
    memory_limit: int | None
    advance: Advance

    def observe(self, model: nn.Module, step: int) -> None:
        """Measure whatever is due at this step of training."""
        spectrum = self.recipe.spectrum if step in spectrum_steps(self.trial, self.recipe) else UNSET
        sharpness = step in sharpness_steps(self.trial, self.recipe)
        if spectrum is not UNSET or sharpness:
            self.rows.add("weights", "norm", total_norm(model), step=step)
        if spectrum is not UNSET:
            dues = spectra(spectrum, model)
            for due in dues:
                _write_rules(self.rows, self._spectrum(model, spectrum, due, step), due, step)
            if not tracks_running_statistics(model):
                self.rows.add("spectrum.eval", "same_as_train", 1.0, step=step)
        if sharpness:
            self._sharpness(model, step)

    def _spectrum(self, model: nn.Module, spectrum: Spectrum, due: Due, step: int) -> Reading:
        nodes = num_nodes(spectrum, model, due.group)
        of = f" of {due.layer}" if due.layer else ""
        what = f"spectrum{of} at step {step}, {due.mode} mode"
        probe = SpectralDensity(
            num_matvecs=nodes,
            num_samples=spectrum.lanczos_starts,
            params=due.group,
            mode=due.mode,
            memory_limit=self.memory_limit,
            progress=lambda done: self.advance(what, done, nodes * spectrum.lanczos_starts),
        )
        return probe(self._subject(model), generator=self._generator(step))

    def _sharpness(self, model: nn.Module, step: int) -> None:
        counts = [0]

        def progress(done: int) -> None:
            counts.append(done)
            self.advance(f"sharpness at step {step}", done, None)

        probe = Sharpness(k=_EIGENVALUES, memory_limit=self.memory_limit, progress=progress)
        reading = probe(self._subject(model), generator=self._generator(step))
        _write_eigenvalues(self.rows, reading, step)
        self.rows.add("sharpness", "num_matvecs", counts[-1], step=step)

    def _subject(self, model: nn.Module) -> Subject:
        return Subject(model, F.cross_entropy, self.batch)

    def _generator(self, step: int) -> torch.Generator:
        return seeds.generator(self.trial.seed, "probe", step)


def curvature_batch(recipe: Recipe, dataset: Dataset, *, seed: int) -> tuple[Tensor, Tensor]:
    """The training examples whose loss the Hessian is of."""
    assert recipe.curvature_examples is not UNSET
    return next(shuffled_batches(dataset.train, recipe.curvature_examples, generator=seeds.generator(seed, "probe")))


def total_norm(model: nn.Module) -> float:
    """Euclidean norm of all parameters: a normalized layer's curvature goes with the inverse square of its weights."""
    squares = [parameter.detach().double().square().sum() for parameter in model.parameters()]
    return math.sqrt(torch.stack(squares).sum().item())


def _write_rules(rows: Rows, reading: Reading, due: Due, step: int) -> None:
    """Nodes, weights and residuals, numbered through the starts in the column depth."""
    numbered = reading.values.flatten(1).T.tolist()
    for depth, values in enumerate(numbered, start=1):
        for quantity, value in zip(reading.labels["quantity"], values, strict=True):
            rows.add(due.probe, quantity, value, step=step, layer=due.layer, depth=depth, unit=reading.unit)


def _write_eigenvalues(rows: Rows, reading: Reading, step: int) -> None:
    """The largest by rank, in the column depth, and what they come to.

    The ratio of the first to the last of them is NaN where one of the two has not converged, or the last is not
    positive.
    """
    values, residuals, converged = reading.values.tolist()
    for rank, (value, residual, good) in enumerate(zip(values[:-1], residuals, converged, strict=False), start=1):
        rows.add("sharpness", "eigenvalue", value, step=step, depth=rank, unit=reading.unit)
        rows.add("sharpness", "residual", residual, step=step, depth=rank, unit=reading.unit)
        rows.add("sharpness", "converged", good, step=step, depth=rank)
    *_, last, smallest = values
    known = converged[0] == converged[-2] == 1 and last > 0
    rows.add("sharpness", "lambda_max", values[0], step=step, unit=reading.unit)
    rows.add("sharpness", "lambda_min", smallest, step=step, unit=reading.unit)
    rows.add("sharpness", "lambda_min_residual", residuals[-1], step=step, unit=reading.unit)
    rows.add("sharpness", "lambda_min_converged", converged[-1], step=step)
    rows.add("sharpness", "lambda_abs_max", max(abs(values[0]), abs(smallest)), step=step, unit=reading.unit)
    rows.add("sharpness", "lambda_ratio", values[0] / last if known else math.nan, step=step)
