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


def normalizer_table(rows: list[dict]) -> list[str]:
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        mark = "" if row["ratio"] <= row["target"] else " *"
        cells.setdefault(row["normalizer"], {})[row["shape"]] = f"{row['ratio']:.2f}{mark}"
    beside: dict[str, dict[str, None]] = {}
    for row in rows:
        beside.setdefault(row["normalizer"], {})[f"{row['native']} {row['target']}"] = None
    kept = {name: max(row["kept"] for row in rows if row["normalizer"] == name) for name in cells}
    return [
        "| normalizer | beside, target | " + " | ".join(shapes) + " | kept |",
        "|---|---|" + "---:|" * (len(shapes) + 1),
        *(
            f"| {name} | {', '.join(beside[name])} | "
            + " | ".join(by.get(shape, "") for shape in shapes)
            + f" | {kept[name]:.2f} |"
            for name, by in cells.items()
        ),
    ]


def compiled_table(rows: list[dict]) -> list[str]:
    return [
        "| normalizer | shape | ratio | until the first gradient, s |",
        "|---|---|---:|---:|",
        *(f"| {r['normalizer']} | {r['shape']} | {r['ratio']:.2f} | {r['first_s']:.1f} |" for r in rows),
    ]


def markdown(
    facts: dict[str, object], norm_rows: list, compiled_rows: list, loop_rows: list, help_times: list[float]
) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. " + ", ".join(f"{key} {value}" for key, value in facts.items()) + ".",
        "",
        "## Forward + backward of a row over torch's native layer",
        "",
        "Median of pairwise ratios of processor time, the two in turn in one process on one thread; 1.00 is as fast as "
        "torch's layer, larger is slower, a star is above the target. Rows of a family that torch has a layer for "
        "stand beside it, all others beside torch's batch norm (on tokens that of the N*T rows). A row that centers "
        "its layer's input includes that; a penalised row includes its penalty. `kept` is the memory kept for backward "
        "over the native layer's, the largest of the row's shapes.",
        "",
        *normalizer_table(norm_rows),
        "",
        "## The same through torch.compile",
        "",
        *compiled_table(compiled_rows),
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
    for row in normalizers.run(seconds=0.5):
        fields = dataclasses.asdict(row)
        norm_rows.append(fields | fields.pop("time"))
        ratio = row.time
        print(
            f"{row.shape:18} {row.normalizer:16} {row.native:15} {ratio.ratio:6.2f}  "
            f"({ratio.low:.2f} to {ratio.high:.2f})  kept {row.kept:.2f}",
            flush=True,
        )
    compiled_rows = []
    for shape, name, first, ratio in normalizers.run_compiled(seconds=0.5):
        compiled_rows.append({"shape": shape, "normalizer": name, "first_s": first, **dataclasses.asdict(ratio)})
        print(f"{shape:18} {name:16} compiled in {first:.1f} s {ratio.ratio:6.2f}", flush=True)
    loop_rows = []
    for name, ratio in loop.run(pairs=40):
        loop_rows.append({"model": name, **dataclasses.asdict(ratio)})
        print(f"{name:40} {ratio.ratio:6.3f}  ({ratio.low:.3f} to {ratio.high:.3f})", flush=True)
    help_times = help_seconds()
    print(f"normscope --help {statistics.median(help_times):.2f} s")
    RESULTS.mkdir(exist_ok=True)
    record = {
        "machine": facts,
        "normalizers": norm_rows,
        "compiled": compiled_rows,
        "loop": loop_rows,
        "help_seconds": help_times,
    }
    (RESULTS / "cpu.json").write_text(json.dumps(record, indent=1) + "\n")
    (RESULTS / "README.md").write_text(markdown(facts, norm_rows, compiled_rows, loop_rows, help_times))


if __name__ == "__main__":
    main()
