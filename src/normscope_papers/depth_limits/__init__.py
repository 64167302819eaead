"""Meterez et al. 2024, "Towards training without depth limits": every figure and table, and the claims made of them.

Where the paper's text, figures and code disagree, the notes of an item say so, with marks: [P] read in the paper, [C]
read in the authors' code, [D] derived from the paper's definitions, [G] a guess, which is a field.
"""

from pathlib import Path

from normscope.study import Paper
from normscope_papers.common.marks import with_marks
from normscope_papers.depth_limits.claims import CLAIMS
from normscope_papers.depth_limits.experiments import NAME
from normscope_papers.depth_limits.items import ITEMS

_MARKS = (
    "Marks: [P] read in the paper, [C] read in the authors' code, [D] derived from the paper's definitions, "
    "[G] a guess."
)


PAPER = Paper(
    name=NAME,
    title="Towards training without depth limits: batch normalization without gradient explosion",
    reference="Meterez et al. 2024, arXiv:2310.02012",
    items=with_marks(ITEMS, _MARKS),
    claims=CLAIMS,
    shipped=Path(__file__).parent / "verdicts.json",
)

__all__ = ["PAPER"]
