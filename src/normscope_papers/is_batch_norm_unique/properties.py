"""Table 2's properties: for each a number from rows, and the rule by which it is a plus, a minus or something between.

The rules were written before the first laptop run. They judge each normalizer by a number of its own, or beside the
network without normalizer or with batch norm; none is drawn so that the paper's signs come out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from normscope.study import Effect
from normscope_papers.common.rows import at, at_chosen_rate, effect, final_values, last, nothing, pick, wide

if TYPE_CHECKING:
    import pandas as pd

NORMS = ("batchnorm", "bmlv", "layernorm", "prelayernorm", "regnorm")

EXPLOSION = math.sqrt(math.pi / (math.pi - 1))
"""Growth per layer of the squared gradient norm from which on it explodes, 1.21: the geometric mean of the two values
that theory has, 1 and pi / (pi - 1) = 1.467."""


@dataclass(frozen=True, kw_only=True)
class Property:
    """One row of table 2.

    Attributes:
        measured: the number of a normalizer by seed, from rows of `item`.
        holds: whether a plus lies above or below.
        plus, minus: from which value on it is a plus, and a minus; between them '~'.
        rule: both in words.
        paper: the paper's sign of each of `NORMS`, in order.
    """

    name: str
    item: str
    measured: Callable[[pd.DataFrame, str], Effect]
    holds: Literal["above", "below"]
    plus: float
    minus: float
    rule: str
    paper: str

    def sign(self, value: float) -> str:
        """'+', '~' or '-'."""
        side = 1 if self.holds == "above" else -1
        if side * value >= side * self.plus:
            return "+"
        return "-" if side * value <= side * self.minus else "~"

    @property
    def signs(self) -> Mapping[str, str]:
        """The paper's sign by normalizer."""
        return dict(zip(NORMS, self.paper, strict=True))


def growth(frame: pd.DataFrame, item: str, norm: str, *, step: int = 0, condition: str | None = None) -> Effect:
    """Factor per layer, backwards, of the squared gradient norm: geometric mean from the last site to the first."""
    rows = pick(at_chosen_rate(frame, item), probe="gradient_norm", name="norm", step=step, normalizer=norm)
    rows = rows if condition is None else pick(rows, condition=condition)
    what = f"growth per layer of the squared gradient norm, {norm}"
    if rows.empty:
        return Effect(what=what, unit="1", by_seed={})
    deepest = wide(last(rows, "depth"), [norm])[norm]
    first = wide(pick(rows, depth=1), [norm])[norm]
    layers = int(rows["depth"].max()) - 1
    return effect(what, (first / deepest) ** (2 / layers))


def _centered_and_scaled(frame: pd.DataFrame, norm: str) -> Effect:
    what = "squared distance of means from 0 or of root mean squares from 1, the larger; over batch or layer"
    rows = pick(frame, item="table2", probe="moments", normalizer=norm)
    if rows.empty:
        return nothing(what)
    values = rows.pivot_table(index=["seed", "depth"], columns="name", values="value")
    for over in ("batch", "layer"):
        values[f"{over}_centering"] = values[f"{over}_mean"] ** 2
        values[f"{over}_scaling"] = (values[f"{over}_rms"] - 1) ** 2 + values[f"{over}_spread"] ** 2
    over_sites = values.groupby("seed").mean()
    centering, scaling = (
        over_sites[[f"batch_{part}", f"layer_{part}"]].min(axis=1) for part in ("centering", "scaling")
    )
    return effect(what, centering.where(centering > scaling, scaling))


def _accuracy_beside_batchnorm(frame: pd.DataFrame, norm: str) -> Effect:
    rows = pick(at_chosen_rate(frame, "fig3"), probe="evaluation", name="test_accuracy")
    table = wide(rows, ["batchnorm", norm])
    return effect("test accuracy, mean over steps, in units of batchnorm's", table[norm] / table["batchnorm"])


def _trains_deep(frame: pd.DataFrame, norm: str) -> Effect:
    values = final_values(pick(at_chosen_rate(frame, "fig3"), normalizer=norm), "test_accuracy")
    return effect("final test accuracy of the deepest network without skips", values.groupby("seed")["value"].mean())


def _outliers_beside_none(frame: pd.DataFrame, norm: str) -> Effect:
    rows = pick(last(at_chosen_rate(frame, "fig6"), "step"), probe="sharpness", name="lambda_ratio")
    table = wide(rows, ["none", norm])
    return effect("λ₁/λ₁₀ at the last step, in units of none's", table[norm] / table["none"])


def _batch_dependence(frame: pd.DataFrame, norm: str) -> Effect:
    rows = pick(frame, item="table2", probe="batch_dependence", name="train_change")
    return effect("change of outputs with the rest of the batch", wide(rows, [norm])[norm])


