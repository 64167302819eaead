"""The cells of the benchmark: one measurement of one tool on one problem each, written when done, so a run resumes."""

from __future__ import annotations

import fnmatch
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.curvature.problems import LARGE, OUTLIERS, SMALL
from benchmarks.curvature.tools import TOOLS
from normscope.files import write

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 900.0
# Of a single product and of everything that builds on one; the small networks on which the algorithms are compared.
ON_ALGORITHMS = ("plain", "batchnorm2d", "layernorm")
# Minutes that would show nothing new: without batch norm PyHessian's second way differs by its product alone, which is
# timed, and on the large networks its first way is a density of another matrix; of their two batches the larger one
# shows what a density takes. torch.func.linearize and BackPACK are products alone.
LEFT_OUT = (
    "curves/*/backpack",
    "curves/*/pyhessian_train",
    "density/mlp/pyhessian_train",
    "top/mlp/pyhessian_train",
    "density/wrn*/pyhessian",
    "density/wrn*/backpack",
    "density/wrn128/*",
    "algorithms/*/linearize",
    "curves/*/linearize",
    "density/*/linearize",
    "top/*/linearize",
)


@dataclass(frozen=True)
class Cell:
    task: str
    problem: str
    tool: str

    @property
    def name(self) -> str:
        return f"{self.task}/{self.problem}/{self.tool}"

    def path(self, folder: Path) -> Path:
        return folder / "cells" / f"{self.name.replace('/', '.')}.json"


def every() -> Iterator[Cell]:
    """In the order of a run: cheap and telling first; tools next to each other, so that drift falls on all alike."""
    large = [problem.name for problem in LARGE]
    plan = [
        ("product", [problem.name for problem in SMALL], list(TOOLS)),
        ("algorithms", list(ON_ALGORITHMS), list(TOOLS)),
        ("curves", [OUTLIERS.name], list(TOOLS)),
        ("timing", large[::-1], list(TOOLS)),
        ("density", large[::-1], list(TOOLS)),
        ("top", ["mlp"], list(TOOLS)),
    ]
    for task, problems, tools in plan:
        found = (Cell(task, problem, tool) for problem in problems for tool in tools)
        yield from (cell for cell in found if not any(fnmatch.fnmatch(cell.name, out) for out in LEFT_OUT))


def selected(patterns: list[str]) -> list[Cell]:
    """Cells whose name matches one of the patterns ("timing/*", "*/wrn/*"); all where there is none.

    Raises:
        ValueError: a pattern matches no cell.
    """
    cells = list(every())
    for pattern in patterns:
        if not any(fnmatch.fnmatch(cell.name, pattern) for cell in cells):
            raise ValueError(f"--only {pattern} matches no cell. Use for instance timing/mlp/* or */wrn/curvlinops.")
    return [cell for cell in cells if not patterns or any(fnmatch.fnmatch(cell.name, p) for p in patterns)]


class Worker:
    """A process of the peers' environment that answers requests; `ask` ends it where it does not answer in time."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks.curvature.worker", str(folder)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "worker.log").open("a"),
            text=True,
        )
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the worker did not start; {folder / 'worker.log'} says why")

    def ask(self, cell: Cell) -> dict[str, Any]:
        request = {"task": cell.task, "tool": cell.tool, "problem": cell.problem}
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"fails": death(self.process.wait())}
        if not select.select([self.process.stdout], [], [], LIMIT_SECONDS)[0]:
            self.close()
            return {"fails": f"no answer within {LIMIT_SECONDS:.0f} s"}
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"fails": death(self.process.wait())}

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def death(status: int) -> str:
    """Why a process is gone that nobody stopped: on Linux SIGKILL is what a process gets that takes too much memory."""
    if status == -signal.SIGKILL:
        gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        return f"killed: it needs more memory than the {gigabytes:.0f} GB there are"
    return f"the process ended with status {status}"


def run(cells: list[Cell], *, python: Path, folder: Path) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Measure what has no file yet. The large problems get a process per cell: peak memory must be that cell's own."""
    worker: Worker | None = None
    shared = {problem.name for problem in (*SMALL, OUTLIERS)}
    try:
        for cell in cells:
            if cell.path(folder).exists():
                continue
            if worker is None or not worker.alive or cell.problem not in shared:
                if worker is not None:
                    worker.close()
                worker = Worker(python, folder)
            start = time.perf_counter()
            answer = worker.ask(cell) | {"seconds": time.perf_counter() - start}
            write(cell.path(folder), json.dumps({"cell": cell.name, **answer}, indent=1).encode())
            yield cell, answer
    finally:
        if worker is not None:
            worker.close()
