"""Points 7 and 8, and the sign of equation 165: activations and their gains."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from normscope.study import Claim, Effect
from normscope_papers.common.rows import effect, log, nothing
from normscope_papers.depth_limits.claims.gradients import FLAT, PER_LAYER
from normscope_papers.depth_limits.rates import beginnings, growths, powers
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


def _least(values: dict[str, pd.Series[float]]) -> pd.Series[float]:
    return -_largest({name: -found for name, found in values.items()})


def shaped_slope(frame: pd.DataFrame, *, least: bool) -> Effect:
    """The larger, or the less, of the slopes of the two activations with the paper's gain."""
    found = {name: slopes(log_norms(frame, "fig5", activation=name, exponent=0.4)) for name in SHAPED}
    what = f"slope of log ‖∇W₂‖ against depth, gain l^-0.4, {'less' if least else 'larger'} of sin and tanh"
    return effect(what, (_least if least else _largest)(found), unit=PER_LAYER)


def _growth_slopes(frame: pd.DataFrame, exponent: float) -> dict[str, pd.Series[float]]:
    """By how much the growth over all layers rises with the depth of the network, by activation."""
    return {name: slopes(growths(frame, "e2", activation=name, exponent=exponent)) for name in SHAPED}


def growth_by_depth(frame: pd.DataFrame, *, exponent: float, least: bool) -> Effect:
    """The slope of that growth, less or larger of both activations."""
    which = "less" if least else "larger"
    what = (
        f"slope of the growth of log ‖∇W‖ over all layers against depth, gain l^-{exponent:g}, {which} of sin and tanh"
    )
    found = _growth_slopes(frame, exponent)
    return effect(what, (_least if least else _largest)(found), unit=PER_LAYER)


def less_than_half(frame: pd.DataFrame) -> Effect:
    """Half of that slope with exponent 0.2 less that with 0.4, less of both activations."""
    what = "slope of growth against depth: half of that with l^-0.2 - that with l^-0.4, less of sin and tanh"
    larger, smaller = (_growth_slopes(frame, exponent) for exponent in (0.2, 0.4))
    return effect(what, _least({name: larger[name] / 2 - smaller[name] for name in SHAPED}), unit=PER_LAYER)


def _beginning(frame: pd.DataFrame, exponent: float) -> dict[str, pd.Series[float]]:
    """Rate of explosion at the beginning by activation, mean over the depths of networks."""
    rows = beginnings(frame)
    if rows.empty:
        return {}
    own = rows[rows["exponent"] == exponent]
    return {name: own[own["activation"] == name].groupby("seed")["value"].mean() for name in SHAPED}


def beginning_falls(frame: pd.DataFrame) -> Effect:
    """Log of the rate at the beginning with exponent 0.1 over that with 0.8, larger of both activations."""
    what = "log of the rate at the beginning with l^-0.1 over that with l^-0.8, larger of sin and tanh"
    first, last = _beginning(frame, 0.1), _beginning(frame, 0.8)
    if not first or not last:
        return nothing(what)
    return effect(what, _largest({name: log(first[name] / last[name]) for name in SHAPED}))


def beginning_ends(frame: pd.DataFrame) -> Effect:
    """The rate at the beginning with exponent 0.8, less of both activations."""
    what = "rate of explosion at the beginning, gain l^-0.8, less of sin and tanh"
    found = _beginning(frame, 0.8)
    return effect(what, _least(found), unit=PER_LAYER) if found else nothing(what, unit=PER_LAYER)


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
_BEGINNING = (
    "The paper does not say which activation the figure is of; that one of sin and tanh is judged which is nearer to "
    "it. Where gains shrink fast the rate is mostly the batch's, whose images become orthogonal over tens of layers: "
    "of an orthogonal batch theory has 0.003 (sin) and 0.005 (tanh)."
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
            source=source,
            items=("fig5",),
            effect=partial(beside_theory, activation=activation),
            holds="below",
            threshold=_NEAR_THEORY,
        )
        for activation, rate, source in (
            ("sin", 0.136, "Figure 5; rate derived"),
            ("tanh", 0.082, "Figure 5; rate derived"),
            ("relu", 0.192, "not in the paper; Yang et al. 2019, of infinite width"),
        )
    ),
    Claim(
        name="c07-coincide",
        statement="The rate of explosion is the same in all layers of a network with a gain of 0.9 in each.",
        source="Figure E1, at its largest gain",
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
        effect=partial(shaped_slope, least=False),
        holds="below",
        threshold=FLAT,
    ),
    Claim(
        name="c08-no-vanishing",
        statement="Nor do they vanish.",
        source="Figure 5",
        items=("fig5",),
        effect=partial(shaped_slope, least=True),
        holds="above",
        threshold=-FLAT,
    ),
    *(
        Claim(
            name=f"c08-exponent-{exponent:g}",
            statement=f"With gains l^-{exponent:g} growth over all layers rises with the depth of the network.",
            source="Figure E2; derived for exponents up to 1/4",
            items=("e2",),
            effect=partial(growth_by_depth, exponent=exponent, least=True),
            holds="above",
            threshold=FLAT,
        )
        for exponent in (0.1, 0.2)
    ),
    Claim(
        name="c08-exponent-0.4",
        statement="With gains l^-0.4 it does not.",
        source="section 5; derived for exponents above 1/4",
        items=("e2",),
        effect=partial(growth_by_depth, exponent=0.4, least=False),
        holds="below",
        threshold=FLAT,
    ),
    Claim(
        name="c08-0.4-beside-0.2",
        statement="It rises less than half as fast with gains l^-0.4 as with l^-0.2.",
        source="derived: 1/4 lies between the two exponents",
        items=("e2",),
        effect=less_than_half,
        holds="above",
        threshold=0.0,  # theory has a sixtieth, at infinite width
    ),
    Claim(
        name="e2-falls",
        statement="The rate of explosion at the beginning falls to a ninth as the exponent goes from 0.1 to 0.8.",
        source="Figure E2",
        items=("e2",),
        effect=beginning_falls,
        holds="above",
        threshold=math.log(4.5),  # half of the figure's factor of nine
        remark=_BEGINNING,
    ),
    Claim(
        name="e2-level",
        statement="With an exponent of 0.8 it is 0.006 nats per layer.",
        source="Figure E2",
        items=("e2",),
        effect=beginning_ends,
        holds="below",
        threshold=0.012,  # twice the figure's
        remark=_BEGINNING,
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
