"""Which measurements of the Hessian a training trial owes, at which steps, and of how many products."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import final

from msgspec import UNSET
from torch import nn

from normscope.isolation import Mode
from normscope.study.plan import Trial
from normscope.study.probing import PAPERS_STEP, Spectrum
from normscope.study.recipe import Recipe
from normscope.train import log_spaced

_SHARPNESS_PER_DECADE = 3


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """One spectrum that a step asks for: by the parameters whose names match `group` ("*" for all of them)."""

    mode: Mode
    group: str

    @property
    def probe(self) -> str:
        """What its rows are called."""
        return "spectrum" if self.mode == "train" else "spectrum.eval"

    @property
    def layer(self) -> str:
        """What its rows say of the place: the group, or nothing for the whole network."""
        return "" if self.group == "*" else self.group


def spectrum_steps(trial: Trial, recipe: Recipe) -> tuple[int, ...]:
    """The steps at which this trial measures spectra."""
    return () if recipe.spectrum is UNSET else _own(trial, recipe, recipe.spectrum.steps)


def sharpness_steps(trial: Trial, recipe: Recipe) -> tuple[int, ...]:
    """The steps at which this trial measures its largest eigenvalues: spaced evenly in the logarithm, and step 50."""
    if "sharpness" not in recipe.measured:
        return ()
    spread = {*log_spaced(recipe.steps, per_decade=_SHARPNESS_PER_DECADE), min(PAPERS_STEP, recipe.steps)}
    return _own(trial, recipe, tuple(sorted(spread)))


def _own(trial: Trial, recipe: Recipe, steps: tuple[int, ...]) -> tuple[int, ...]:
    """Those steps where the trial trains from seed 0; of all rates the first alone measures what none has touched."""
    if trial.kind != "train" or trial.seed != 0:
        return ()
    return steps if trial.lr == recipe.lrs[0] else tuple(step for step in steps if step > 0)


def spectra(spectrum: Spectrum, model: nn.Module) -> list[Due]:
    """The spectra of one step: of all parameters in the modes asked for, once where both are the same function, and of
    each group in train mode.
    """
    modes = spectrum.modes if tracks_running_statistics(model) else ("train",)
    whole = [Due(mode=mode, group="*") for mode in modes]
    return whole + [Due(mode="train", group=group) for group in spectrum.groups]


def num_nodes(spectrum: Spectrum, model: nn.Module, group: str) -> int:
    """Products from each start: as many as asked for, or as the group has dimensions."""
    chosen = (p.numel() for name, p in model.named_parameters() if fnmatch.fnmatchcase(name, group))
    return min(spectrum.lanczos_steps, sum(chosen))


def tracks_running_statistics(model: nn.Module) -> bool:
    """Whether eval mode normalizes by something else than train mode."""
    return any(name.endswith(("running_mean", "running_var")) for name, _ in model.named_buffers())
