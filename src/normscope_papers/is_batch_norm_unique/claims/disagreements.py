"""Where theory and the paper disagree: both sides as claims, each with what speaks against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from normscope.study import Claim, Effect
from normscope_papers.is_batch_norm_unique.claims.early_training import at_start
from normscope_papers.is_batch_norm_unique.claims.minimized import growth_when_minimized
from normscope_papers.is_batch_norm_unique.properties import EXPLOSION, growth, rise

if TYPE_CHECKING:
    import pandas as pd

Side: TypeAlias = Literal["paper", "theory"]

_SOURCE: Mapping[Side, str] = {"paper": "Table 2", "theory": "mean-field theory"}
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


def _explosion(
    side: Side, of: str, statement: str, *, item: str, effect: Callable[[pd.DataFrame], Effect], remark: str
) -> Claim:
    """One side: the paper says that these gradients do not explode, theory that they do."""
    return Claim(
        name=f"c17-{of}-{side}",
        statement=statement,
        source=_SOURCE[side],
        items=(item,),
        effect=effect,
        holds="above" if side == "theory" else "below",
        threshold=EXPLOSION,
        remark=remark,
    )


def _of_prelayernorm(side: Side, of: str, item: str, where: str) -> Claim:
    says = {
        "paper": "PreLayerNorm does not induce gradient explosion",
        "theory": "PreLayerNorm's gradients explode at initialization without skips, as Batch Norm's",
    }
    effect = partial(growth, item=item, norm="prelayernorm")
    return _explosion(side, of, f"{says[side]} ({where}).", item=item, effect=effect, remark=_PRELAYERNORM)


def _phases(norm: str, title: str) -> tuple[Claim, Claim]:
    return (
        Claim(
            name=f"c18-{norm}-paper",
            statement=f"{title} goes from chaotic to ordered during early training.",
            source=_SOURCE["paper"],
            items=("fig3",),
            effect=partial(rise, norm=norm),
            holds="above",
            threshold=_TRANSITION,
            remark=_ORDERED,
        ),
        Claim(
            name=f"c18-{norm}-theory",
            statement=f"{title} is ordered at initialization already.",
            source=_SOURCE["theory"],
            items=("fig3",),
            effect=partial(at_start, norm=norm),
            holds="above",
            threshold=0.8,
            remark=_ORDERED,
        ),
    )


CLAIMS = (
    _of_prelayernorm("paper", "wrn", "fig2", "WideResNet without skips"),
    _of_prelayernorm("theory", "wrn", "fig2", "WideResNet without skips"),
    _of_prelayernorm("paper", "mlp", "fig1", "dense network"),
    _of_prelayernorm("theory", "mlp", "fig1", "dense network"),
    _of_prelayernorm("paper", "skips", "app2", "WideResNet with skips"),
    _explosion(
        "paper",
        "regnorm",
        "RegNorm does not induce gradient explosion at initialization.",
        item="fig2",
        effect=partial(growth, item="fig2", norm="regnorm"),
        remark=_REGNORM,
    ),
    _explosion(
        "theory",
        "regnorm",
        "Once its regularizer has been minimized, RegNorm's gradients explode.",
        item="propagation",
        effect=growth_when_minimized,
        remark=_REGNORM,
    ),
    *_phases("layernorm", "Layer Norm"),
    *_phases("regnorm", "RegNorm"),
)
