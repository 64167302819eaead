"""The main job as a process: killed at any moment, started again, it gives the same numbers bit for bit."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from normscope.study import load

from .conftest import TINY, run

COMMAND = [
    *("compare", "--scale", TINY.scale, "--model", TINY.model, "--depth", TINY.depth, "--width", TINY.width),
    *("--norms", ",".join(TINY.norms), "--lrs", ",".join(map(str, TINY.lrs)), "--seeds", TINY.seeds),
    *("--steps", TINY.steps, "--batch-size", TINY.batch_size),
    *("--max-train", TINY.max_train, "--max-eval", TINY.max_eval),
]


def start(out: Path, workers: int, *more: object) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "normscope", *map(str, (*COMMAND, *more))]
    arguments += ["--out", str(out), "--workers", str(workers)]
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finished(folder: Path) -> int:
    return len(list(folder.glob("trials/*/COMPLETED")))


def wait_until(process: subprocess.Popen[str], condition) -> None:
    deadline = time.monotonic() + 120
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("workers", "seed"), [pytest.param(2, 1, marks=pytest.mark.long), (0, 2)])
def test_a_run_killed_again_and_again_gives_the_unbroken_runs_numbers(tmp_path, recipe, same_numbers, workers, seed):
    folder = tmp_path / recipe.folder_name
    moments = random.Random(seed)
    for goal in (0, 2):
        process = start(tmp_path, workers)
        wait_until(process, lambda goal=goal: (folder / "recipe.json").exists() and finished(folder) >= goal)
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        process.communicate()
    assert not (folder / "COMPLETED").exists()

    process = start(tmp_path, workers)
    output, errors = process.communicate(timeout=240)
    assert (process.returncode, errors) == (0, "")
    assert "6 trials, " in output
    assert (folder / "report.html").exists()
    same_numbers(folder)


@pytest.mark.long
def test_a_run_killed_in_the_middle_of_a_spectrum_gives_the_unbroken_runs_numbers(tmp_path):
    asked = dataclasses.replace(
        TINY, probes=("spectrum", "sharpness"), curvature_examples=8, lanczos_steps=6, lanczos_starts=2
    ).resolve()
    more = ("--probes", "sharpness,spectrum", "--curvature-examples", 8, "--lanczos-steps", 6, "--lanczos-starts", 2)
    folder = tmp_path / asked.folder_name

    def measuring() -> bool:
        return any('"spectrum"' in live.read_text() for live in folder.glob("trials/*/rows.jsonl"))

    process = start(tmp_path, 2, *more)
    wait_until(process, measuring)
    process.kill()
    process.communicate()
    assert folder.exists()
    assert not (folder / "COMPLETED").exists()

    process = start(tmp_path, 2, *more)
    output, errors = process.communicate(timeout=240)
    assert (process.returncode, errors) == (0, "")
    assert output.startswith("spectra: ")
    unbroken = load(run(asked, tmp_path / "unbroken"))
    pd.testing.assert_frame_equal(load(folder), unbroken, check_exact=True)


def test_control_c_ends_in_one_line_and_leaves_no_process(tmp_path):
    process = start(tmp_path, 2, "--steps", 100_000)  # more than are done before the signal, however late it comes
    wait_until(process, lambda: any(tmp_path.glob("*/recipe.json")))
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to every process of the group
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "normscope: interrupted; finished trials are kept, and the same command resumes.\n"
    deadline = time.monotonic() + 20
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(process.pid)


IMPORT_THAT_SPOILS_THE_EXIT = """
import os, signal
from normscope.study import local_engine
signal.signal(signal.SIGTERM, local_engine._leave)
try:
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pause()
except SystemExit:
    raise ImportError("cannot load module more than once per process")
"""


def test_a_worker_told_to_leave_in_the_middle_of_an_import_says_nothing():
    process = subprocess.run([sys.executable, "-c", IMPORT_THAT_SPOILS_THE_EXIT], capture_output=True, timeout=60)
    assert process.returncode != 0
    assert process.stderr == b""
