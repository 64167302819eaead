"""``python -m benchmarks.curvature``: measure what has no file yet, write the JSON, render the page."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.__main__ import RESULTS, machine
from benchmarks.curvature import cells, figure, page, prepare
from benchmarks.curvature.problems import PROBLEMS

PAGE = cells.ROOT / "docs" / "curvature-benchmark.md"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curvature", description=__doc__)
    parser.add_argument("--peers-python", type=Path, default=cells.ROOT / ".venv-peers" / "bin" / "python")
    parser.add_argument("--folder", type=Path, default=cells.ROOT / "runs" / "bench-curvature", help="of the cells")
    parser.add_argument("--images", help="a directory or hub id of CIFAR-10; seeded random images without it")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="cells, e.g. timing/mlp/*")
    parser.add_argument("--again", action="store_true", help="measure the selected cells anew")
    parser.add_argument("--render", action="store_true", help="write JSON and page from the cells there are")
    return parser.parse_args()


def prepared(folder: Path, images: str | None, wanted: set[str]) -> dict[str, object]:
    """Facts of each problem; what has none yet is made."""
    facts = {}
    for name, problem in PROBLEMS.items():
        path = folder / f"{name}.json"
        if not path.exists():
            if name not in wanted:
                continue
            print(f"preparing {name}", flush=True)
            path.write_text(json.dumps(prepare.prepare(problem, folder, images)) + "\n")
        facts[name] = json.loads(path.read_text())
    return facts


def main() -> None:
    arguments = options()
    try:
        chosen = cells.selected(arguments.only)
    except ValueError as error:
        sys.exit(str(error))
    folder = arguments.folder
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    if arguments.again:
        for cell in chosen:
            cell.path(folder).unlink(missing_ok=True)
    wanted = set() if arguments.render else {cell.problem for cell in chosen}
    problems = prepared(folder, arguments.images, wanted)
    if not arguments.render:
        if not arguments.peers_python.exists():
            sys.exit(f"no peers' environment at {arguments.peers_python}: make bench-curvature makes it")
        facts = machine() | {"peers": page.versions(Path(__file__).parent / "peers.txt")}
        (folder / "machine.json").write_text(json.dumps(facts) + "\n")
        for cell, answer in cells.run(chosen, python=arguments.peers_python, folder=folder):
            print(f"{cell.name:44} {answer['seconds']:7.1f} s  {answer.get('fails', 'done')}", flush=True)
    done = {
        cell.name: json.loads(cell.path(folder).read_text()) for cell in cells.every() if cell.path(folder).exists()
    }
    record = {"machine": json.loads((folder / "machine.json").read_text()), "problems": problems, "cells": done}
    (RESULTS / "curvature.json").write_text(json.dumps(record, indent=1) + "\n")
    figure.draw(record, RESULTS / "curvature.svg")
    PAGE.write_text(page.render(json.loads((RESULTS / "curvature.json").read_text())))


if __name__ == "__main__":
    main()
