"""Values that a paper printed, beside ours; and how an estimate over seeds is written."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from normscope.study.paper import Item, Published


@dataclass(frozen=True, slots=True)
class Beside:
    """One published value and ours, as text."""

    quantity: str
    normalizer: str
    published: str
    ours: str
    gap: str


def beside(item: Item, frame: pd.DataFrame | None) -> tuple[Beside, ...]:
    """Every value that the paper published for the item, and ours from the rows of a run; without rows, "not run"."""
    return tuple(
        Beside(
            quantity=value.quantity,
            normalizer=value.normalizer,
            published=_published(value),
            ours="not run" if frame is None else _ours(value, frame),
            gap=value.gap,
        )
        for value in item.published
    )


def estimate(mean: float, low: float, high: float, seeds: int) -> str:
    """Write a mean with its 95 % interval and the number of seeds behind it; an en dash where there is no mean."""
    if math.isnan(mean):
        return "–"
    interval = "" if math.isnan(low) else f" [{low:.4g}, {high:.4g}]"
    return f"{mean:.4g}{interval}, {seeds} seed{'' if seeds == 1 else 's'}"


def _published(value: Published) -> str:
    uncertainty = "" if value.uncertainty is None else f" ± {value.uncertainty:g}"
    return f"{value.value:g}{uncertainty}{_unit(value.unit)}"


def _ours(value: Published, frame: pd.DataFrame) -> str:
    effect = value.measured(frame)
    if effect is None or not effect.by_seed:
        return "not measured in this run"
    found = effect.interval()
    if math.isnan(found.mean):
        return f"no finite value, {found.seeds + found.left_out} seeds"
    return f"{estimate(found.mean, found.low, found.high, found.seeds)}{_unit(effect.unit)}"


def _unit(unit: str) -> str:
    return "" if unit == "1" else f" {unit}"
