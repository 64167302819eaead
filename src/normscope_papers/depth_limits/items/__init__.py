"""The paper's figures and tables, and two questions that it leaves open, as items to run."""

from normscope_papers.depth_limits.items import batches, gradients, isometry, shaping, training

_ORDER = (
    "fig1", "fig2", "fig3", "fig4", "fig5", "fig6", "d1", "e1", "e2", "f1", "f2", "g1", "g2", "g3", "g4", "g5", "g6",
    "samples", "repeated",
)  # fmt: skip
_ITEMS = (*isometry.ITEMS, *gradients.ITEMS, *shaping.ITEMS, *batches.ITEMS, *training.ITEMS)

ITEMS = tuple(sorted(_ITEMS, key=lambda item: _ORDER.index(item.name)))
"""In the order of the paper: figures, appendix, and what it did not test."""

__all__ = ["ITEMS"]
