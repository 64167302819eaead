"""Draw the tutorials' figures from the numbers that their code computes: ``python docs/figures/draw.py``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Numbers = Mapping[str, Any]  # the names that a tutorial's code leaves behind

FOLDER = Path(__file__).parent
TUTORIALS = FOLDER.parent / "tutorials"

_BLUE, _GREEN, _VERMILION, _THEORY = "#0072B2", "#009E73", "#D55E00", "#777777"
_RC = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
}


def explosion(numbers: Numbers, ax: Axes) -> None:
    """Log gradient norm by layer of three networks, each with the slopes that theory gives from its last layer on."""
    theory, profiles = numbers["theory"], numbers["profiles"]
    networks = {
        "as it is (ReLU)": (_VERMILION, "ReLU, as it is"),
        "skips": (_BLUE, "ReLU, skips"),
        "shaped tanh, orthogonal": (_GREEN, "shaped tanh, orthogonal weights"),
    }
    layers = range(2, 41)  # the first is of another shape
    for name, (color, label) in networks.items():
        values, stderr = profiles[name].values, profiles[name].stderr
        ax.fill_between(layers, values - stderr, values + stderr, color=color, alpha=0.16, linewidth=0)
        ax.plot(layers, values, color=color, linewidth=1.6, label=label)
    rates = {
        "as it is (ReLU)": [theory.activation_growth("relu", 1.0)] * 38,
        "shaped tanh, orthogonal": theory.shaped_growth("tanh", 0.4, depth=40)[1:39].tolist(),
    }
    for name, growth in rates.items():
        last = profiles[name].values[-1].item()
        predicted = [last + sum(growth[start:]) for start in range(39)]
        ax.plot(layers, predicted, color=_THEORY, linewidth=1.2, linestyle=(0, (5, 3)), zorder=3)
    ax.plot([], [], color=_THEORY, linewidth=1.2, linestyle=(0, (5, 3)), label="theory, from the last layer")
    ax.set(xlabel="layer", ylabel="log gradient norm (nats)", xlim=(1, 41))
    ax.legend(loc="upper right")


def relative_loss(numbers: Numbers, ax: Axes) -> None:
    """Relative loss by rate of the two networks, with 2/λ of each."""
    for name, color in (("batch norm", _BLUE), ("no norm", _VERMILION)):
        points = [
            (rate, ratio)
            for rate, ratio in zip(numbers["rates"], numbers["ratios"][name].tolist(), strict=True)
            if math.isfinite(ratio)
        ]
        ax.plot(*zip(*points, strict=True), color=color, linewidth=1.6, marker="o", markersize=2.5, label=name)
        limit = numbers["limits"][name]
        ax.axvline(limit, ymax=0.55, color=color, linewidth=1.2, linestyle=(0, (5, 3)), label=f"2/λ, {name}")
    for level in (1, 1000):
        ax.axhline(level, color=_THEORY, linewidth=0.8)
    ax.set(xscale="log", yscale="log", ylim=(0.3, 1e5))
    ax.set(xlabel="learning rate", ylabel="loss after one step / loss before")
    ax.legend(loc="upper left")


def small_batches(numbers: Numbers, ax: Axes) -> None:
    """Accuracy on unseen turned digits by examples trained on, of four runs."""
    styles = {
        "prelayernorm": (_BLUE, "-", "PreLayerNorm, batches of 2"),
        "batches of 32, rate 0.01": (_THEORY, "-", "batch norm, batches of 32"),
        "batches of 2, rate 0.01": (_VERMILION, "-", "batch norm, batches of 2"),
        "batches of 2, rate 0.001": (_VERMILION, (0, (5, 3)), "the same, a tenth of the rate"),
    }
    for name, (color, line, label) in styles.items():
        accuracies = numbers["runs"][name]
        seen = [200 * quarter for quarter in range(len(accuracies))]
        ax.plot(seen, accuracies, color=color, linestyle=line, linewidth=1.6, marker="o", markersize=3, label=label)
    ax.axhline(0.1, color=_THEORY, linewidth=0.8)
    ax.set(xlabel="turned examples trained on", ylabel="accuracy on unseen turned digits", ylim=(0, 1))
    ax.legend(loc="center right", bbox_to_anchor=(1, 0.56), fontsize=8)


FIGURES: Mapping[str, Callable[[Numbers, Axes], None]] = {
    "why-gradients-explode": explosion,
    "which-learning-rate": relative_loss,
    "replace-batch-norm": small_batches,
}


def draw(name: str, numbers: Numbers, folder: Path) -> Path:
    """Draw the figure of one tutorial as `folder`/`name`.png."""
    path = folder / f"{name}.png"
    with matplotlib.style.context(["default", _RC]):
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        FIGURES[name](numbers, figure.subplots())
        figure.savefig(path, dpi=120)
    return path


def main() -> None:
    """Run every tutorial and draw its figure beside this file."""
    for name in FIGURES:
        numbers: dict[str, Any] = {}
        for block in re.findall(r"```python\n(.*?)```", (TUTORIALS / f"{name}.md").read_text(), re.DOTALL):
            exec(compile(block, name, "exec"), numbers)
        print(draw(name, numbers, FOLDER))


if __name__ == "__main__":
    main()
