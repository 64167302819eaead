"""Products to a stated error: of each quantity by itself, and of all three."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Relative errors of density (Wasserstein-1), trace and top ten, at two levels; both are shown, whoever they favor.
LEVELS = (
    {"density": ("wasserstein", 1e-3), "trace": ("error", 2e-2), "top": ("error", 1e-3)},
    {"density": ("wasserstein", 6e-4), "trace": ("error", 1e-2), "top": ("error", 1e-3)},
)
Level = dict[str, tuple[str, float]]
Rows = list[dict[str, Any]]


def products_to(rows: Rows, quantity: str, error: str, limit: float) -> float | None:
    """The products of the first budget from which on the error stays within the limit; None where it never does."""
    reached = None
    for row in reversed(rows):
        value = row[quantity].get("value")
        if value is None or not value[error] <= limit:
            break
        reached = value["products"]
    return reached


def one_after_another(rows: Rows, level: Level) -> list[float | None]:
    """Products for each quantity, and their sum."""
    needed = [products_to(rows, quantity, *stated) for quantity, stated in level.items()]
    return [*needed, None if None in needed else sum(value for value in needed if value is not None)]


def all_together(rows: Rows, level: Level) -> float | None:
    """Products of one run that gives all three."""
    needed = [
        products_to(rows, "together", quantity if error == "error" else error, limit)
        for quantity, (error, limit) in level.items()
    ]
    return None if None in needed else max(value for value in needed if value is not None)


def stated_errors(
    found: dict[str, Rows], titles: dict[str, str], table: Callable[[list[str], list[list[str]]], list[str]]
) -> list[str]:
    """A section: tools one after another, and "together" where a tool has it."""
    lines = [
        "### Products to a stated error",
        "",
        "From the first budget on after which the error stays within the limit. All three: the sum of the three, or "
        "the one run that gives them together. Each tool stands at the division of the budget and the estimator of the "
        "trace, that suits it best. The first limits were chosen after early curves of the peers, the second after "
        "these results were known.",
    ]
    for level in LEVELS:
        rows = []
        for tool, data in found.items():
            rows.append([titles[tool], *map(text, one_after_another(data, level))])
            if any("value" in row["together"] for row in data):
                rows.append([f"{titles[tool]}, together", "", "", "", text(all_together(data, level))])
        head = [f"{quantity} within {limit:g}" for quantity, (_, limit) in level.items()]
        lines += ["", *table(["tool", *head, "all three"], rows)]
    return lines


def text(products: float | None) -> str:
    return "not reached" if products is None else f"{products:.0f}"
