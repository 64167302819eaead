"""The paper's figures and tables, and its failed experiments, as items to run."""

from normscope_papers.is_batch_norm_unique.items import (
    batch_size,
    curvature,
    definitions,
    early_training,
    failed,
    initialization,
    penalty,
    performance,
    recurrent,
)

_ORDER = (
    "fig1", "fig2", "fig3", "fig4", "fig5", "fig6", "table1", "table2", "table3", "app1", "app2", "app5", "app9",
    "app10", "app11", "propagation", "recurrent", "batch-noise", "chaos", "logits", "variance",
)  # fmt: skip
_ITEMS = (
    *initialization.ITEMS,
    *early_training.ITEMS,
    *curvature.ITEMS,
    *batch_size.ITEMS,
    *definitions.ITEMS,
    *performance.ITEMS,
    *penalty.ITEMS,
    *recurrent.ITEMS,
    *failed.ITEMS,
)

ITEMS = tuple(sorted(_ITEMS, key=lambda item: _ORDER.index(item.name)))
"""In the order of the paper: figures, tables, appendix."""

__all__ = ["ITEMS"]
