"""Tables as text: results, normalizers, runs."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from normscope.study import folder as folders
from normscope.study import records
from normscope.study.experiment import Study
from normscope.study.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

_RESULTS = "{:<24} {:<16} {:<26} {:<12} {}"


def results_header() -> str:
    """Head of the table of results."""
    return _RESULTS.format("normalizer", "best lr", "test accuracy (95 %)", "validation", "diverged")


def results_lines(frame: pd.DataFrame, recipe: Recipe, labels: Sequence[str]) -> list[str]:
    """One line for each of the labelled normalizers; works on the rows of some trials as on all."""
    from normscope.report import summary

    table = summary.results(frame, msgspec.to_builtins(recipe)).set_index("normalizer")
    return [_results_line(label, table.loc[label]) for label in labels]


def _results_line(label: str, result: Any) -> str:
    edge = f" ({result['edge']})" if result["edge"] else ""
    accuracy = f"{result['test_accuracy']:.3f}"
    if not math.isnan(result["test_low"]):
        accuracy += f"  [{result['test_low']:.3f}, {result['test_high']:.3f}]"
    diverged = f"{result['diverged']}/{result['trials']}"
    return _RESULTS.format(label, f"{result['lr']:g}{edge}", accuracy, f"{result['validation_accuracy']:.3f}", diverged)


def print_results(folder: Path) -> None:
    """Print the whole table of a finished comparison, and where everything lies."""
    recipe = records.resolved(folder)
    if isinstance(recipe, Study):
        raise ValueError(f"{folder} is a study of {recipe.paper}, not a comparison; read its report.")
    lines = results_lines(records.load(folder), recipe, [norm.label for norm in recipe.norms])
    print()
    print("\n".join([results_header(), *lines]))
    print("A best rate at an end of the grid is marked. A diverged trial counts as accuracy 0.")
    print(f"\nreport   {folder / folders.REPORT}\nfigures  {folder / 'figures'}\nrecord   {folder}")


def print_normalizers(*, as_json: bool) -> None:
    """Print the table of normalizers."""
    from normscope.nn import normalizers

    names = ("name", "couples_batch", "penalized", "formula", "reference")
    with warnings.catch_warnings(record=True) as left_out:
        warnings.simplefilter("always")
        table = [{name: getattr(row, name) for name in names} for row in normalizers()]
    for warning in left_out:  # of other packages' rows
        print(f"normscope: {warning.message}", file=sys.stderr)
    if as_json:
        print(json.dumps(table, indent=2))
        return
    print(f"{'name':<16} {'couples examples':<17} {'penalty':<8} formula")
    for row in table:
        couples, penalized = ("yes" if row[name] else "" for name in ("couples_batch", "penalized"))
        print(f"{row['name']:<16} {couples:<17} {penalized:<8} {row['formula']}")


def print_status(runs: Path, *, as_json: bool) -> None:
    """Print how far each run at or below `runs` is."""
    table = [_status(folder) for folder in folders.run_folders(runs)]
    if as_json:
        print(json.dumps(table, indent=2))
        return
    print(f"{'run':<40} {'state':<9} {'trials':<9} {'scale':<7} what")
    for row in table:
        trials = f"{row['finished']}/{row['trials']}"
        print(f"{row['run']:<40} {row['state']:<9} {trials:<9} {row['scale']:<7} {row['what']}")


def _status(folder: Path) -> dict[str, Any]:
    recipe = records.resolved(folder)
    trials = records.trials(folder, recipe)
    finished = len(records.finished(folder, trials))
    whole = folders.is_sealed(folder) and finished == len(trials)
    state = "finished" if whole else "running" if folders.is_driven(folder) else "stopped"
    return {
        "run": str(folder),
        "state": state,
        "finished": finished,
        "trials": len(trials),
        "scale": recipe.scale,
        "what": _what(recipe),
    }


def _what(recipe: Recipe | Study) -> str:
    if isinstance(recipe, Study):
        return f"{recipe.item} of {recipe.paper}"
    return f"{recipe.model} on {recipe.data}, {len(recipe.norms)} normalizers"
