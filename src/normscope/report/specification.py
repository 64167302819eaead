"""A figure as data: what is drawn, in which units, with its numbers. Renderers and tables read nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its title, its unit ("1" for a pure number), its scale, and the bounds of what it can hold, if any."""

    title: str
    unit: str = "1"
    log: bool = False
    bounds: tuple[float, float] | None = None

    @property
    def label(self) -> str:
        """The title with its unit, as written along the axis."""
        return self.title if self.unit == "1" else f"{self.title} ({self.unit})"


@dataclass(frozen=True, slots=True)
class Series:
    """One line: the mean over seeds with its 95 % interval, and the single seeds behind it. NaN where there is none."""

    normalizer: str  # also the style key
    kind: Literal["measured", "theory"]
    x: tuple[float, ...]
    y: tuple[float, ...]
    lo: tuple[float, ...]
    hi: tuple[float, ...]
    seeds: tuple[tuple[int, tuple[float, ...]], ...]  # (seed, its value at every x)


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes with its lines."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]

    @property
    def view(self) -> tuple[float, float] | None:
        """The stretch of y to show; None where y has no bounds.

        On a log axis, the bounds. On another, all that is drawn but no more than y can hold: a t interval over few
        seeds may reach far beyond an accuracy of 1, and shown whole it would flatten every line.
        """
        drawn = [y for line in self.series for ys in (line.y, line.lo, line.hi) for y in ys if math.isfinite(y)]
        if self.y.bounds is None or not drawn:
            return None
        if self.y.log:
            return self.y.bounds
        low, high = max(min(drawn), self.y.bounds[0]), min(max(drawn), self.y.bounds[1])
        margin = 0.04 * (high - low) or 0.04
        return low - margin, high + margin


@dataclass(frozen=True, slots=True)
class LineFigure:
    """One or more panels that share a legend; `name` is that of its files, `theory` of its grey lines."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    theory: str = "mean-field theory"

    @property
    def normalizers(self) -> tuple[str, ...]:
        """Every normalizer drawn in some panel, in order."""
        return tuple(dict.fromkeys(line.normalizer for panel in self.panels for line in panel.series))

    @property
    def has_theory(self) -> bool:
        """Whether some panel draws a closed-form curve."""
        return any(line.kind == "theory" for panel in self.panels for line in panel.series)


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A table of cells, normalizers down and learning rates across; NaN where no trial has ended."""

    name: str
    title: str
    caption: str
    x: Axis
    color: Axis
    normalizers: tuple[str, ...]
    rates: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]  # [normalizer][rate]
    diverged: tuple[tuple[int, ...], ...]
    trials: tuple[tuple[int, ...], ...]
    stable: tuple[int | None, ...]  # per normalizer: columns up to its stability edge; None where no trial has ended

    @property
    def color_max(self) -> float:
        """The value at the top of the color scale, which starts at 0: the largest in the table, or 1 if all are 0."""
        return max((value for row in self.values for value in row if value > 0), default=1.0)

    def ink(self, row: int, column: int) -> str:
        """A text color to read on the cell, on a scale that goes from dark to light; grey, on any page, where NaN."""
        value = self.values[row][column]
        if math.isnan(value):
            return "#777777"
        return "#ffffff" if value < 0.47 * self.color_max else "#000000"


Figure = LineFigure | HeatMap
