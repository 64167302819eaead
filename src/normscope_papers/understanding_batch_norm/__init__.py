"""Bjorck, Gomes, Selman and Weinberger 2018, "Understanding batch normalization", and what Santurkar et al. measure.

Every figure, table and claim as items and claims, with the smoothness measurements of "How does batch normalization
help optimization?" (Santurkar, Tsipras, Ilyas and Madry 2018). What had to be reconstructed says so in the notes of its
item, with marks: [P] read in the paper's text or figures, [S] a secondary source, [M] remembered, [D] derived.
"""

from pathlib import Path

from normscope.study import Paper
from normscope_papers.common.marks import with_marks
from normscope_papers.understanding_batch_norm.claims import CLAIMS
from normscope_papers.understanding_batch_norm.experiments import NAME
from normscope_papers.understanding_batch_norm.items import ITEMS

_MARKS = (
    "Marks: [P] read in the paper's text or figures, [S] a secondary source, [M] remembered and found in no source, a "
    "hint only, [D] derived."
)


PAPER = Paper(
    name=NAME,
    title="Understanding batch normalization; How does batch normalization help optimization?",
    reference="Bjorck, Gomes, Selman and Weinberger 2018, arXiv:1806.02375; Santurkar, Tsipras, Ilyas and Madry 2018, "
    "arXiv:1805.11604",
    items=with_marks(ITEMS, _MARKS),
    claims=CLAIMS,
    shipped=Path(__file__).parent / "verdicts.json",
)

__all__ = ["PAPER"]
