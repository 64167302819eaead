from __future__ import annotations

from pathlib import Path

import pytest

from normscope.console.progress import Tally, clock_time, progress
from normscope.study import Failed, Finished, Options, Planned, Started
from normscope.study.cost import Cost
from normscope.study.engine import Advanced
from normscope.study.plan import Trial, plan

RECIPE = Options(norms=("none", "batchnorm"), lrs=(0.1,), seeds=2).resolve()
TRIALS = plan(RECIPE)  # per normalizer two of kind init, then two of kind train


SPECTRA = Options(norms=("none", "batchnorm"), lrs=(0.1,), seeds=2, probes=("gradient_norm", "spectrum")).resolve()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def tally(clock: Clock, *, workers: int = 1, finished: dict[str, float] | None = None) -> Tally:
    return Tally(Planned(Path("run"), RECIPE, TRIALS, finished or {}), workers, clock)


def finish(tally: Tally, trial: Trial, seconds: float) -> None:
    tally.take(Started(trial))
    tally.take(Finished(trial, seconds))


def test_nothing_is_known_before_a_trial_was_timed(clock):
    fresh = tally(clock)
    assert fresh.left() is None
    assert fresh.describe_left() == "time left unknown"
    assert (fresh.done, fresh.total, fresh.describe_running()) == (0, 8, "starting")


def test_the_time_left_is_that_of_the_trials_left_by_kind(clock):
    half = tally(clock)
    finish(half, TRIALS[0], 1.0)
    finish(half, TRIALS[1], 3.0)
    finish(half, TRIALS[2], 10.0)
    finish(half, TRIALS[3], 20.0)
    assert half.left() == pytest.approx(2 * 2.0 + 2 * 15.0)
    assert tally(clock, finished=half.seconds, workers=2).left() == pytest.approx(17.0)


def test_a_running_trial_counts_for_what_is_left_of_it(clock):
    almost = tally(clock, finished={trial.id: 4.0 for trial in TRIALS[:-1]})
    almost.take(Started(TRIALS[-1]))
    clock.now += 3.0
    assert almost.left() == pytest.approx(1.0)
    clock.now += 30.0
    assert almost.left() == 0.0
    assert almost.elapsed() == 33.0


def test_workers_do_not_divide_the_last_trial(clock):
    assert tally(clock, finished={trial.id: 4.0 for trial in TRIALS[:-1]}, workers=8).left() == pytest.approx(4.0)


def test_a_failed_trial_is_over(clock):
    broken = tally(clock)
    broken.take(Started(TRIALS[0]))
    broken.take(Failed(TRIALS[0], "reason", fatal=False))
    assert broken.done == 1
    assert broken.describe_running() == "starting"


def test_what_runs_is_named(clock):
    busy = tally(clock)
    busy.take(Started(TRIALS[0]))
    assert busy.describe_running() == "none at initialization seed 0"
    busy.take(Started(TRIALS[2]))
    assert busy.describe_running() == "none at initialization seed 0 and 1 more"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00:00"), (0.2, "0:00:01"), (3725, "1:02:05")])
def test_times_are_read_as_clock_times(seconds, text):
    assert clock_time(seconds) == text


def test_products_of_the_hessian_are_told_while_they_run(clock):
    busy = tally(clock)
    busy.take(Started(TRIALS[2]))
    busy.take(Advanced(TRIALS[2], "spectrum at step 50, train mode", 37, 160))
    assert busy.describe_running() == "none lr 0.1 seed 0, spectrum at step 50, train mode: 37 of 160 products"
    busy.take(Advanced(TRIALS[2], "sharpness at step 50", 3, None))
    assert busy.describe_running() == "none lr 0.1 seed 0, sharpness at step 50: 3 products"
    assert (busy.done, busy.left()) == (0, None)
    busy.take(Finished(TRIALS[2], 1.0))
    busy.take(Started(TRIALS[2]))
    assert busy.describe_running() == "none lr 0.1 seed 0"


def test_before_a_trial_was_timed_the_time_left_is_that_of_the_products(clock):
    cost = Cost(2.0, {TRIALS[2].id: 30, TRIALS[6].id: 10})
    told = Tally(Planned(Path("run"), SPECTRA, TRIALS, {}, cost), 1, clock)
    assert told.left() == 80.0
    told.take(Failed(TRIALS[6], "reason", fatal=False))
    assert told.left() == 60.0


def test_a_trial_with_products_counts_for_more_than_one_without(clock):
    cost = Cost(2.0, {TRIALS[2].id: 30, TRIALS[6].id: 30})
    seconds = {trial.id: 4.0 for trial in TRIALS} | {TRIALS[2].id: 50.0}

    def left(last: Trial) -> float | None:
        finished = {name: value for name, value in seconds.items() if name != last.id}
        return Tally(Planned(Path("run"), SPECTRA, TRIALS, finished, cost), 1, clock).left()

    assert left(TRIALS[6]) > 3 * left(TRIALS[7])


def test_the_cost_is_told_before_anything_starts(capsys):
    with progress(workers=2) as listen:
        listen(
            Planned(Path("run"), SPECTRA, TRIALS, {TRIALS[6].id: 1.0}, Cost(2.4, {TRIALS[2].id: 160, TRIALS[6].id: 9}))
        )
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == "spectra: 1 trials x 160 products of about 2.4 s: about 6 min"
