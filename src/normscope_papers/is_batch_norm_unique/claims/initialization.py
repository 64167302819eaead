"""Claims 1 to 6: networks at initialization."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Claim, Effect
from normscope_papers.common.rows import at_chosen_rate, effect, last, pick, wide
from normscope_papers.is_batch_norm_unique.properties import EXPLOSION, growth

if TYPE_CHECKING:
    import pandas as pd

STANDARD = ("layernorm", "weightnorm")
"""The standard normalizers of table 1 beside batch norm."""

_WHERE = {"fig1": "dense network, MNIST", "fig2": "WideResNet without skips, CIFAR-10"}


def correlation(frame: pd.DataFrame, item: str, names: tuple[str, ...]) -> pd.DataFrame:
    """Correlation of two similar batches at the last site: seeds x normalizers."""
    rows = pick(at_chosen_rate(frame, item), probe="information_propagation", name="correlation", kind="init")
    return wide(last(rows, "depth"), names)


def curves(frame: pd.DataFrame, item: str, names: tuple[str, ...]) -> pd.DataFrame:
    """The same at every site: (seed, depth) x normalizers."""
    rows = pick(at_chosen_rate(frame, item), probe="information_propagation", name="correlation", kind="init")
    return wide(rows, names, along=["depth"])


def forgets_most(frame: pd.DataFrame, *, item: str) -> Effect:
    """The smallest last-site correlation of the standard normalizers minus batch norm's."""
    table = correlation(frame, item, (*STANDARD, "batchnorm"))
    others = table[[*STANDARD]].min(axis=1, skipna=False)
    return effect("last-site correlation: least of layernorm and weightnorm - batchnorm", others - table["batchnorm"])


def distance(frame: pd.DataFrame, *, item: str, norm: str, reference: str = "batchnorm") -> Effect:
    """Mean distance by site of two rows' correlations."""
    table = curves(frame, item, (norm, reference))
    what = f"distance of correlations, mean over sites: {norm} and {reference}"
    return effect(what, (table[norm] - table[reference]).abs())


def share_of_decay(frame: pd.DataFrame, *, item: str) -> Effect:
    """Which share of batch norm's decorrelation LMBV shows at the last site."""
    table = 1 - correlation(frame, item, ("lmbv", "batchnorm"))
    return effect("decorrelation at the last site: lmbv / batchnorm", table["lmbv"] / table["batchnorm"])


def skips_preserve(frame: pd.DataFrame) -> Effect:
    """Last-site correlation with skips minus without, of batch norm, where there is something to preserve."""
    with_skips, without = (correlation(frame, item, ("batchnorm",)) for item in ("app1", "fig2"))
    return effect("last-site correlation of batchnorm: with skips - without", (with_skips - without)["batchnorm"])


def gradients(frame: pd.DataFrame, pairs: str, names: tuple[str, ...]) -> pd.DataFrame:
    """Gradient correlation of figure 1, mean over layers: seeds x normalizers."""
    return wide(pick(at_chosen_rate(frame, "fig1"), probe="gradient_correlation", name=pairs), names)


def least_correlated(frame: pd.DataFrame, *, pairs: str) -> Effect:
    """The smallest gradient correlation of the standard normalizers minus batch norm's."""
    table = gradients(frame, pairs, (*STANDARD, "batchnorm"))
    others = table[[*STANDARD]].min(axis=1, skipna=False)
    what = f"gradient correlation ({pairs} batches): least of layernorm and weightnorm - batchnorm"
    return effect(what, others - table["batchnorm"])


def layernorm_gradients(frame: pd.DataFrame) -> Effect:
    """Layer norm's gradient correlation."""
    table = gradients(frame, "similar", ("layernorm",))
    return effect("gradient correlation (similar batches), mean over layers: layernorm", table["layernorm"])


def grows_more(frame: pd.DataFrame) -> Effect:
    """Batch norm's growth minus the largest of the standard normalizers'."""
    ours = growth(frame, "fig2", "batchnorm").by_seed
    others = [growth(frame, "fig2", norm).by_seed for norm in STANDARD]
    seeds = [seed for seed in ours if all(seed in other for other in others)]
    differences = {seed: ours[seed] - max(other[seed] for other in others) for seed in seeds}
    what = "growth per layer of the squared gradient norm: batchnorm - larger of layernorm and weightnorm"
    return Effect(what=what, unit="1", by_seed=differences)


def _at_both(make: Callable[[str], Claim]) -> tuple[Claim, ...]:
    return tuple(make(item) for item in _WHERE)


