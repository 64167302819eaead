"""Marks are explained where they are used, and nowhere else."""

from __future__ import annotations

import dataclasses

from normscope_papers.common.marks import with_marks
from normscope_papers.is_batch_norm_unique import PAPER

MARKS = "Marks: [P] read in the paper, [D] derived."


def test_an_item_whose_notes_bear_a_mark_has_what_it_means_as_its_last_note():
    plain = PAPER.item("fig1")
    marked, other, none = (dataclasses.replace(plain, notes=notes) for notes in (("A [D].", "B."), ("A [G].",), ()))
    assert [item.notes for item in with_marks((marked, other, none), MARKS)] == [
        ("A [D].", "B.", MARKS),
        ("A [G].",),
        (),
    ]
