"""Where theory and the paper disagree: both sides as claims, each with what speaks against it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Claim, Effect
from normscope_papers.is_batch_norm_unique.claims.early_training import at_start
from normscope_papers.is_batch_norm_unique.properties import EXPLOSION, growth, rise
from normscope_papers.is_batch_norm_unique.rows import item_rows, last, pick

if TYPE_CHECKING:
    import pandas as pd


def growth_when_minimized(frame: pd.DataFrame) -> Effect:
    """RegNorm's growth of gradients once its penalty has been minimized."""
    trained = pick(item_rows(frame, "propagation"), kind="train", probe="gradient_norm")
    after = last(trained, "step").assign(step=0) if len(trained) else trained
    return growth(after, "propagation", "regnorm")


_PRELAYERNORM = (
    "Table 2 says '-'. Mean-field theory says that without skips PreLayerNorm's squared gradient norm grows by pi / "
    "(pi - 1) = 1.467 per layer at initialization, as Batch Norm's; table 2 may speak of networks with skips, or after "
    "some training."
)
_REGNORM = (
    "Table 2 says '-'. Theory agrees at initialization, where RegNorm is as Layer Norm; as R goes to 0 the theory says "
    "that it explodes as Batch Norm does."
)
_ORDERED = (
    "Table 2 says '+', from chaotic to ordered; by theory this row is ordered from the start, so that there is no such "
    "transition to make."
)
_TRANSITION = 0.1  # what a rise of Batch Norm's correlation has to be, too


def _sides(name: str, item: str, norm: str, where: str, remark: str) -> tuple[Claim, Claim]:
    effect = partial(growth, item=item, norm=norm)
    return (
        Claim(
            name=f"c17-{name}-paper",
            statement=f"PreLayerNorm does not induce gradient explosion ({where}).",
            source="Table 2",
            items=(item,),
            effect=effect,
            holds="below",
            threshold=EXPLOSION,
            remark=remark,
        ),
        Claim(
            name=f"c17-{name}-theory",
            statement=f"PreLayerNorm's gradients explode at initialization without skips, as Batch Norm's ({where}).",
            source="mean-field theory",
            items=(item,),
            effect=effect,
            holds="above",
            threshold=EXPLOSION,
            remark=remark,
        ),
    )


def _phases(norm: str, title: str) -> tuple[Claim, Claim]:
    return (
        Claim(
            name=f"c18-{norm}-paper",
            statement=f"{title} goes from chaotic to ordered during early training.",
            source="Table 2",
            items=("fig3",),
            effect=partial(rise, norm=norm),
            holds="above",
            threshold=_TRANSITION,
            remark=_ORDERED,
        ),
        Claim(
            name=f"c18-{norm}-theory",
            statement=f"{title} is ordered at initialization already.",
            source="mean-field theory",
            items=("fig3",),
            effect=partial(at_start, norm=norm),
            holds="above",
            threshold=0.8,
            remark=_ORDERED,
        ),
    )


CLAIMS = (
    *_sides("wrn", "fig2", "prelayernorm", "WideResNet without skips", _PRELAYERNORM),
    *_sides("mlp", "fig1", "prelayernorm", "dense network", _PRELAYERNORM),
    Claim(
        name="c17-skips-paper",
        statement="PreLayerNorm does not induce gradient explosion (WideResNet with skips).",
        source="Table 2",
        items=("app2",),
        effect=partial(growth, item="app2", norm="prelayernorm"),
        holds="below",
        threshold=EXPLOSION,
        remark=_PRELAYERNORM,
    ),
    Claim(
        name="c17-regnorm-paper",
        statement="RegNorm does not induce gradient explosion at initialization.",
        source="Table 2",
        items=("fig2",),
        effect=partial(growth, item="fig2", norm="regnorm"),
        holds="below",
        threshold=EXPLOSION,
        remark=_REGNORM,
    ),
    Claim(
        name="c17-regnorm-theory",
        statement="Once its regularizer has been minimized, RegNorm's gradients explode.",
        source="mean-field theory",
        items=("propagation",),
        effect=growth_when_minimized,
        holds="above",
        threshold=EXPLOSION,
        remark=_REGNORM,
    ),
    *_phases("layernorm", "Layer Norm"),
    *_phases("regnorm", "RegNorm"),
)