def _train_test(frame: pd.DataFrame, norm: str) -> Effect:
    rows = pick(frame, item="table2", probe="train_eval_gap", name="change")
    return effect("distance of outputs in train and eval mode", wide(rows, [norm])[norm])


def _worse_of_both(frame: pd.DataFrame, norm: str) -> Effect:
    one, other = _batch_dependence(frame, norm), _train_test(frame, norm)
    worst = {seed: max(one.by_seed[seed], other.by_seed[seed]) for seed in one.by_seed if seed in other.by_seed}
    return Effect(what="the larger of the two above", unit="1", by_seed=worst)


def _confusion(frame: pd.DataFrame, norm: str) -> Effect:
    rows = pick(at_chosen_rate(frame, "fig3"), probe="gradient_correlation", name="similar", normalizer=norm)
    return effect(
        "gradient correlation of similar batches, mean over steps", wide(rows[rows["step"] > 0], [norm])[norm]
    )


def rise(frame: pd.DataFrame, norm: str) -> Effect:
    """How far the final layer's correlation rises above its value at initialization."""
    curve = correlations(frame, [norm])[norm]
    what = f"largest rise of the final layer's correlation above initialization: {norm}"
    return effect(what, curve.groupby("seed").max() - at(curve, 0))


def correlations(frame: pd.DataFrame, norms: list[str]) -> pd.DataFrame:
    """Figure 3(b): correlation at the last site, by seed and step, one column per normalizer."""
    rows = pick(at_chosen_rate(frame, "fig3"), probe="information_propagation", name="correlation")
    return wide(rows, norms, along=["step"])


def _explosion(frame: pd.DataFrame, norm: str) -> Effect:
    return growth(frame, "table2", norm)


_ROUNDING = 1e-4  # float32 through 26 layers; what couples examples changes outputs by tenths

PROPERTIES = (
    Property(
        name="consistent scaling and centering",
        item="table2",
        measured=_centered_and_scaled,
        holds="below",
        plus=0.1,
        minus=0.5,
        rule="squared means, and squared distances of root mean squares from 1, at initialization, each over the batch "
        "or over the layer, where its mean over sites is smaller; the larger of the two: + up to 0.1, - from 0.5",
        paper="+++++",
    ),
    Property(
        name="faster training and better generalization",
        item="fig3",
        measured=_accuracy_beside_batchnorm,
        holds="above",
        plus=0.9,
        minus=0.8,
        rule="accuracy over the first steps beside batchnorm's: + from 0.9, - up to 0.8",
        paper="++-++",
    ),
    Property(
        name="allows training deeper networks",
        item="fig3",
        measured=_trains_deep,
        holds="above",
        plus=0.2,
        minus=0.15,
        rule="final accuracy without skips, ten classes: + from twice chance, - up to one and a half times",
        paper="+++++",
    ),
    Property(
        name="suppresses outlier eigenvalues through training",
        item="fig6",
        measured=_outliers_beside_none,
        holds="below",
        plus=0.8,
        minus=1.0,
        rule="λ₁/λ₁₀ beside the network without normalizer: + up to 0.8, - from 1",
        paper="++-++",
    ),
    Property(
        name="no dependence on batch size",
        item="table2",
        measured=_batch_dependence,
        holds="below",
        plus=_ROUNDING,
        minus=_ROUNDING,
        rule="+ where outputs change by no more than rounding (1e-4) when half the batch is exchanged",
        paper="--+++",
    ),
    Property(
        name="consistent training and test behavior",
        item="table2",
        measured=_train_test,
        holds="below",
        plus=_ROUNDING,
        minus=_ROUNDING,
        rule="+ where outputs in train and eval mode differ by no more than rounding (1e-4)",
        paper="--+++",
    ),
    Property(
        name="easy in sequential or recurrent models",
        item="table2",
        measured=_worse_of_both,
        holds="below",
        plus=_ROUNDING,
        minus=_ROUNDING,
        rule="+ where both rows above are +: these are the two difficulties that section 2 names",
        paper="--+++",
    ),
    Property(
        name="reduces gradient confusion through training",
        item="fig3",
        measured=_confusion,
        holds="below",
        plus=0.5,
        minus=0.9,
        rule="gradient correlation of similar batches: + up to 0.5, - from 0.9",
        paper="++-~~",
    ),
    Property(
        name="goes from chaotic to ordered in early training",
        item="fig3",
        measured=rise,
        holds="above",
        plus=0.1,
        minus=0.05,
        rule="the final layer's correlation rises: + by 0.1 or more, - by 0.05 or less",
        paper="+++++",
    ),
    Property(
        name="induces gradient explosion",
        item="table2",
        measured=_explosion,
        holds="above",
        plus=EXPLOSION,
        minus=EXPLOSION,
        rule="+ from a growth of 1.21 per layer at initialization, half way between theory's 1 and 1.467",
        paper="++---",
    ),
)
