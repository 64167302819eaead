"""Many kills at random moments: of the driver, of a worker, of both. No trial lost, none twice, the same numbers."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import normscope as ns

pytestmark = pytest.mark.long

OPTIONS = [
    *("--scale", "smoke", "--model", "mlp", "--depth", "3", "--width", "8", "--norms", "batchnorm,regnorm,bmlv"),
    *(
        "--lrs",
        "0.01,0.1",
        "--seeds",
        "3",
        "--steps",
        "20",
        "--batch-size",
        "8",
        "--max-train",
        "96",
        "--max-eval",
        "32",
    ),
]
KILLS = 30  # of a process at work; one that had already ended does not count


def start(out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "normscope", "compare", *OPTIONS, "--out", str(out), "--workers", "2"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def workers_of(driver: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == driver:
            found.append(int(entry.parent.name))
    return found


def kill(process: subprocess.Popen[bytes], victim: str, draw: random.Random) -> None:
    workers = workers_of(process.pid)
    victims = {"driver": [process.pid], "worker": workers[-1:], "both": [process.pid, *workers]}[victim]
    for pid in draw.sample(victims, len(victims)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_thirty_kills_at_random_moments_lose_nothing(tmp_path):
    whole = tmp_path / "whole"
    assert start(whole).wait(timeout=300) == 0
    expected = ns.load(whole)
    draw, kills, victims = random.Random(0), 0, itertools.cycle(["driver", "worker", "both"])
    for number in itertools.count():
        out = tmp_path / f"broken{number}"
        kills = _kill_until_finished(out, kills, draw, victims)
        pd.testing.assert_frame_equal(ns.load(out), expected, check_exact=True)
        if kills >= KILLS:
            return


def _kill_until_finished(out: Path, kills: int, draw: random.Random, victims: Iterator[str]) -> int:
    """Start the comparison and kill it, again and again, until it ends by itself; return the kills so far."""
    done = 0
    while True:
        process = start(out)
        if kills < KILLS:
            time.sleep(draw.uniform(1.0, 8.0))
            if process.poll() is None:
                kill(process, next(victims), draw)
                kills += 1
        # A driver that lives on without a worker reports its failed trial and finishes the others.
        code = process.wait(timeout=300)
        finished = len(list(out.glob("compare-*/trials/*/COMPLETED")))
        assert finished >= done, "a finished trial was lost"
        done = finished
        if code == 0:
            return kills
