"""The Hessian of a network in training: which spectra are due when, and their rows."""

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
from normscope.isolation import Mode
from normscope.probes import Reading, Sharpness, SpectralDensity, Subject
from normscope.study import seeds
from normscope.study.plan import Trial
from normscope.study.recipe import Recipe
from normscope.study.rows import Rows
from normscope.train import log_spaced

# What is under way, products done so far, and of how many where that is known beforehand.
Advance: TypeAlias = Callable[[str, int, int | None], None]

EIGENVALUES = 10  # K of lambda_1 / lambda_K: the number of classes of the paper's data set
_SHARPNESS_PER_DECADE = 3
_PAPERS_STEP = 50


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One spectrum that a step asks for."""

    mode: Mode
    group: str  # pattern on parameter names; "" for all parameters

    @property
    def probe(self) -> str:
        """What its rows are called."""
        return "spectrum" if self.mode == "train" else "spectrum.eval"


@final
@dataclass(frozen=True, kw_only=True)
class CurvatureProbes:
    """Measures the Hessian of the model of one training trial at the steps that the recipe names.

    The loss is the mean cross-entropy of one batch of training examples, the same at every step: no penalty, no weight
    decay, no augmentation, dropout off. Only the trials of seed 0 are measured, each at its own learning rate, and
    initialization, which no rate has touched, only at the first rate.
    """

    trial: Trial
    recipe: Recipe
    batch: tuple[Tensor, Tensor]
    rows: Rows
    memory_limit: int | None
    advance: Advance

    @classmethod
    def of(
        cls, trial: Trial, recipe: Recipe, dataset: Dataset, rows: Rows, *, memory_limit: int | None, advance: Advance
    ) -> CurvatureProbes | None:
        """The probes of the trial; None where the recipe asks for none of them here."""
        if recipe.curvature_examples is UNSET or not (spectrum_steps(trial, recipe) or sharpness_steps(trial, recipe)):
            return None
        batch = curvature_batch(recipe, dataset, seed=trial.seed)
        return cls(trial=trial, recipe=recipe, batch=batch, rows=rows, memory_limit=memory_limit, advance=advance)

    def observe(self, model: nn.Module, step: int) -> None:
        """Measure whatever is due at this step of training."""
        spectrum = step in spectrum_steps(self.trial, self.recipe)
        sharpness = step in sharpness_steps(self.trial, self.recipe)
        if spectrum or sharpness:
            self.rows.add("weights", "norm", total_norm(model), step=step)
        if spectrum:
            self._spectra(model, step)
        if sharpness:
            self._sharpness(model, step)

    def _spectra(self, model: nn.Module, step: int) -> None:
        assert self.recipe.spectrum is not UNSET
        for due in spectra(self.recipe, tracks=tracks_running_statistics(model)):
            reading = self._spectrum(model, due, step)
            for sample in range(reading.values.shape[1]):
                self._write_rule(reading, due, sample, step)
        if not tracks_running_statistics(model):
            self.rows.add("spectrum.eval", "same_as_train", 1.0, step=step)

    def _spectrum(self, model: nn.Module, due: Due, step: int) -> Reading:
        assert self.recipe.spectrum is not UNSET
        asked = self.recipe.spectrum
        nodes = min(asked.lanczos_steps, num_parameters(model, due.group))
        of = f" of {due.group}" if due.group else ""
        what = f"spectrum{of} at step {step}, {due.mode} mode"
        probe = SpectralDensity(
            num_matvecs=nodes,
            num_samples=asked.lanczos_starts,
            params=due.group or None,
            mode=due.mode,
            memory_limit=self.memory_limit,
            progress=lambda done: self.advance(what, done, nodes * asked.lanczos_starts),
        )
        return probe(self._subject(model), generator=seeds.generator(self.trial.seed, "probe", step))

    def _write_rule(self, reading: Reading, due: Due, sample: int, step: int) -> None:
        """Nodes are numbered through the starts, in the column depth."""
        count = reading.values.shape[2]
        for index in range(count):
            for quantity, value in zip(reading.labels["quantity"], reading.values[:, sample, index], strict=True):
                self.rows.add(
                    due.probe,
                    quantity,
                    value.item(),
                    step=step,
                    layer=due.group,
                    depth=sample * count + index + 1,
                    unit=reading.unit,
                )

    def _sharpness(self, model: nn.Module, step: int) -> None:
        products = 0

        def progress(done: int) -> None:
            nonlocal products
            products = done
            self.advance(f"sharpness at step {step}", done, None)

        probe = Sharpness(k=EIGENVALUES, memory_limit=self.memory_limit, progress=progress)
        reading = probe(self._subject(model), generator=seeds.generator(self.trial.seed, "probe", step))
        for quantity, values in zip(("eigenvalue", "residual", "converged"), reading.values, strict=True):
            for rank, value in enumerate(values[:EIGENVALUES].tolist(), start=1):
                self.rows.add("sharpness", quantity, value, step=step, depth=rank)
        for name, value in summary(reading).items():
            self.rows.add("sharpness", name, value, step=step)
        self.rows.add("sharpness", "products", products, step=step)

    def _subject(self, model: nn.Module) -> Subject:
        return Subject(model, F.cross_entropy, self.batch)


def summary(reading: Reading) -> dict[str, float]:
    """What a reading of `Sharpness` comes to.

    The ratio of the first eigenvalue to the last of the largest is NaN where one of the two has not converged, and
    where the last is not positive.
    """
    values, residuals, converged = reading.values.tolist()
    known = converged[0] == converged[-2] == 1 and values[-2] > 0
    return {
        "lambda_max": values[0],
        "lambda_min": values[-1],
        "lambda_min_residual": residuals[-1],
        "lambda_abs_max": max(abs(values[0]), abs(values[-1])),
        "lambda_ratio": values[0] / values[-2] if known else math.nan,
    }


def spectrum_steps(trial: Trial, recipe: Recipe) -> tuple[int, ...]:
    """The steps at which this trial measures spectra."""
    return () if recipe.spectrum is UNSET else _own(trial, recipe, recipe.spectrum.steps)


def sharpness_steps(trial: Trial, recipe: Recipe) -> tuple[int, ...]:
    """The steps at which this trial measures its largest eigenvalues: spaced evenly in the logarithm, and step 50."""
    if "sharpness" not in recipe.measured:
        return ()
    spread = {*log_spaced(recipe.steps, per_decade=_SHARPNESS_PER_DECADE), min(_PAPERS_STEP, recipe.steps)}
    return _own(trial, recipe, tuple(sorted(spread)))


def _own(trial: Trial, recipe: Recipe, steps: tuple[int, ...]) -> tuple[int, ...]:
    if trial.kind != "train" or trial.seed != 0:
        return ()
    return steps if trial.lr == recipe.lrs[0] else tuple(step for step in steps if step > 0)


def spectra(recipe: Recipe, *, tracks: bool) -> list[Due]:
    """The spectra of one step: of all parameters in train mode, in eval mode too where that is another function (the
    model `tracks` running statistics), and of each group in train mode.
    """
    if recipe.spectrum is UNSET:
        return []
    modes: tuple[Mode, ...] = ("train", "eval") if tracks else ("train",)
    return [Due(mode=mode, group="") for mode in modes] + [
        Due(mode="train", group=group) for group in recipe.spectrum.groups
    ]


def curvature_batch(recipe: Recipe, dataset: Dataset, *, seed: int) -> tuple[Tensor, Tensor]:
    """The training examples whose loss the Hessian is of."""
    assert recipe.curvature_examples is not UNSET
    generator = seeds.generator(seed, "probe")
    return next(shuffled_batches(dataset.train, recipe.curvature_examples, generator=generator))


def tracks_running_statistics(model: nn.Module) -> bool:
    """Whether eval mode normalizes by something else than train mode."""
    return any(name.endswith(("running_mean", "running_var")) for name, _ in model.named_buffers())


def num_parameters(model: nn.Module, group: str) -> int:
    """How many numbers the parameters hold whose names match the pattern; all of them for ""."""
    from fnmatch import fnmatchcase

    return sum(p.numel() for name, p in model.named_parameters() if fnmatchcase(name, group or "*"))


def total_norm(model: nn.Module) -> float:
    """Euclidean norm of all parameters: a normalized layer's curvature goes with the inverse square of its weights."""
    squares = [parameter.detach().double().square().sum() for parameter in model.parameters()]
    return math.sqrt(torch.stack(squares).sum().item())
