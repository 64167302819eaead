"""Where trials run. An engine takes trials of a run folder and tells what becomes of them; the folder is the truth."""

from __future__ import annotations

import contextlib
import functools
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from normscope import files
from normscope.study import folder as folders
from normscope.study import records
from normscope.study.experiment import Data
from normscope.study.plan import Trial

if TYPE_CHECKING:
    from normscope.data import Dataset


T = TypeVar("T")


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


@dataclass(frozen=True, slots=True)
class Advanced:
    """So many products of the Hessian are done of what the trial measures now; `total` is None where unknown."""

    trial: Trial
    what: str
    done: int
    total: int | None


TrialEvent: TypeAlias = Started | Advanced | Finished | Failed


class Engine(Protocol):
    """Runs trials of a run folder, in whatever order and place; the trials' folders hold their results."""

    def describe(self) -> dict[str, Any]:
        """What provenance says of the engine: its name, workers, threads per worker."""
        ...

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """What the function returns or raises, computed with a worker's threads and leaving none of its memory taken,
        where workers are processes. Function, arguments and result can be pickled.
        """
        ...

    def run(self, folder: Path, trials: Sequence[Trial]) -> Generator[TrialEvent]:
        """Begin the trials in order and yield what happens; closing the generator stops them."""
        ...


@dataclass(frozen=True, kw_only=True)
class InlineEngine:
    """Runs one trial after the other in this process: for notebooks, debuggers and tests.

    What a trial has done is told when it ends, and nothing on the way.
    """

    threads: int = 1

    def describe(self) -> dict[str, Any]:
        """See `Engine`."""
        return {"engine": "inline", "workers": 1, "threads_per_worker": self.threads}

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """See `Engine`."""
        with self._threads():
            return function(*arguments)

    def run(self, folder: Path, trials: Sequence[Trial]) -> Generator[TrialEvent]:
        """See `Engine`."""
        with self._threads():
            session = Session(folder, share=1.0)
            for trial in trials:
                yield Started(trial)
                yield session.attempt(trial.id)

    @contextlib.contextmanager
    def _threads(self) -> Iterator[None]:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


class Session:
    """Runs trials of one run folder in this process, with its share of the memory; recipe and data are read once."""

    def __init__(self, folder: Path, *, share: float) -> None:
        self._folder = folder
        self._recipe = records.resolved(folder)
        # Looked at before any product is prepared: what this session takes later is not to shrink its own share.
        self._memory_limit = _memory_limit(share) if self._recipe.measures_curvature else None
        self._trials: dict[str, Trial] = {}
        self._dataset = functools.lru_cache(maxsize=1)(_load)  # one at a time: data sets are large

    def _trial(self, trial_id: str) -> Trial:
        """The trial of that id, also one of a later stage that was planned after this session began."""
        if trial_id not in self._trials:
            self._trials = {trial.id: trial for trial in records.trials(self._folder, self._recipe)}
        return self._trials[trial_id]

    def attempt(self, trial_id: str, listen: Callable[[Advanced], None] = lambda _event: None) -> Finished | Failed:
        """Run a trial from its beginning; an exception fails it and leaves its traceback in its folder."""
        from normscope.study.trial import run, spelled_out

        trial = self._trial(trial_id)
        try:
            seconds = run(
                self._folder,
                trial,
                self._recipe,
                self._dataset(spelled_out(trial, self._recipe).data),
                memory_limit=self._memory_limit,
                advance=lambda what, done, total: listen(Advanced(trial, what, done, total)),
            )
        except Exception as error:
            place = self._folder / folders.TRIALS / trial.id
            with contextlib.suppress(OSError):
                place.mkdir(parents=True, exist_ok=True)
                files.write(place / folders.ERROR, traceback.format_exc().encode())
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return Failed(trial, reason, fatal=isinstance(error, OSError))
        return Finished(trial, seconds)


def _load(data: Data) -> Dataset:
    from normscope.study.preparation import load_on_device

    return load_on_device(data)


def _memory_limit(share: float) -> int | None:
    from normscope.study.preparation import memory_limit

    return memory_limit(share=share)
