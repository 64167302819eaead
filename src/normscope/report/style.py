"""One color, dash and marker per normalizer: the same in every figure, page and legend.

The hues are those of Okabe and Ito (2008) and neighbors of them, brought to a luminance that stands out by at least 3:1
(WCAG 2.1, 1.4.11) from white paper and from a dark screen alike, so that a normalizer keeps its color in both. That
leaves little lightness to tell colors apart by, so rows whose colors meet in a color-blind eye differ in dash, and any
two of the first ten differ in marker. Theory is grey, dashed and has no marker.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Dash = Literal["solid", "dash", "longdash", "dot", "dashdot"]
Marker = Literal[
    "circle", "square", "diamond", "triangle-up", "triangle-down", "x", "star", "pentagon", "cross", "hexagon"
]

# Lengths of stroke and gap in CSS pixels at LINE_WIDTH; every renderer takes its dashes from here.
DASHES: dict[Dash, tuple[float, ...]] = {
    "solid": (),
    "dash": (6, 3),
    "longdash": (13, 3),
    "dot": (2, 2.5),
    "dashdot": (8, 3, 2, 3),
}
LINE_WIDTH = 1.8  # CSS pixels
BAND_OPACITY = 0.16
EDGE_COLOR = "#FF3B6B"  # of the stability edge, apart from every shade of the cividis map under it


@dataclass(frozen=True, slots=True)
class Style:
    """How one series is drawn."""

    color: str
    dash: Dash
    marker: Marker | None


THEORY = Style("#777777", "dash", None)

_BLUE, _SKY, _GREEN, _VERMILION, _PINK, _ORANGE = "#0072B2", "#3D9BD9", "#009E73", "#D55E00", "#D264A0", "#C58A00"
_BROWN, _VIOLET, _OLIVE, _TEAL, _RED = "#8F5B34", "#8A63D2", "#7F8A1C", "#2AA5A8", "#C9303E"

STYLES: dict[str, Style] = {
    "none": Style(_BROWN, "solid", "x"),
    "batchnorm": Style(_BLUE, "solid", "circle"),
    "batchnorm_train": Style(_SKY, "dash", "square"),
    "layernorm": Style(_VERMILION, "solid", "hexagon"),
    "weightnorm": Style(_OLIVE, "dot", "cross"),
    "bmlv": Style(_TEAL, "dashdot", "triangle-up"),
    "lmbv": Style(_PINK, "dash", "triangle-down"),
    "prelayernorm": Style(_GREEN, "solid", "star"),
    "regnorm": Style(_VIOLET, "longdash", "diamond"),
    "preregnorm": Style(_ORANGE, "dashdot", "pentagon"),
    "bnl2": Style(_RED, "dot", "circle"),
    "groupnorm": Style(_VERMILION, "dash", "triangle-down"),
    "instancenorm": Style(_GREEN, "dot", "square"),
    "rmsnorm": Style(_ORANGE, "solid", "triangle-up"),
    "batchrenorm": Style(_BLUE, "dashdot", "diamond"),
    "powernorm": Style(_SKY, "solid", "pentagon"),
    "normprop": Style(_OLIVE, "solid", "star"),
    "frn": Style(_TEAL, "longdash", "circle"),
    "dyt": Style(_VIOLET, "solid", "triangle-up"),
    "weightstandard": Style(_PINK, "dot", "hexagon"),
}

_COLORS = (_BLUE, _VERMILION, _GREEN, _VIOLET, _ORANGE, _SKY, _PINK, _TEAL, _OLIVE, _BROWN, _RED)
_MARKERS: tuple[Marker, ...] = ("x", "cross", "hexagon", "pentagon", "square", "diamond", "circle", "star")
_DASHES: tuple[Dash, ...] = ("longdash", "dashdot", "dot", "dash", "solid")
_SPARE = [style for style in itertools.starmap(Style, itertools.product(_COLORS, _DASHES, _MARKERS))
          if all(style.color != taken.color or (style.dash != taken.dash and style.marker != taken.marker)
                 for taken in STYLES.values())]  # fmt: skip


def styles(names: Iterable[str]) -> dict[str, Style]:
    """Return the style of every normalizer in `names`; one that the table lacks gets a spare style by its name's hash.

    The hash makes an unknown row look alike in every report. Where that style is taken, or its color is while another
    is free, the later one, in alphabetical order, moves on to the next spare.
    """
    chosen = {name: STYLES.get(name, THEORY) for name in names}
    for name in sorted(set(chosen) - set(STYLES)):
        first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % len(_SPARE)
        in_turn = [*_SPARE[first:], *_SPARE[:first]]
        taken = set(chosen.values())
        colors = {style.color for style in taken}
        free = [style for style in in_turn if style not in taken] or in_turn
        chosen[name] = next((style for style in free if style.color not in colors), free[0])
    return chosen
