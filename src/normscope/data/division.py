"""Which rows of which stored split become the training, validation and test examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

VALIDATION_NAMES = ("validation", "valid", "val", "dev")
# What the stored split may be called that serves as one of these.
EVALUATION_NAMES = {"validation": VALIDATION_NAMES, "test": ("test",)}
# The division is a property of the data set, the same for every trial, and so is never drawn from a trial's seed.
SEED = 20201021


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one stored split, in the order they are to have."""

    table: str
    rows: Tensor  # (n,) int64


def divide(
    labels: Mapping[str, Tensor], *, validation_fraction: float, max_train: int | None, max_eval: int | None
) -> tuple[dict[str, Part], list[str]]:
    """Choose the rows of "train", "validation" and "test", each in a random order; also returns what to note.

    Stored splits are used as they are; a missing validation or test split is cut from the training split, the same
    fraction of each class. The limits then keep so many rows, again in proportion to the classes. Every choice comes
    from one fixed generator, so that equal arguments give equal rows on every machine.

    Args:
        labels: the classes (N,) of every stored split, by its name; "train" must be there.
        validation_fraction: of the training split, for each split that is missing.
        max_train: at most so many training rows.
        max_eval: at most so many validation rows, and so many test rows.

    Raises:
        ValueError: the training split is too small for the fraction.
    """
    generator = torch.Generator().manual_seed(SEED)
    notes = []
    remaining = torch.arange(len(labels["train"]))
    cut = round(validation_fraction * len(remaining))
    parts = {}
    for role, names in EVALUATION_NAMES.items():
        stored = next((name for name in names if name in labels), None)
        if stored is not None:
            parts[role] = Part(stored, torch.arange(len(labels[stored])))
            continue
        if cut < 1:
            raise ValueError(
                f"{validation_fraction:g} of {len(labels['train'])} training examples leaves nothing for {role}. "
                "Use a larger validation_fraction or more examples."
            )
        chosen, rest = stratified(labels["train"][remaining], cut, generator=generator)
        parts[role], remaining = Part("train", remaining[chosen]), remaining[rest]
        notes.append(f"no {role} split is stored: {cut} examples were cut from train, in proportion to the classes")
    parts = {"train": Part("train", remaining), **parts}
    for role, limit in (("train", max_train), ("validation", max_eval), ("test", max_eval)):
        part = parts[role]
        count = len(part.rows) if limit is None else min(limit, len(part.rows))
        if count < len(part.rows):
            notes.append(f"{role} was reduced from {len(part.rows)} to {count} examples")
        chosen, _ = stratified(labels[part.table][part.rows], count, generator=generator)
        parts[role] = Part(part.table, part.rows[chosen])
    return parts, notes


def stratified(labels: Tensor, count: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw `count` positions, each class in proportion to its size; return them and the others, both shuffled.

    A class of n among N gets n count / N, rounded by largest remainder so that the sum is `count`.

    Args:
        labels: (N,) classes.
        count: between 0 and N.
        generator: of the draw.
    """
    order = torch.randperm(len(labels), generator=generator)
    classes, sizes = torch.unique(labels, return_counts=True)
    quotas = sizes * count // len(labels)
    largest_remainder = (sizes * count % len(labels)).argsort(descending=True, stable=True)
    quotas[largest_remainder[: count - int(quotas.sum())]] += 1
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label, quota in zip(classes, quotas.tolist(), strict=True):
        chosen[(labels[order] == label).nonzero().flatten()[:quota]] = True
    return order[chosen], order[~chosen]
