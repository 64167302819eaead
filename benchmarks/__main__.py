"""``python -m benchmarks``: measure, print the ratios, and write them to benchmarks/results/."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

import normscope
from benchmarks import loop, normalizers

RESULTS = Path(__file__).parent / "results"


def help_seconds(*, runs: int = 15) -> list[float]:
    """Whole-process time of ``normscope --help``."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "normscope", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return sorted(times[1:])


def machine() -> dict[str, object]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "normscope": normscope.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def markdown(facts: dict[str, object], norm_rows: list, loop_rows: list, help_times: list[float]) -> str:
    names = list(dict.fromkeys(row["normalizer"] for row in norm_rows))
    shapes = list(dict.fromkeys(row["shape"] for row in norm_rows))
    ratio = {(row["normalizer"], row["shape"]): f"{row['ratio']:.2f}" for row in norm_rows}
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. " + ", ".join(f"{key} {value}" for key, value in facts.items()) + ".",
        "",
        "## Forward + backward of a row over torch's native layer of the same family",
        "",
        "Median of pairwise ratios, the two timed in turn; 1.00 is as fast as torch's kernel, larger is slower. Rows "
        "with batch statistics stand beside `nn.BatchNorm2d` (on tokens `nn.BatchNorm1d` over N*T rows), the others "
        "beside `nn.GroupNorm(1, C)` (on tokens `nn.LayerNorm`). A row that centers its layer's input includes that; "
        "a penalised row includes its penalty.",
        "",
        "| normalizer | " + " | ".join(shapes) + " |",
        "|---|" + "---:|" * len(shapes),
        *(f"| {name} | " + " | ".join(ratio[name, shape] for shape in shapes) + " |" for name in names),
        "",
        "## A training step of the library's loop over a bare loop",
        "",
        "| model | ratio | middle half | bare step, ms |",
        "|---|---:|---:|---:|",
        *(
            f"| {row['model']} | {row['ratio']:.3f} | {row['low']:.3f} to {row['high']:.3f} "
            f"| {row['theirs_ms'] / 10:.2f} |"
            for row in loop_rows
        ),
        "",
        "## `normscope --help`",
        "",
        f"Whole process, median of {len(help_times)} runs: {statistics.median(help_times):.2f} s "
        f"({help_times[0]:.2f} to {help_times[-1]:.2f}).",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    torch.set_num_threads(1)  # one thread: ratios between kernels, not between schedulers
    facts = machine()
    norm_rows = []
    for shape, name, ratio in normalizers.run(pairs=30):
        norm_rows.append({"shape": shape, "normalizer": name, **dataclasses.asdict(ratio)})
        print(f"{shape:20} {name:16} {ratio.ratio:6.2f}  ({ratio.low:.2f} to {ratio.high:.2f})", flush=True)
    loop_rows = []
    for name, ratio in loop.run(pairs=40):
        loop_rows.append({"model": name, **dataclasses.asdict(ratio)})
        print(f"{name:40} {ratio.ratio:6.3f}  ({ratio.low:.3f} to {ratio.high:.3f})", flush=True)
    help_times = help_seconds()
    print(f"normscope --help {statistics.median(help_times):.2f} s")
    RESULTS.mkdir(exist_ok=True)
    record = {"machine": facts, "normalizers": norm_rows, "loop": loop_rows, "help_seconds": help_times}
    (RESULTS / "cpu.json").write_text(json.dumps(record, indent=1) + "\n")
    (RESULTS / "README.md").write_text(markdown(facts, norm_rows, loop_rows, help_times))


if __name__ == "__main__":
    main()
