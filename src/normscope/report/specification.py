"""A figure as data: what is drawn, in which units, with its numbers. Renderers and tables read nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

_SHORT_AXIS = 30.0  # its last value
_COLOR_MARKS = 8  # powers of ten along a color scale, at most
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its title, its unit ("1" for a pure number), its scale, and the bounds of what it can hold, if any.

    `shift` is of a log axis along x: it shows log(x + shift), on which 0 has a place, and is marked with x as it is.
    """

    title: str
    unit: str = "1"
    log: bool = False
    bounds: tuple[float, float] | None = None
    shift: float = 0.0

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
    def marks(self) -> tuple[float, ...]:
        """Where a shifted x axis is marked: at 0 and powers of ten, between them at 2 and 5 where it is short.

        Empty where x is not shifted: renderers then mark it by themselves.
        """
        if not self.x.shift:
            return ()
        last = max((x for line in self.series for x in line.x), default=0.0)
        factors = (1, 2, 5) if last < _SHORT_AXIS else (1,)
        decades = range(math.floor(math.log10(max(last, 1.0))) + 1)
        return (0.0, *(mark for n in decades for factor in factors if (mark := factor * 10.0**n) <= last))

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
        """Every normalizer that is drawn as measured in some panel, in order."""
        lines = (line for panel in self.panels for line in panel.series if line.kind == "measured")
        return tuple(dict.fromkeys(line.normalizer for line in lines))

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


@dataclass(frozen=True, slots=True)
class Raster:
    """One pair of axes with a grid of cells, the first row at the bottom; NaN where there is none.

    Cells stand side by side whatever the distance of their places, so that steps of any spacing can be drawn.
    """

    title: str
    x: Axis
    y: Axis
    color: Axis  # with log, of values above 0 alone
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]  # [y][x]

    @property
    def shown(self) -> tuple[tuple[float, ...], ...]:
        """What a cell's color stands for: its value, on a log scale the power of ten; NaN where that is not finite."""
        return tuple(tuple(_shown(value, log=self.color.log) for value in row) for row in self.values)

    @property
    def signed(self) -> bool:
        """Whether the colors part at 0: both signs occur, on a linear scale."""
        found = self._finite()
        return not self.color.log and min(found) < 0 < max(found)

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the color scale, of what is shown: the same distance from 0 where `signed`; never equal."""
        found = self._finite()
        low, high = min(found), max(found)
        if self.signed:
            high = max(-low, high)
            low = -high
        return (low, high) if low < high else (low - 0.5, high + 0.5)

    @property
    def marks(self) -> tuple[tuple[float, str], ...]:
        """Where a log color scale is marked, and with what: powers of ten, or 1, 2, 5 of each where it is short.

        Empty where the scale is linear: renderers then mark it by themselves.
        """
        low, high = self.limits
        if not self.color.log:
            return ()
        decades = range(math.floor(low), math.ceil(high) + 1)
        every = max(1, math.ceil((high - low) / _COLOR_MARKS))
        powers = [(float(n), f"10{str(n).translate(_SUPERSCRIPTS)}") for n in decades if n % every == 0]
        between = [(n + math.log10(f), f"{f * 10.0**n:g}") for n in decades for f in (1, 2, 5)]
        even = [(at, f"{10**at:.3g}") for at in (low + (high - low) * share / 4 for share in range(5))]
        for marks in (powers, between, even):
            inside = tuple((at, text) for at, text in marks if low <= at <= high)
            if len(inside) > 2:
                break
        return inside

    def _finite(self) -> list[float]:
        return [value for row in self.shown for value in row if math.isfinite(value)] or [0.0]


@dataclass(frozen=True, slots=True)
class RasterFigure:
    """One or more grids, each with a color scale of its own; `name` is that of its files."""

    name: str
    title: str
    caption: str
    panels: tuple[Raster, ...]

    @property
    def normalizers(self) -> tuple[str, ...]:
        """None: a grid has no lines, and so no legend."""
        return ()


Figure = LineFigure | HeatMap | RasterFigure


def _shown(value: float, *, log: bool) -> float:
    if not math.isfinite(value) or (log and value <= 0):
        return math.nan
    return math.log10(value) if log else value
