from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from normscope.study import Failed, Finished, InlineEngine, LocalEngine, Started, TrialsFailedError, load, local_engine
from normscope.study import trial as trials
from normscope.study.engine import Advanced
from normscope.study.plan import plan

from .conftest import TINY, run


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
    def fails_at_one_rate(scene, kept):
        training = scene.experiment.training
        if training is not None and training.optimizer.lr == 1.0 and scene.experiment.norm.name == "batchnorm":
            raise RuntimeError("out of\nluck")
        return execute(scene, kept)

    execute = trials.execute
    with monkeypatch.context() as patch:
        patch.setattr(trials, "execute", fails_at_one_rate)
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


def _children_once_there() -> set[int]:
    """Until it has executed, a child bears its parent's name."""
    deadline = time.monotonic() + 10
    while not _children() and time.monotonic() < deadline:
        time.sleep(0.05)
    return _children()


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
            (worker,) = _children_once_there()
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
    assert _children_once_there()
    running.close()
    deadline = time.monotonic() + 10
    while _children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _children()


def threads(of: str) -> tuple[str, int, int]:
    return of, torch.get_num_threads(), os.getpid()


def refuse(reason: str) -> None:
    raise ValueError(reason)


def die(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("engine", [InlineEngine(threads=2), LocalEngine(workers=1, threads_per_worker=2)])
def test_a_call_has_a_workers_threads_and_the_users_errors(engine):
    before = torch.get_num_threads()
    of, count, process = engine.call(threads, "x")
    assert (of, count) == ("x", 2)
    assert (process == os.getpid()) == isinstance(engine, InlineEngine)
    assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match=r"^too large$"):
        engine.call(refuse, "too large")


def test_a_call_whose_process_dies_says_how():
    with pytest.raises(OSError, match=r"first product was tried out, and its process was ended by SIGKILL; .* memory"):
        LocalEngine(workers=1).call(die, signal.SIGKILL)


def test_products_are_told_while_a_trial_runs_and_change_no_number(tmp_path):
    asked = dataclasses.replace(
        TINY, norms=("batchnorm",), lrs=(0.1,), probes=("spectrum",), curvature_examples=8, lanczos_steps=3
    ).resolve()
    events: list[object] = []
    folders = [
        run(asked, tmp_path / "local", engine=LocalEngine(workers=1), listen=events.append),
        run(asked, tmp_path / "inline"),
    ]
    told = [event for event in events if isinstance(event, Advanced)]
    assert [(event.what, event.done, event.total) for event in told[:3]] == [
        ("spectrum at step 0, train mode", done, 3) for done in (1, 2, 3)
    ]
    assert [type(event) for event in events if not isinstance(event, Advanced)][1:-1] == [Started, Finished]
    first, second = (load(folder)["value"] for folder in folders)
    assert first.equals(second)


def test_every_worker_is_told_its_share_of_the_memory(recipe, tmp_path, monkeypatch):
    told: list[tuple[object, ...]] = []

    def start(target, arguments, stack):
        told.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(local_engine, "_start", start)
    with pytest.raises(KeyboardInterrupt):
        next(LocalEngine(workers=4, threads_per_worker=3).run(tmp_path, plan(recipe)))
    assert told == [(tmp_path, 3, 0.25)]


def test_workers_share_the_memory(tmp_path, monkeypatch):
    from normscope.study import preparation

    monkeypatch.setattr(preparation, "available_bytes", lambda device: 1000.0)
    assert [preparation.memory_limit(share=share) for share in (1.0, 0.25)] == [800, 200]
    monkeypatch.setattr(preparation, "available_bytes", lambda device: float("inf"))
    assert preparation.memory_limit(share=1.0) is None