# A correlation lies in [-1, 1]; by mean-field theory 25 layers leave the ordered rows above 0.99 and the chaotic ones
# below 0.1. A tenth is far below that difference, and about the least that can be seen in the figure.
_VISIBLE = 0.1

CLAIMS = (
    *_at_both(
        lambda item: Claim(
            name=f"c01-{item}",
            statement="Batch Norm preserves less information about the input than any other standard normalization "
            f"technique ({_WHERE[item]}).",
            source="section 4.1",
            items=(item,),
            effect=partial(forgets_most, item=item),
            holds="above",
            threshold=_VISIBLE,
        )
    ),
    *_at_both(
        lambda item: Claim(
            name=f"c02-bmlv-{item}",
            statement=f"Subtracting the batch mean drives the decorrelation: BMLV does as Batch Norm ({_WHERE[item]}).",
            source="section 4.1",
            items=(item,),
            effect=partial(distance, item=item, norm="bmlv"),
            holds="below",
            threshold=_VISIBLE,
        )
    ),
    *_at_both(
        lambda item: Claim(
            name=f"c02-lmbv-{item}",
            statement="Division by the batch's standard deviation plays little role: LMBV decorrelates far less than "
            f"Batch Norm ({_WHERE[item]}).",
            source="section 4.1",
            items=(item,),
            effect=partial(share_of_decay, item=item),
            holds="below",
            threshold=0.5,  # "little" is less than half
        )
    ),
    Claim(
        name="c03-skips",
        statement="Skip connections improve information propagation.",
        source="section 4.1, Figure App.1",
        items=("app1", "fig2"),
        effect=skips_preserve,
        holds="above",
        threshold=_VISIBLE,
    ),
    Claim(
        name="c03-order",
        statement="Skip connections do not change the relative behavior of Batch Norm compared with other normalizers.",
        source="section 4.1, Figure App.1",
        items=("app1",),
        effect=partial(forgets_most, item="app1"),
        holds="above",
        threshold=0.0,  # an order is claimed, not a size
    ),
    *(
        Claim(
            name=f"c04-{pairs}",
            statement=f"Batch Norm produces the most decorrelated gradients ({pairs} batches).",
            source="section 4.2, Figure 1(b)",
            items=("fig1",),
            effect=partial(least_correlated, pairs=pairs),
            holds="above",
            threshold=_VISIBLE,
            remark="The paper does not say which two minibatches its gradients are of; both readings are judged.",
        )
        for pairs in ("similar", "independent")
    ),
    Claim(
        name="c04-layernorm",
        statement="Layer Norm produces highly correlated gradients (similar batches).",
        source="section 4.2, Figure 1(b)",
        items=("fig1",),
        effect=layernorm_gradients,
        holds="above",
        threshold=0.8,  # "highly": four fifths of the most that a correlation can be
    ),
    *(
        Claim(
            name=f"c05-{norm}",
            statement=f"Without skip connections {title} causes gradients to grow with depth.",
            source="section 4.3, Figure 2(b)",
            items=("fig2",),
            effect=partial(growth, item="fig2", norm=norm),
            holds="above",
            threshold=EXPLOSION,
            remark="Mean-field theory: a factor of pi / (pi - 1) = 1.467 per layer of the squared norm.",
        )
        for norm, title in (("batchnorm", "Batch Norm"), ("bmlv", "BMLV"))
    ),
    Claim(
        name="c05-more",
        statement="Batch Norm causes more growth in gradients with depth than other techniques, without skips.",
        source="section 4.3, Figure 2(b)",
        items=("fig2",),
        effect=grows_more,
        holds="above",
        threshold=EXPLOSION - 1,  # half way between theory's two values, in logarithm
    ),
    Claim(
        name="c05-skips",
        statement="With skip connections gradient explosion does not significantly occur.",
        source="section 4.3, Figure App.2",
        items=("app2",),
        effect=partial(growth, item="app2", norm="batchnorm"),
        holds="below",
        threshold=1.1,  # the fourth root of theory's factor without skips
    ),
    *_at_both(
        lambda item: Claim(
            name=f"c06-init-{item}",
            statement="At initialization RegNorm mimics the information propagation properties of Layer Norm "
            f"({_WHERE[item]}).",
            source="section 3.2",
            items=(item,),
            effect=partial(distance, item=item, norm="regnorm", reference="layernorm"),
            holds="below",
            threshold=_VISIBLE / 2,  # the two curves are to be the same, by more than what is visible
        )
    ),
)
