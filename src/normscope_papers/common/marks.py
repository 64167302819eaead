"""Marks in the notes of items, such as [P], that say where a statement comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from normscope.study import Item


def with_marks(items: Iterable[Item], marks: str) -> tuple[Item, ...]:
    """The items; each whose notes bear a mark that the sentence `marks` explains has it as a further note."""
    explained = re.findall(r"\[[A-Z]\]", marks)

    def bears_one(item: Item) -> bool:
        return any(mark in note for note in item.notes for mark in explained)

    return tuple(replace(item, notes=(*item.notes, marks)) if bears_one(item) else item for item in items)
