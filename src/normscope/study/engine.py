"""Where trials run. An engine takes trials of a run folder and tells what becomes of them; the folder is the truth."""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from normscope import files
from normscope.study import folder as folders
from normscope.study import records
from normscope.study.plan import Trial, plan

if TYPE_CHECKING:
    from normscope.data import Dataset


@dataclass(frozen=True, slots=True)
class Started:
    """A trial was begun."""

    trial: Trial


@dataclass(frozen=True, slots=True)
class Finished:
    """A trial lies finished in its folder."""

    trial: Trial
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A trial ended without a result; `fatal` where every other trial would meet the same (a full disk)."""

    trial: Trial
    reason: str
    fatal: bool


TrialEvent: TypeAlias = Started | Finished | Failed


class Engine(Protocol):
    """Runs trials of a run folder, in whatever order and place; the trials' folders hold their results."""

    def describe(self) -> dict[str, Any]:
        """What provenance says of the engine: its name, workers, threads per worker."""
        ...

    def run(self, folder: Path, trials: Sequence[Trial]) -> Generator[TrialEvent]:
        """Begin the trials in order and yield what happens; closing the generator stops them."""
        ...


@dataclass(frozen=True, kw_only=True)
class InlineEngine:
    """Runs one trial after the other in this process: for notebooks, debuggers and tests."""

    threads: int = 1

    def describe(self) -> dict[str, Any]:
        """See `Engine`."""
        return {"engine": "inline", "workers": 1, "threads_per_worker": self.threads}

    def run(self, folder: Path, trials: Sequence[Trial]) -> Generator[TrialEvent]:
        """See `Engine`."""
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            session = Session(folder)
            for trial in trials:
                yield Started(trial)
                yield session.attempt(trial.id)
        finally:
            torch.set_num_threads(before)


class Session:
    """Runs trials of one run folder in this process; the recipe and the data are read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._recipe = records.resolved(folder)
        self._trials = {trial.id: trial for trial in plan(self._recipe)}

    @functools.cached_property
    def _dataset(self) -> Dataset:
        from normscope.study.preparation import load_on_device

        return load_on_device(self._recipe)

    def attempt(self, trial_id: str) -> Finished | Failed:
        """Run a trial from its beginning; an exception fails it and leaves its traceback in its folder."""
        from normscope.study.trial import run

        trial = self._trials[trial_id]
        try:
            seconds = run(self._folder, trial, self._recipe, self._dataset)
        except Exception as error:
            place = self._folder / folders.TRIALS / trial.id
            with contextlib.suppress(OSError):
                place.mkdir(parents=True, exist_ok=True)
                files.write(place / folders.ERROR, traceback.format_exc().encode())
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return Failed(trial, reason, fatal=isinstance(error, OSError))
        return Finished(trial, seconds)
