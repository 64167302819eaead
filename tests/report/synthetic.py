"""Rows, recipe, provenance and data of a comparison that never ran, in the schema of a real record."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = [
    "run", "trial", "kind", "normalizer", "seed", "lr", "step", "probe", "layer", "depth", "name", "value", "stderr",
    "unit",
]  # fmt: skip
TEN_ROWS = [
    "none", "batchnorm", "batchnorm_train", "layernorm", "weightnorm", "bmlv", "lmbv", "prelayernorm", "regnorm",
    "preregnorm",
]  # fmt: skip
CHAOTIC = {"batchnorm", "batchnorm_train", "bmlv", "prelayernorm", "preregnorm"}

Diverges = Callable[[str, float, int], bool]


def recipe(norms: Sequence[str] = TEN_ROWS, **changes: Any) -> dict[str, Any]:
    plain = {
        "kind": "compare",
        "schema": 1,
        "scale": "laptop",
        "data": "digits",
        "max_train": None,
        "max_eval": None,
        "model": "wrn",
        "depth": 26,
        "train_depth": 14,
        "width": 1,
        "skips": False,
        "norms": [{"name": name, "options": {}} for name in norms],
        "lrs": [0.03, 0.1, 0.3],
        "seeds": 3,
        "steps": 100,
        "batch_size": 64,
        "init_batches": 4,
        "noise": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "penalty_weight": 0.1,
    }
    return plain | changes


PROVENANCE = {
    "command": "normscope compare --data digits",
    "normscope": "0.1.0",
    "source_sha256": "5f" * 32,
    "git": {"revision": "ab" * 20, "dirty": False},
    "libraries": {"torch": "2.13.0", "numpy": "2.4.0"},
    "python": "3.11.7",
    "device": "cpu",
    "started": "2026-11-20T12:00:00+00:00",
}
DATA = {
    "name": "digits",
    "sha256": "c0" * 32,
    "train": 1437,
    "validation": 180,
    "test": 180,
    "input_shape": [1, 8, 8],
    "num_classes": 10,
    "classes": [str(i) for i in range(10)],
    "note": "The test split is a stratified part of train.",
}


def row(kind: str, norm: str, seed: int, lr: float, probe: str, name: str, value: float, **more: Any) -> dict[str, Any]:
    trial = f"{kind}-{norm}-{lr:g}-{seed}"
    blank = {"run": "compare-0123456789ab", "step": 0, "layer": "", "depth": 0, "stderr": math.nan, "unit": "1"}
    given = {"trial": trial, "kind": kind, "normalizer": norm, "seed": seed, "lr": lr, "probe": probe, "name": name}
    return {**blank, **given, "value": value, **more}


def frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    kinds = dict.fromkeys(["seed", "step", "depth"], "int64") | dict.fromkeys(["lr", "value", "stderr"], "float64")
    return pd.DataFrame(list(rows), columns=COLUMNS).astype({name: kinds.get(name, "str") for name in COLUMNS})


def trial(
    norm: str,
    lr: float,
    seed: int,
    *,
    validation: float,
    test: float = math.nan,
    diverged: bool = False,
    step: int = 100,
) -> list[dict[str, Any]]:
    """The rows of one training trial that its summary needs."""

    def at(probe: str, name: str, value: float) -> dict[str, Any]:
        return row("train", norm, seed, lr, probe, name, value, step=step)

    rows = [at("outcome", "diverged", float(diverged)), at("evaluation", "validation_accuracy", validation)]
    return rows if math.isnan(test) else [*rows, at("evaluation", "test_accuracy", test)]


def never(norm: str, lr: float, seed: int) -> bool:
    return False


def comparison(plain: dict[str, Any], *, diverges: Diverges = never, seed: int = 0) -> pd.DataFrame:
    """Every row of a whole comparison, with curves of about the shape that real ones have."""
    rng = np.random.default_rng(seed)
    names = [norm["name"] for norm in plain["norms"]]
    rows: list[dict[str, Any]] = []
    for place, norm in enumerate(names):
        for s in range(plain["seeds"]):
            rows += _initialization(norm, s, plain["depth"] - 1, rng)
            for lr in plain["lrs"]:
                rows += _training(norm, place, s, lr, plain["steps"], diverges(norm, lr, s), rng)
    return frame(rows)


def _initialization(norm: str, seed: int, sites: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    chaotic, start, last = norm in CHAOTIC, 0.995 - 0.002 * rng.random(), 0.02 * (1 + 0.2 * rng.random())
    for depth in range(1, sites + 1):
        growth = 1.21 if chaotic else 1.0
        theory = start / (1 + math.exp(0.45 * (depth - 13))) if chaotic else 1 - (1 - start) / (1 + 0.1 * depth)
        measured = min(0.9999, theory * (1 - 0.05 * rng.random()) + 0.01 * rng.random())
        norm_theory = last * growth ** (sites - depth)
        for probe, name, value in (
            ("information_propagation", "correlation", measured),
            ("theory.information_propagation", "correlation", theory),
            ("gradient_norm", "norm", norm_theory * math.exp(0.1 * rng.standard_normal())),
            ("theory.gradient_norm", "norm", norm_theory),
            ("gradient_correlation", "similar", measured * 0.9),
            ("gradient_correlation", "independent", 0.3 * rng.random() + (0 if chaotic else 0.5)),
        ):
            rows.append(row("init", norm, seed, math.nan, probe, name, value, layer=f"site{depth}", depth=depth))
    return rows


def _training(
    norm: str, place: int, seed: int, lr: float, steps: int, diverged: bool, rng: np.random.Generator
) -> list[dict[str, Any]]:
    last = max(1, steps // 3) if diverged else steps
    rate = (0.3 + 0.1 * place) * (1 - abs(math.log10(lr / 0.1))) / 15

    def at(step: int, probe: str, name: str, value: float, unit: str = "1") -> dict[str, Any]:
        return row("train", norm, seed, lr, probe, name, value, step=step, unit=unit)

    rows = []
    for step in range(1, last + 1):
        loss = 2.3 * math.exp(-rate * step) * math.exp(0.15 * rng.standard_normal()) + 0.02
        rows.append(at(step, "train", "loss", math.inf if diverged and step == last else loss, "nats"))
    probed = sorted({0, last, *(round(10 ** (i / 4)) for i in range(20) if 10 ** (i / 4) < last)})
    for step in probed:
        accuracy = 0.1 + 0.85 * (1 - math.exp(-rate * step)) * (0.97 + 0.03 * rng.random())
        chaos = 0.2 if norm in CHAOTIC else 0.9
        rows += [
            at(step, "evaluation", "validation_accuracy", accuracy),
            at(step, "evaluation", "validation_loss", 2.3 * (1 - accuracy), "nats"),
            at(step, "information_propagation", "correlation", chaos + 0.08 * rng.random()),
            at(step, "gradient_correlation", "similar", chaos * (0.8 + 0.1 * rng.random())),
            at(step, "gradient_correlation", "independent", 0.3 * rng.random()),
        ]
    if not diverged:
        accuracy = rows[-5]["value"] - 0.01
        rows += [at(last, "evaluation", "test_accuracy", accuracy), at(last, "evaluation", "test_loss", 0.5, "nats")]
    return [*rows, at(last, "outcome", "diverged", float(diverged))]


CURVATURE = {
    "curvature_examples": 512,
    "spectrum": {
        "lanczos_steps": 4, "lanczos_starts": 2, "steps": [0, 50], "modes": ["train", "eval"], "groups": ["readout.*"]
    },
}  # fmt: skip


def spectrum(
    norm: str,
    lr: float,
    step: int,
    nodes: Sequence[float],
    weights: Sequence[float],
    *,
    probe: str = "spectrum",
    layer: str = "",
) -> list[dict[str, Any]]:
    """The rows of one spectrum; each start's weights sum to one."""
    return [
        row("train", norm, 0, lr, probe, name, value, step=step, layer=layer, depth=depth)
        for depth, pair in enumerate(zip(nodes, weights, strict=True), start=1)
        for name, value in (("node", pair[0]), ("weight", pair[1]), ("residual", 1e-3))
    ]


def sharpness(norm: str, lr: float, step: int, first: float, last: float, smallest: float) -> list[dict[str, Any]]:
    """The rows of one measurement whose eigenvalues have all converged."""
    named = {"lambda_max": first, "lambda_min": smallest, "lambda_ratio": first / last}
    return [
        row("train", norm, 0, lr, "sharpness", "converged", 1.0, step=step, depth=1),
        row("train", norm, 0, lr, "sharpness", "lambda_min_converged", 1.0, step=step),
        *(row("train", norm, 0, lr, "sharpness", name, value, step=step) for name, value in named.items()),
    ]
