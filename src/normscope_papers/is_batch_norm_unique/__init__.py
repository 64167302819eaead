"""Rao and Sohl-Dickstein 2020, "Is Batch Norm unique?": every figure, table and claim as items and claims.

No copy with formulas was at hand and the authors published no code; what had to be reconstructed says so in the notes
of its item, with marks: [P] stated in the paper, [F] read in Flax's example code of 2020, [S] another source, [D]
derived, [G] a guess, which is a field.
"""

from pathlib import Path

from normscope.study import Paper
from normscope_papers.common.marks import with_marks
from normscope_papers.is_batch_norm_unique.claims import CLAIMS
from normscope_papers.is_batch_norm_unique.experiments import NAME
from normscope_papers.is_batch_norm_unique.items import ITEMS

_MARKS = (
    "Marks: [P] stated in the paper, [F] read in Flax's example code of 2020, which the paper very likely used, [S] "
    "another source, [D] derived, [G] a guess."
)


PAPER = Paper(
    name=NAME,
    title="Is Batch Norm unique? An empirical investigation and prescription to emulate the best properties of common "
    "normalizers without batch dependence",
    reference="Rao and Sohl-Dickstein 2020, arXiv:2010.10687",
    items=with_marks(ITEMS, _MARKS),
    claims=CLAIMS,
    shipped=Path(__file__).parent / "verdicts.json",
)

__all__ = ["PAPER"]
