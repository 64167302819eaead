"""Many kills at random moments: of the driver, of a worker, of both. No trial lost, none twice, the same numbers."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
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
KILLS = 30


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
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(whole).wait(timeout=300) == 0
    draw = random.Random(0)
    done = 0
    for number in range(KILLS):
        process = start(broken)
        time.sleep(draw.uniform(0.5, 6.0))
        kill(process, ("driver", "worker", "both")[number % 3], draw)
        if number % 3 == 1:  # the driver lives on, reports the failed trial, and finishes the others
            process.wait(timeout=300)
        process.wait(timeout=60)
        finished = len(list(broken.glob("compare-*/trials/*/COMPLETED")))
        assert finished >= done, "a finished trial was lost"
        done = finished
    for _ in range(2):
        assert start(broken).wait(timeout=300) == 0
    pd.testing.assert_frame_equal(ns.load(broken), ns.load(whole), check_exact=True)
