"""The claim about recurrent architectures, of which the contributions speak."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Claim, Effect
from normscope_papers.common.rows import at_chosen_rate, effect, final_values, pick, wide

if TYPE_CHECKING:
    import pandas as pd


def better(frame: pd.DataFrame, *, cell: str) -> Effect:
    """PreLayerNorm's final test accuracy minus Layer Norm's."""
    values = final_values(pick(at_chosen_rate(frame, "recurrent"), condition=cell), "test_accuracy")
    table = 100 * wide(values, ("prelayernorm", "layernorm"))
    what = f"test accuracy, {cell}: prelayernorm - layernorm"
    return effect(what, table["prelayernorm"] - table["layernorm"], unit="percentage points")


CLAIMS = tuple(
    Claim(
        name=f"c13-{cell}",
        statement=f"PreLayerNorm improves on Layer Norm for recurrent architectures ({cell.upper()}).",
        source="section 1 (contributions)",
        items=("recurrent",),
        effect=partial(better, cell=cell),
        holds="above",
        threshold=0.0,
        remark="The paper names neither network nor task; this is a stand-in.",
    )
    for cell in ("lstm", "gru")
)
