"""Progress of a comparison: what runs, what is left, when it will end, and each normalizer's results as they come."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from normscope.console import tables
from normscope.study.compare import Advanced, Event, Failed, Finished, Planned, Reporting, Started
from normscope.study.plan import Trial, cost
from normscope.study.recipe import Recipe
from normscope.study.records import load_trials

_SECONDS_BETWEEN_LINES = 10.0


@dataclass
class Tally:
    """Counts what a comparison has done, and estimates how long the rest will take.

    A trial not yet run is taken to last as long as the mean of its kind did, in this session or an earlier one; before
    one of its kind has ended, its rough cost is scaled by those of the other kind.
    """

    plan: Planned
    workers: int
    clock: Callable[[], float] = time.monotonic
    seconds: dict[str, float] = field(init=False)  # of finished trials, by id
    failed: set[str] = field(default_factory=set)
    running: dict[str, float] = field(default_factory=dict)  # id -> when it started
    doing: dict[str, str] = field(default_factory=dict)  # id -> how far its latest measurement is
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.seconds = dict(self.plan.finished)
        self.began = self.clock()

    def take(self, event: Started | Advanced | Finished | Failed) -> None:
        """Count the event."""
        if isinstance(event, Started):
            self.running[event.trial.id] = self.clock()
            return
        if isinstance(event, Advanced):
            of = "" if event.total is None else f" of {event.total}"
            self.doing[event.trial.id] = f"{event.what}: {event.done}{of} products"
            return
        self.running.pop(event.trial.id, None)
        self.doing.pop(event.trial.id, None)
        if isinstance(event, Finished):
            self.seconds[event.trial.id] = event.seconds
        else:
            self.failed.add(event.trial.id)

    @property
    def total(self) -> int:
        """Number of trials in the plan."""
        return len(self.plan.trials)

    @property
    def done(self) -> int:
        """Number of trials that ended."""
        return len(self.seconds) + len(self.failed)

    def elapsed(self) -> float:
        """Seconds of this session."""
        return self.clock() - self.began

    def left(self) -> float | None:
        """Estimated seconds to the end; None before a trial, or at least a product with the Hessian, was timed."""
        known: dict[str, list[Trial]] = {}
        for trial in self.plan.trials:
            if trial.id in self.seconds:
                known.setdefault(trial.kind, []).append(trial)
        if not known:
            waiting = [trial.id for trial in self.plan.trials if trial.id not in self.failed]
            return None if self.plan.cost is None else self.plan.cost.total(waiting, workers=self.workers)
        rate = {kind: self._rate(trials) for kind, trials in known.items()}
        mean_rate = sum(rate.values()) / len(rate)
        now = self.clock()
        remaining = [
            max(
                rate.get(trial.kind, mean_rate) * self._cost(trial) - (now - self.running.get(trial.id, now)),
                0.0,
            )
            for trial in self.plan.trials
            if trial.id not in self.seconds and trial.id not in self.failed
        ]
        return max(sum(remaining) / self.workers, max(remaining, default=0.0))

    def _rate(self, trials: list[Trial]) -> float:
        """Seconds per unit of cost."""
        spent = sum(self.seconds[trial.id] for trial in trials)
        return spent / sum(self._cost(trial) for trial in trials)

    def _cost(self, trial: Trial) -> float:
        products = 0 if self.plan.cost is None else self.plan.cost.products.get(trial.id, 0)
        return cost(trial, self.plan.recipe, products=products)

    def describe_running(self) -> str:
        """What runs now: the first of the running trials, and how many more."""
        running = [trial for trial in self.plan.trials if trial.id in self.running]
        names = [f"{trial}{f', {doing}' if (doing := self.doing.get(trial.id)) else ''}" for trial in running]
        if not names:
            return "starting"
        return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"

    def describe_left(self) -> str:
        """Time left, in words."""
        left = self.left()
        return "time left unknown" if left is None else f"about {clock_time(left)} left"


def clock_time(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    return str(timedelta(seconds=math.ceil(seconds)))


@contextlib.contextmanager
def progress(*, workers: int) -> Iterator[Callable[[Event], None]]:
    """Give the listener that shows events: with a moving bar on a terminal, in plain lines elsewhere."""
    if not sys.stdout.isatty():
        yield _Display(_Lines(), workers)
        return
    console = Console()
    with _Bar(console) as bar:
        yield _Display(bar, workers)


class _Display:
    """Listens: keeps the tally, prints a comparison's line when a normalizer's last trial ended, lets the view show."""

    def __init__(self, view: _Lines | _Bar, workers: int) -> None:
        self._view = view
        self._workers = workers
        self._tally: Tally | None = None
        self._open: Counter[str] = Counter()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Planned):
            self._begin(event)
            return
        assert self._tally is not None
        if isinstance(event, Reporting):
            self._view.say("writing the report")
            return
        self._tally.take(event)
        if isinstance(event, Failed):
            self._view.print(f"{event.trial} failed: {event.reason}")
        if isinstance(event, Finished):
            self._close(event.trial.norm.label)
        self._view.show(self._tally)

    def _begin(self, plan: Planned) -> None:
        self._tally = Tally(plan, self._workers)
        if plan.cost is not None:
            left = [trial.id for trial in plan.trials if trial.id not in plan.finished]
            self._view.print(plan.cost.describe(left, workers=self._workers))
        kept = f", {len(plan.finished)} of them finished before" if plan.finished else ""
        self._view.print(f"{plan.folder}: {len(plan.trials)} trials{kept}")
        if isinstance(plan.recipe, Recipe):
            self._view.print(tables.results_header())
        self._open = Counter(trial.norm.label for trial in plan.trials)
        for trial in plan.trials:
            if trial.id in plan.finished:
                self._close(trial.norm.label)
        self._view.show(self._tally)

    def _close(self, label: str) -> None:
        self._open[label] -= 1
        assert self._tally is not None
        plan = self._tally.plan
        if self._open[label] == 0 and isinstance(plan.recipe, Recipe):
            frame = load_trials(plan.folder, [trial for trial in plan.trials if trial.norm.label == label])
            self._view.print(tables.results_lines(frame, plan.recipe, [label])[0])


class _Lines:
    """Plain lines for logs and pipes."""

    def __init__(self) -> None:
        self._last = -math.inf

    def print(self, line: str) -> None:
        print(line, flush=True)

    def say(self, what: str) -> None:
        print(what, flush=True)

    def show(self, tally: Tally) -> None:
        now = tally.clock()
        if now - self._last >= _SECONDS_BETWEEN_LINES and tally.running:
            self._last = now
            times = f"{clock_time(tally.elapsed())} elapsed, {tally.describe_left()}"
            print(f"  {tally.done}/{tally.total} trials, {times}; {tally.describe_running()}", flush=True)


class _Bar:
    """A bar that stays below the lines."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            _Times(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("reading the data and trying out the models", total=None)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def print(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def say(self, what: str) -> None:
        self._progress.update(self._task, description=what)

    def show(self, tally: Tally) -> None:
        self._progress.update(
            self._task,
            description=tally.describe_running(),
            total=tally.total,
            completed=tally.done,
            tally=tally,
        )


class _Times(ProgressColumn):
    """Elapsed and left, anew at every refresh."""

    def render(self, task: Task) -> Text:
        tally = task.fields.get("tally")
        return Text("" if tally is None else f"{clock_time(tally.elapsed())} elapsed, {tally.describe_left()}")
