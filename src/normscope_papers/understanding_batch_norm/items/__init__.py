"""The figures and tables of both papers as items to run."""

from normscope_papers.understanding_batch_norm.items import (
    initialization,
    noise,
    products,
    smoothness,
    step_sizes,
    training,
)

_ORDER = (
    "fig1", "fig2", "fig3", "fig4", "fig5", "fig6", "table1", "fig7", "fig8", "noise", "last-layer", "depth",
    "initializations", "smoothness", "covariate-shift",
)  # fmt: skip
_ITEMS = (
    *training.ITEMS,
    *initialization.ITEMS,
    *step_sizes.ITEMS,
    *products.ITEMS,
    *noise.ITEMS,
    *smoothness.ITEMS,
)

ITEMS = tuple(sorted(_ITEMS, key=lambda item: _ORDER.index(item.name)))
"""In the order of the paper, then what has no figure there, then Santurkar et al."""

__all__ = ["ITEMS"]
