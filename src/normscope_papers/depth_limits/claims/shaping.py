"""Points 7 and 8, and the sign of equation 165: activations and their gains."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from normscope.study import Claim, Effect
from normscope_papers.common.rows import effect, nothing
from normscope_papers.depth_limits.claims.gradients import FLAT, PER_LAYER
from normscope_papers.depth_limits.rates import growths, powers
from normscope_papers.depth_limits.rows import log_norms, rows_with_conditions, slopes, table

if TYPE_CHECKING:
    import pandas as pd

SHAPED = ("sin", "tanh")


def beside_theory(frame: pd.DataFrame, *, activation: str) -> Effect:
    """How far the slope without gain lies from theory's, relative to it."""
    where: dict[str, Any] = {"activation": activation, "exponent": 0.0}
    measured = slopes(log_norms(frame, "fig5", **where))
    theory = rows_with_conditions(frame, "fig5", probe="theory.weight_gradient_norm", name="log_norm", **where)
    what = f"|slope of log ‖∇W₂‖ against depth over theory's rate - 1|, {activation} without gain"
    if theory.empty:
        return nothing(what)
    deepest = theory[theory["layers"] == theory["layers"].max()]
    by_place = table(deepest, "depth")
    second, last = int(by_place.columns[0]), int(by_place.columns[-1])
    rate = (by_place[second] - by_place[last]) / (last - second)
    return effect(what, (measured / rate - 1).abs())


def _largest(values: dict[str, pd.Series[float]]) -> pd.Series[float]:
    import pandas as pd

    largest: pd.Series[float] = pd.DataFrame(values, dtype=float).max(axis=1, skipna=False)
    return largest.rename_axis("seed")


def shaped_is_flat(frame: pd.DataFrame, *, exponent: float = 0.4) -> Effect:
    """The larger size of the slope of the two activations with the paper's gain."""
    found = {name: slopes(log_norms(frame, "fig5", activation=name, exponent=exponent)).abs() for name in SHAPED}
    what = f"|slope of log ‖∇W₂‖ against depth|, gain l^-{exponent:g}, larger of sin and tanh"
    return effect(what, _largest(found), unit=PER_LAYER)


def still_grows(frame: pd.DataFrame, *, exponent: float) -> Effect:
    """By how much the growth over all layers rises with the depth of the network, least of both activations."""
    rows = growths(frame)
    what = f"slope of the growth of log ‖∇W‖ over all layers against depth, gain l^-{exponent:g}, less of sin and tanh"
    if rows.empty:
        return nothing(what, unit=PER_LAYER)
    own = rows[rows["exponent"] == exponent]
    found = {name: -slopes(own[own["activation"] == name]) for name in SHAPED}
    return effect(what, -_largest(found), unit=PER_LAYER)


def rates(frame: pd.DataFrame) -> pd.DataFrame:
    """Rates of figure E1 at the largest gain: (seed, activation) x layers."""
    rows = rows_with_conditions(frame, "e1", probe="explosion_rate", name="rate")
    if rows.empty:
        return rows
    largest = rows[rows["gain"] == rows["gain"].max()]
    by_layer: pd.DataFrame = largest.groupby(["seed", "activation", "depth"])["value"].mean().unstack("depth")
    return by_layer


def as_printed(frame: pd.DataFrame) -> Effect:
    """Equation 165 as it is printed, at the largest gain: the opposite of the rate; largest of both activations."""
    what = "(log ‖∇W_l‖ - log ‖∇W_{l-10}‖)/10 at the largest gain, largest of both activations"
    found = rates(frame)
    if found.empty:
        return nothing(what, unit=PER_LAYER)
    return effect(what, (-found.mean(axis=1, skipna=False)).groupby("seed").max(), unit=PER_LAYER)


def as_drawn(frame: pd.DataFrame) -> Effect:
    """The rate as figure E1 draws it, at the largest gain, least of both activations."""
    what = "(log ‖∇W_{l-10}‖ - log ‖∇W_l‖)/10 at the largest gain, less of both activations"
    found = rates(frame)
    if found.empty:
        return nothing(what, unit=PER_LAYER)
    return effect(what, found.mean(axis=1, skipna=False).groupby("seed").min(), unit=PER_LAYER)


