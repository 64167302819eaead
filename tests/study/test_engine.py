from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from normscope.study import Failed, Finished, LocalEngine, Started, TrialsFailedError
from normscope.study import trial as trials
from normscope.study.plan import plan

from .conftest import run


def test_events_come_in_pairs_in_the_order_of_the_plan(recipe, tmp_path):
    events = []
    run(recipe, tmp_path, listen=events.append)
    middle = events[1:-1]
    assert [type(event) for event in middle] == [Started, Finished] * len(plan(recipe))
    assert [event.trial for event in middle[::2]] == list(plan(recipe))


def test_the_inline_engine_leaves_the_number_of_threads(recipe, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        run(recipe, tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_trial_that_raises_does_not_lose_the_others(recipe, tmp_path, monkeypatch, same_numbers):
    def fails_at_one_rate(trial, *rest):
        if trial.lr == 1.0 and trial.norm.name == "batchnorm":
            raise RuntimeError("out of\nluck")
        return train(trial, *rest)

    train = trials.train
    with monkeypatch.context() as patch:
        patch.setattr(trials, "train", fails_at_one_rate)
        with pytest.raises(
            TrialsFailedError, match=r"1 of 6 trials failed, first batchnorm lr 1 seed 0: .*out of luck"
        ):
            run(recipe, tmp_path)
    folder = tmp_path / recipe.folder_name
    assert len(list(folder.glob("trials/*/COMPLETED"))) == 5
    assert "out of\nluck" in next(folder.glob("trials/*/error.txt")).read_text()
    assert not (folder / "COMPLETED").exists()
    run(recipe, tmp_path)
    same_numbers(folder)
    assert not list(folder.glob("trials/*/error.txt"))


@pytest.mark.parametrize("workers", [1, 3])
def test_the_numbers_do_not_depend_on_the_number_of_workers(recipe, tmp_path, same_numbers, workers):
    events = []
    same_numbers(run(recipe, tmp_path, engine=LocalEngine(workers=workers), listen=events.append))
    assert {event.trial.id for event in events if isinstance(event, Finished)} == {trial.id for trial in plan(recipe)}


def _children() -> set[int]:
    mine = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
            command = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and "multiprocessing.spawn" in command:
            mine.add(int(stat.parent.name))
    return mine


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds its worker processes in /proc")
def test_a_worker_that_is_killed_names_its_trial_and_is_replaced(recipe, tmp_path, same_numbers):
    events = []

    def kill_the_first(event):
        events.append(event)
        if isinstance(event, Started) and len(events) == 2:
            (worker,) = _children()
            os.kill(worker, signal.SIGKILL)

    with pytest.raises(TrialsFailedError, match=r"1 of 6 trials failed, first .* ended by SIGKILL.*out of memory"):
        run(recipe, tmp_path, engine=LocalEngine(workers=1), listen=kill_the_first)
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert failed.trial == plan(recipe)[0]
    assert len(list((tmp_path / recipe.folder_name).glob("trials/*/COMPLETED"))) == 5
    same_numbers(run(recipe, tmp_path))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds its worker processes in /proc")
def test_closing_an_engine_ends_its_workers(recipe, unbroken, tmp_path):
    folder = tmp_path / unbroken.name
    folder.mkdir()
    (folder / "recipe.json").write_bytes((unbroken / "recipe.json").read_bytes())
    running = LocalEngine(workers=2).run(folder, plan(recipe))
    next(running)
    assert _children()
    running.close()
    deadline = time.monotonic() + 10
    while _children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _children()
