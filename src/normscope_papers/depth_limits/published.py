"""What the paper's figures and tables show as numbers, and why ours may differ; shown beside results, never used.

Figures were read by eye, to about two digits; table D1 is printed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from normscope.study import Effect, Published
from normscope_papers.depth_limits.rates import beginnings
from normscope_papers.depth_limits.rows import item_rows, log_norms, of

if TYPE_CHECKING:
    import pandas as pd

Measured = Callable[["pd.DataFrame"], Effect | None]

_READ = "Read from the figure by eye. "
_BATCHES = "The paper takes one batch for all runs, ours one for each; which images is not said."


def _value(
    quantity: str,
    label: str,
    value: float,
    measured: Measured,
    gap: str,
    *,
    unit: str = "nats",
    spread: float | None = None,
) -> Published:
    return Published(
        quantity=quantity,
        normalizer=label,
        value=value,
        uncertainty=spread,
        unit=unit,
        measured=measured,
        gap=gap,
    )


def _mean(what: str, rows: pd.DataFrame, *, unit: str = "nats") -> Effect | None:
    """The mean of these rows for each seed; None without rows."""
    return of(what, rows.groupby("seed")["value"].mean(), unit=unit) if len(rows) else None


def _gap(frame: pd.DataFrame, *, width: int, last: bool) -> Effect | None:
    rows = item_rows(frame, "fig1", probe="isometry_gap", name="gap", width=width)
    place = rows["depth"].max() if last else 1
    return _mean(f"gap of what enters layer {place}, width {width}", rows[rows["depth"] == place])


def _log_norm(frame: pd.DataFrame, *, item: str, layers: int, layer: int = 2, **where: Any) -> Effect | None:
    rows = log_norms(frame, item, layer=layer, layers=layers, **where)
    return _mean(f"log norm of the gradient by weight {layer}, depth {layers}", rows)


def _rate(frame: pd.DataFrame, *, activation: str, gain: float) -> Effect | None:
    rows = item_rows(frame, "e1", probe="explosion_rate", activation=activation, gain=gain)
    return _mean("rate of explosion", rows, unit="nats/layer")


def _beginning(frame: pd.DataFrame, *, activation: str, exponent: float) -> Effect | None:
    rows = beginnings(frame)
    own = rows[(rows["activation"] == activation) & (rows["exponent"] == exponent)] if len(rows) else rows
    return _mean("rate of explosion at the beginning", own, unit="nats/layer")


def _last_gap(frame: pd.DataFrame, *, layers: int, **where: Any) -> Effect | None:
    return _mean(
        "gap of the last layer", item_rows(frame, "g5", probe="isometry_gap", name="gap", layers=layers, **where)
    )


def _rank(frame: pd.DataFrame, *, name: str, **where: Any) -> Effect | None:
    return _mean(name, item_rows(frame, "d1", name=name, **where), unit="1")


def _accuracy(
    frame: pd.DataFrame,
    *,
    item: str,
    activation: str,
    name: str,
    probe: str = "batch_accuracy",
    layers: int | None = None,
) -> Effect | None:
    """The last accuracy of the network of this depth, or of the deepest that was trained for longest."""
    rows = item_rows(frame, item, probe=probe, name=name, activation=activation)
    rows = rows[rows["step"] == rows["step"].max()] if layers is None else rows[rows["layers"] == layers]
    if rows.empty:
        return None
    deepest = rows[rows["layers"] == rows["layers"].max()]
    ends = deepest[deepest["step"] == deepest["step"].max()]
    return _mean(
        f"{name} of {activation} at depth {ends['layers'].iloc[0]}, step {ends['step'].iloc[0]}", ends, unit="1"
    )


def _middle(frame: pd.DataFrame, *, probe: str) -> Effect | None:
    """Of figure 6: the median over the middle half of the layers at the last step."""
    rows = item_rows(frame, "fig6", probe=probe)
    rows = rows[(rows["step"] == rows["step"].max()) & rows["name"].isin(["weight_gap", "log_norm"])]
    middle = rows[(rows["depth"] > rows["layers"] / 4) & (rows["depth"] <= 3 * rows["layers"] / 4)]
    if middle.empty:
        return None
    return of(f"{probe}, median of the middle layers", middle.groupby("seed")["value"].median(), unit="nats")


FIG_1 = tuple(
    _value(
        f"Figure 1, gap of the {'last' if last else 'first'} layer",
        f"width {width}",
        value,
        partial(_gap, width=width, last=last),
        _READ + "u and v are drawn anew in each run, and the first gap follows from them.",
    )
    for width, last, value in ((50, False, 1.7e-4), (50, True, 3e-6), (100, False, 3.3e-4), (100, True, 4.3e-5))
)
FIG_2 = (
    _value(
        "Figure 2, log ‖∇W₁‖ at depth 1000",
        "repeated samples",
        30.0,
        lambda frame: _mean(
            "log norm of the gradient by weight 2, depth 1000, samples repeated",
            log_norms(frame, "fig2", layers=1000).query("repeated > 0"),
        ),
        _READ + "The paper does not say how many samples are repeated, and the growth is set by that number.",
    ),
    _value(
        "Figure 2, log ‖∇W₁‖ at depth 1000",
        "full rank",
        0.0,
        partial(_log_norm, item="fig2", layers=1000, repeated=0),
        _READ + _BATCHES,
    ),
)
FIG_3 = tuple(
    _value(
        f"Figure 3, log ‖∇W₁‖ at depth {layers}",
        kind,
        value,
        partial(_log_norm, item="fig3", layers=layers, weights=kind),
        _READ + _BATCHES,
    )
    for kind, layers, value in (
        ("orthogonal", 1000, 0.4),
        ("xavier", 5, 0.7),
        ("xavier", 500, 4.3),
        ("xavier", 1000, 10.3),
    )
)
FIG_4 = tuple(
    _value(
        "Figure 4, train accuracy after 1,000 epochs",
        activation,
        value,
        partial(_accuracy, item="fig4", activation=activation, name="train_accuracy"),
        "Read from the figure by eye. At laptop scale ours has 5,000 images, depth 100 and 250 epochs of 50 steps.",
        unit="1",
    )
    for activation, value in (("sin", 0.955), ("tanh", 0.955), ("identity", 0.47))
)
FIG_5 = tuple(
    _value(
        f"Figure 5, log ‖∇W₁‖ at depth {layers}",
        f"{activation}, {'gain l^-0.4' if exponent else 'no gain'}",
        value,
        partial(_log_norm, item="fig5", layers=layers, activation=activation, exponent=exponent),
        _READ + _BATCHES + note,
    )
    for activation, exponent, layers, value, note in (
        ("identity", 0.0, 1000, 0.4, ""),
        ("sin", 0.0, 200, 27.0, " The paper's curve ends here, ours does not."),
        ("tanh", 0.0, 500, 42.0, " The paper's curve ends here, ours does not."),
        ("sin", 0.4, 1000, -1.7, " The paper's curves lie between -1 and -2.4."),
        ("tanh", 0.4, 1000, -1.7, " The paper's curves lie between -1 and -2.4."),
    )
)
FIG_6 = (
    _value(
        "Figure 6, φ(W) of middle layers after 300 epochs",
        "tanh",
        1.3e-4,
        partial(_middle, probe="isometry_gap"),
        "Read from the figure by eye. At laptop scale ours has depth 100 instead of 1,000 and a twelfth of the steps.",
    ),
    _value(
        "Figure 6, log ‖∇W‖ of middle layers",
        "tanh",
        -0.92,
        partial(_middle, probe="weight_gradient_norm"),
        "Read from the figure by eye: 0.4. At laptop scale ours has depth 100, not 1,000, and a twelfth of the steps.",
    ),
)
TABLE_D1 = tuple(
    _value(
        f"Table D1, rank of {size} samples",
        name,
        value,
        partial(_rank, name="raw_rank_float32", data_set=name, samples=size),
        "The paper does not say how pixels were scaled, nor whether its torch computed the rank in float32; the drop "
        "at 512 samples is a matter of the tolerance, as the rank in float64 shows.",
        unit="1",
        spread=spread,
    )
    for size, name, value, spread in (
        (128, "cifar10", 127.99, 0.09),
        (128, "mnist", 128.0, None),
        (128, "fashion", 128.0, None),
        (128, "cifar100", 127.92, 0.27),
        (256, "cifar10", 221.06, None),
        (256, "mnist", 250.48, None),
        (256, "fashion", 238.19, None),
        (256, "cifar100", 218.11, None),
        (512, "cifar10", 203.70, None),
        (512, "mnist", 318.04, None),
        (512, "fashion", 275.37, None),
        (512, "cifar100", 201.51, None),
    )
) + tuple(
    _value(
        "Table D1, mean cosine of 512 samples",
        name,
        value,
        partial(_rank, name="raw_cosine", data_set=name, samples=512),
        "Ours is of pixels whose channels are each divided by their deviation, which are nearly equal.",
        unit="1",
    )
    for name, value in (("cifar10", 0.81), ("mnist", 0.40), ("fashion", 0.58), ("cifar100", 0.81))
)
FIG_E1 = tuple(
    _value(
        "Figure E1, rate at gain 0.9",
        activation,
        value,
        partial(_rate, activation=activation, gain=0.9),
        _READ + "Ours is the mean over the layers of the figure.",
        unit="nats/layer",
    )
    for activation, value in (("sin", 0.092), ("tanh", 0.07))
)
FIG_E2 = tuple(
    _value(
        f"Figure E2, rate at the beginning, exponent {exponent:g}",
        activation,
        value,
        partial(_beginning, activation=activation, exponent=exponent),
        _READ + "The paper does not say which activation the figure is of; all depths are taken together.",
        unit="nats/layer",
    )
    for activation in ("sin", "tanh")
    for exponent, value in ((0.1, 0.054), (0.8, 0.006))
)
FIG_G5 = (
    _value(
        "Figure G5, gap of the last layer at depth 1000",
        "identity, without subtraction of the mean",
        3e-4,
        partial(_last_gap, layers=1000, activation="identity", normalizer="bnl2:moment=rms"),
        _READ + _BATCHES,
    ),
    *(
        _value(
            "Figure G5, gap of the last layer at depth 1000",
            f"{activation}, without subtraction of the mean",
            1.0,
            partial(_last_gap, layers=1000, activation=activation, normalizer="bnl2:moment=rms"),
            _READ + _BATCHES,
        )
        for activation in ("tanh", "sin")
    ),
)
FIG_G6 = tuple(
    _value(
        f"Figure G6, log ‖∇W₀‖ at depth {layers}",
        norm,
        value,
        partial(_log_norm, item="g6", layer=1, layers=layers, normalizer=norm),
        _READ + _BATCHES,
    )
    for norm, layers, value in (
        ("batchnorm", 5, 2.0),
        ("batchnorm", 1000, 2.85),
        ("bnl2", 5, -0.4),
        ("bnl2", 1000, 0.2),
    )
)
_REDUCED = "Read from the figure by eye. At laptop scale ours has 5,000 images, depth 100 and 250 epochs of 50 steps."
ACCURACIES = {
    item: tuple(
        _value(
            f"Figure {item.upper()}, {split} accuracy after 1,000 epochs",
            "sin and tanh",
            value,
            partial(_accuracy, item=item, activation="tanh", name=f"{split}_accuracy", probe=probe),
            f"{_REDUCED} Ours is tanh's.",
            unit="1",
        )
        for split, probe, value in (("train", "batch_accuracy", train), ("test", "evaluation", test))
    )
    for item, train, test in (("g1", 1.0, 0.97), ("g2", 1.0, 0.87), ("g3", 0.62, 0.2), ("g4", 0.955, 0.42))
}
"""Train accuracies that the paper shows as nearly 1 are entered as 1."""