def coincide(frame: pd.DataFrame) -> Effect:
    """The spread over layers of the rate at the largest gain, over its mean; larger of both activations."""
    what = "rate at the largest gain: (largest - least of all layers) / mean, larger of both activations"
    found = rates(frame)
    if found.empty:
        return nothing(what)
    spread = (found.max(axis=1, skipna=False) - found.min(axis=1, skipna=False)) / found.mean(axis=1)
    return effect(what, spread.groupby("seed").max())


def power(frame: pd.DataFrame, *, of_logarithms: bool) -> Effect:
    """How far the fitted power lies from 3, larger of both activations."""
    found = {name: (powers(frame, name, of_logarithms=of_logarithms)["c2"] - 3).abs() for name in SHAPED}
    fit = "logarithms" if of_logarithms else "rates"
    return effect(f"|c₂ - 3| of the rate c₁ α^c₂, larger of sin and tanh, least squares of {fit}", _largest(found))


# One part in seven: theory is of infinite width and an orthogonal batch. At 100 units and 100 samples Gaussian weights
# grow twice as fast as at infinite width, by 0.005 per layer, which is a sixteenth of tanh's 0.082.
_NEAR_THEORY = 0.15
_SIGN = (
    "Equation 165 is printed with the opposite sign: it is negative where gradients explode, while figure E1 shows "
    "positive rates."
)
_POWER = (
    "The paper does not say what its fit minimizes; both readings are judged. Theory has 4 at small gains, and less "
    "near 1. With c₂ = 4 exponents above 1/4 suffice, with 3 above 1/3."
)


CLAIMS = (
    *(
        Claim(
            name=f"c07-{activation}",
            statement=f"Without gain {activation} makes gradients explode at theory's rate, ½ log χ(1) = {rate:.3f}.",
            source="Figure 5; rate derived",
            items=("fig5",),
            effect=partial(beside_theory, activation=activation),
            holds="below",
            threshold=_NEAR_THEORY,
        )
        for activation, rate in (("sin", 0.136), ("tanh", 0.082))
    ),
    Claim(
        name="c07-coincide",
        statement="The rate of explosion is the same in all layers of a network with one gain.",
        source="Figure E1",
        items=("e1",),
        effect=coincide,
        holds="below",
        threshold=0.25,  # a quarter of the rate: what keeps the curves of the figure together
    ),
    *(
        Claim(
            name=f"c07-power-of-{fit}",
            statement=f"The rate of explosion is a power of the gain, with an exponent near 3 (fit of {fit}).",
            source="appendix E, Figure E1",
            items=("e1",),
            effect=partial(power, of_logarithms=fit == "logarithms"),
            holds="below",
            threshold=0.5,  # nearer to 3 than to 2 or to theory's 4
            remark=_POWER,
        )
        for fit in ("logarithms", "rates")
    ),
    Claim(
        name="c08-flat",
        statement="With gains l^-0.4 gradients of networks with sin and tanh do not explode with depth.",
        source="Figure 5",
        items=("fig5",),
        effect=shaped_is_flat,
        holds="below",
        threshold=FLAT,
    ),
    *(
        Claim(
            name=f"c08-exponent-{exponent:g}",
            statement=f"With gains l^-{exponent:g} they do.",
            source="Figure E2; derived for exponents up to 1/4",
            items=("e2",),
            effect=partial(still_grows, exponent=exponent),
            holds="above",
            threshold=FLAT,
        )
        for exponent in (0.1, 0.2)
    ),
    Claim(
        name="s3-eq165-printed",
        statement="Equation 165 as printed is positive where gradients explode.",
        source="equation 165",
        items=("e1",),
        effect=as_printed,
        holds="above",
        threshold=0.0,
        remark=_SIGN,
    ),
    Claim(
        name="s3-eq165-drawn",
        statement="With the opposite sign it is, as figure E1 draws it.",
        source="Figure E1",
        items=("e1",),
        effect=as_drawn,
        holds="above",
        threshold=0.0,
        remark=_SIGN,
    ),
)
