"""The sentences of a report that depend on the record: what was asked, and what the answer does not show."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

Record = Mapping[str, Any]


def asked(recipe: Record, data: Record) -> str:
    """Return the question of the comparison in one or two sentences."""
    norms, rates, seeds = len(recipe["norms"]), len(recipe["lrs"]), recipe["seeds"]
    return (
        f"What do {norms} normalizers do to a network, all else equal? On {data.get('name', recipe['data'])}, with "
        f"{recipe['model']} as the model: how signal and gradients pass through {recipe['depth']} layers at "
        f"initialization, and how {recipe['steps']} steps of training go at depth {recipe['train_depth']}, at each of "
        f"{rates} learning rates with {seeds} seeds each ({norms * rates * seeds} trials)."
    )


def limits(recipe: Record, data: Record, results: pd.DataFrame) -> list[str]:
    """Return what this comparison cannot say, the general and what follows from its own numbers."""
    general = [
        f"Training stops after {recipe['steps']} steps: the accuracies say how training starts, not where it ends.",
        f"Intervals are over {recipe['seeds']} seeds, which vary initialization and batch order on one fixed split of "
        "the data; they do not cover another split, data set or model.",
        "Momentum, weight decay, penalty weight and batch size are the same for all; only the learning rate was chosen "
        "for each normalizer. Another choice of these may change the order.",
        "The mean-field curves hold for infinite width and independent Gaussian weights in a fully connected network; "
        "a distance between curve and measurement is not by itself a fault of either.",
        "Of many comparisons between rows some differ by chance; nothing here corrects for their number.",
    ]
    return general + list(_particular(recipe, data, results))


_LIMITS = {"train": "max_train", "validation": "max_eval", "test": "max_eval"}


def _particular(recipe: Record, data: Record, results: pd.DataFrame) -> Iterator[str]:
    if recipe["seeds"] < 3:
        yield f"With {recipe['seeds']} seed(s) an interval over seeds says little or nothing."
    if recipe["train_depth"] != recipe["depth"]:
        yield f"Initialization was measured at depth {recipe['depth']} and training at depth {recipe['train_depth']}."
    if "curvature_examples" in recipe:
        yield (
            f"Eigenvalues of the Hessian are those of seed 0 on one batch of {recipe['curvature_examples']} training "
            "examples; another seed or batch would give others."
        )
    cut = [split for split, limit in _LIMITS.items() if recipe[limit] is not None and data.get(split) == recipe[limit]]
    if cut:
        yield f"Only part of the data was used: {', '.join(f'{data[split]} {split}' for split in cut)} examples."
    at_edge = results[results["edge"] != ""]
    if len(at_edge):
        names = ", ".join(at_edge["normalizer"])
        yield f"The chosen learning rate is an end of the grid, and a better one may lie outside it, for: {names}."
    missing = int((results["planned"] - results["trials"]).clip(lower=0).sum())
    if missing:
        yield f"{missing} of the planned trials have not ended; everything here is without them."


def divergences(trials: pd.DataFrame) -> list[tuple[str, float, str]]:
    """Return (normalizer, learning rate, which seeds diverged at which step) for every pair at which some seed did."""
    seeds: dict[tuple[str, float], list[str]] = {}
    for trial in trials[trials["diverged"]].to_dict("records"):
        seeds.setdefault((trial["normalizer"], trial["lr"]), []).append(f"seed {trial['seed']} at step {trial['step']}")
    return [(normalizer, rate, ", ".join(at)) for (normalizer, rate), at in seeds.items()]


def facts(record: Record, prefix: str = "") -> list[tuple[str, str]]:
    """Return the fields of a JSON record as (dotted name, text), nested objects opened, empty fields left out."""
    rows: list[tuple[str, str]] = []
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            value = {str(place): item for place, item in enumerate(value, start=1)}
        if isinstance(value, Mapping):
            rows += facts(value, f"{name}.")
        elif value not in (None, "", []):
            rows.append((name, _text(value)))
    return rows


def _text(value: object) -> str:
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ", ".join(str(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
