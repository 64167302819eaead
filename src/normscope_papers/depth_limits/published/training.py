"""Figures 4, 6, F1, F2 and G1 to G4, read by eye to about two digits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from normscope.study import Effect, Published
from normscope_papers.common.published import known, mean, published
from normscope_papers.common.rows import effect
from normscope_papers.depth_limits import notes
from normscope_papers.depth_limits.rows import rows_with_conditions

if TYPE_CHECKING:
    import pandas as pd


def _accuracy(frame: pd.DataFrame, *, item: str, activation: str, name: str, probe: str) -> Effect | None:
    """The last accuracy of the deepest network that was trained for longest."""
    rows = rows_with_conditions(frame, item, probe=probe, name=name, activation=activation)
    ended = rows[rows["step"] == rows["step"].max()]
    if ended.empty:
        return None
    deepest = ended[ended["layers"] == ended["layers"].max()]
    return mean(f"{name} of {activation} at depth {_of(deepest)}", deepest)


def _of(rows: pd.DataFrame) -> str:
    return f"{rows['layers'].iloc[0]}, step {rows['step'].iloc[0]}"


def _hidden(frame: pd.DataFrame, item: str, *, probe: str, epoch: int | None = None) -> pd.DataFrame:
    """Rows of the square weights of the deepest network, after an epoch if that was measured, else at the last step.

    The first step that is measured after step 0 is the end of the first epoch.
    """
    names = ["weight_gap", "log_norm"]
    rows = rows_with_conditions(frame, item, probe=probe, name=names)
    rows = rows[rows["layers"] == rows["layers"].max()] if len(rows) else rows
    after = rows[rows["step"] > 0]
    if after.empty:
        return after
    wanted = None if epoch is None else epoch * after["step"].min()
    found = after[after["step"] == (wanted if wanted in set(after["step"]) else after["step"].max())]
    return found[(found["depth"] > 1) & (found["depth"] <= found["layers"])]


def _middle(frame: pd.DataFrame, *, probe: str, epoch: int) -> Effect | None:
    """The median over the middle half of the layers."""
    rows = _hidden(frame, "fig6", probe=probe, epoch=epoch)
    if rows.empty:
        return None
    middle = rows[(rows["depth"] > rows["layers"] / 4) & (rows["depth"] <= 3 * rows["layers"] / 4)]
    what = f"{probe}, median of the middle layers at depth {_of(rows)}"
    return known(effect(what, middle.groupby("seed")["value"].median(), unit="nats"))


def _extreme(frame: pd.DataFrame, *, item: str, largest: bool) -> Effect | None:
    """The largest or least log norm of the gradient by a square weight at the last step."""
    rows = _hidden(frame, item, probe="weight_gradient_norm")
    if rows.empty:
        return None
    by_seed = rows.groupby("seed")["value"]
    what = f"log norm of the gradient, {'largest' if largest else 'least'} of hidden layers at depth {_of(rows)}"
    return known(effect(what, by_seed.max() if largest else by_seed.min(), unit="nats"))


_SIZES = (
    "At laptop scale ours has 5,000 images, depth 100 and 50 epochs of 50 steps at rate 0.01: the steps times the rate "
    "are an eighteenth of the paper's."
)
_SHORTER = f"{notes.READ} {_SIZES}"
_FITS = (
    " So few images a linear network fits too, in time, which makes the distance of the identity from the others less "
    "than in the figure."
)
_TENTH = (
    f"{notes.READ} At laptop scale ours has 10 epochs of 50 steps at rate 0.01, the figure 300 of 500 at 0.001: thirty "
    "times the steps times the rate."
)

FIG_4 = tuple(
    published(
        "Figure 4, train accuracy after 1,000 epochs",
        activation,
        value,
        partial(_accuracy, item="fig4", activation=activation, name="train_accuracy", probe="batch_accuracy"),
        _SHORTER + _FITS,
    )
    for activation, value in (("sin", 0.955), ("tanh", 0.955), ("identity", 0.47))
)
WEIGHTS = {
    "fig6": (
        published(
            "Figure 6, φ(W) of middle layers after 300 epochs",
            "tanh",
            1.3e-4,
            partial(_middle, probe="isometry_gap", epoch=300),
            _TENTH,
            unit="nats",
        ),
        published(
            "Figure 6, log ‖∇W‖ of middle layers after 300 epochs",
            "tanh",
            -0.92,
            partial(_middle, probe="weight_gradient_norm", epoch=300),
            f"{_TENTH} The figure shows 0.4.",
            unit="nats",
        ),
    ),
    **{
        item: tuple(
            published(
                f"Figure {item.upper()}, log ‖∇W‖, {'largest' if largest else 'least'} of hidden layers",
                activation,
                value,
                partial(_extreme, item=item, largest=largest),
                f"{notes.READ} The figure shows 0.1 to 10. At laptop scale ours has width 32, depth 320 and 10 epochs.",
                unit="nats",
            )
            for largest, value in ((False, -2.3), (True, 2.3))
        )
        for item, activation in (("f1", "sin"), ("f2", "tanh"))
    },
}


def _of_figure(item: str, train: float, test: float, chance: float) -> Iterator[Published]:
    """Accuracies of tanh, and the chance to which identity networks fall on test data."""
    for split, probe, value in (("train", "batch_accuracy", train), ("test", "evaluation", test)):
        yield published(
            f"Figure {item.upper()}, {split} accuracy after 1,000 epochs",
            "sin and tanh",
            value,
            partial(_accuracy, item=item, activation="tanh", name=f"{split}_accuracy", probe=probe),
            f"{_SHORTER} Ours is tanh's.",
        )
    yield published(
        f"Figure {item.upper()}, test accuracy after 1,000 epochs, depth 500 and 1,000",
        "identity",
        chance,
        partial(_accuracy, item=item, activation="identity", name="test_accuracy", probe="evaluation"),
        f"{_SHORTER} The figure shows chance for depth 500 and 1,000 only, late in training.",
    )


def _of_a_third_party() -> Iterator[Published]:
    for name, probe, value in (("train", "batch_accuracy", 0.883), ("test", "evaluation", 0.097)):
        yield published(
            f"A third party's reproduction of figure G1, {name} accuracy at depth 1,000 after about 200 epochs",
            "identity",
            value,
            partial(_accuracy, item="g1", activation="identity", name=f"{name}_accuracy", probe=probe),
            f"Neither the paper's nor ours. {_SIZES}",
        )


ACCURACIES = {
    "g1": (*_of_figure("g1", 1.0, 0.97, 0.1), *_of_a_third_party()),
    "g2": tuple(_of_figure("g2", 1.0, 0.87, 0.1)),
    "g3": tuple(_of_figure("g3", 0.62, 0.2, 0.01)),
    "g4": tuple(_of_figure("g4", 0.955, 0.42, 0.1)),
}
"""Train accuracies that the paper shows as nearly 1 are entered as 1."""
