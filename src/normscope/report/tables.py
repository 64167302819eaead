"""The numbers of a figure as text: long for a CSV file, wide for a reader."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass

from normscope.report.specification import Figure, HeatMap, LineFigure, Panel, Raster, RasterFigure, Series

# Rows of a table that stands in for a picture; the CSV holds every point.
MAX_ROWS = 30


def to_csv(figure: Figure) -> str:
    """Return the numbers behind `figure`, every point drawn, as comma-separated text with a header; empty where NaN."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_rows(figure))
    return text.getvalue()


@dataclass(frozen=True, slots=True)
class Table:
    """A table to read: cells are text already."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def to_tables(figure: Figure) -> tuple[Table, ...]:
    """Return one table per panel that says what the picture says: x down, normalizers across, mean and interval."""
    if isinstance(figure, HeatMap):
        return (_heat_map_table(figure),)
    if isinstance(figure, RasterFigure):
        return tuple(_raster_table(panel) for panel in figure.panels)
    return tuple(_panel_table(panel) for panel in figure.panels)


def table_to_csv(table: Table) -> str:
    """Return a table to read as comma-separated text with a header; its cells stay the texts they are."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([table.header, *table.rows])
    return text.getvalue()


def short(value: float) -> str:
    """Write a number with three significant digits; an en dash for NaN."""
    return "–" if math.isnan(value) else f"{value:#.3g}".rstrip(".")


def _cell(value: float) -> str:
    # Seven digits: all that a measurement in float32 has.
    return "" if math.isnan(value) else f"{value:.7g}"


def _rows(figure: Figure) -> list[list[str]]:
    if isinstance(figure, HeatMap):
        return _heat_map_rows(figure)
    return _raster_rows(figure) if isinstance(figure, RasterFigure) else _line_rows(figure)


def _line_rows(figure: LineFigure) -> list[list[str]]:
    seeds = sorted({seed for panel in figure.panels for line in panel.series for seed, _ in line.seeds})
    header = ["panel", "normalizer", "kind", "x", "mean", "ci95_low", "ci95_high", *(f"seed_{seed}" for seed in seeds)]
    rows = [header]
    for panel in figure.panels:
        for line in panel.series:
            by_seed = dict(line.seeds)
            for i, point in enumerate(zip(line.x, line.y, line.lo, line.hi, strict=True)):
                single = [_cell(by_seed[seed][i]) if seed in by_seed else "" for seed in seeds]
                rows.append([panel.title, line.normalizer, line.kind, *map(_cell, point), *single])
    return rows


def _heat_map_rows(figure: HeatMap) -> list[list[str]]:
    rows = [["normalizer", "learning_rate", "validation_accuracy", "diverged", "trials"]]
    for i, name in enumerate(figure.normalizers):
        for j, rate in enumerate(figure.rates):
            counts = (str(figure.diverged[i][j]), str(figure.trials[i][j]))
            rows.append([name, _cell(rate), _cell(figure.values[i][j]), *counts])
    return rows


def _raster_rows(figure: RasterFigure) -> list[list[str]]:
    rows = [["panel", "y", "x", "value"]]
    for panel in figure.panels:
        for y, values in zip(panel.ys, panel.values, strict=True):
            rows += [[panel.title, _cell(y), _cell(x), _cell(value)] for x, value in zip(panel.xs, values, strict=True)]
    return rows


def _raster_table(panel: Raster) -> Table:
    """Every so many rows and columns of the grid."""
    down, across = (range(0, len(places), math.ceil(len(places) / MAX_ROWS)) for places in (panel.ys, panel.xs))
    what = f"{panel.color.label}: {panel.y.label} down, {panel.x.label} across"
    caption = " – ".join(filter(None, [panel.title, what]))
    if len(down) * len(across) < len(panel.ys) * len(panel.xs):
        rows_kept, columns_kept = f"{len(down)} of {len(panel.ys)} rows", f"{len(across)} of {len(panel.xs)} columns"
        caption += f"; {rows_kept} and {columns_kept}, the rest in the CSV"
    header = ("", *(f"{panel.xs[j]:g}" for j in across))
    rows = tuple((f"{panel.ys[i]:g}", *(short(panel.values[i][j]) for j in across)) for i in down)
    return Table(caption, header, rows)


def _panel_table(panel: Panel) -> Table:
    points = sorted({x for line in panel.series for x in line.x})
    stride = math.ceil(len(points) / MAX_ROWS)
    kept = sorted({*points[::stride], *points[-1:]})
    caption = " – ".join(filter(None, [panel.title, f"{panel.y.label}: mean [95 % interval]"]))
    if stride > 1:
        caption += f"; {len(kept)} of {len(points)} points, the rest in the CSV"
    header = (panel.x.label, *(_column(line) for line in panel.series))
    cells = [{x: _point(line, i) for i, x in enumerate(line.x)} for line in panel.series]
    return Table(caption, header, tuple((f"{x:g}", *(column.get(x, "–") for column in cells)) for x in kept))


def _column(line: Series) -> str:
    return f"{line.normalizer} (theory)" if line.kind == "theory" else line.normalizer


def _point(line: Series, i: int) -> str:
    interval = "" if math.isnan(line.lo[i]) else f" [{short(line.lo[i])}, {short(line.hi[i])}]"
    return short(line.y[i]) + interval


def _heat_map_table(figure: HeatMap) -> Table:
    rows = tuple(
        (name, *(heat_map_text(figure, i, j).replace("\n", ", ") for j in range(len(figure.rates))))
        for i, name in enumerate(figure.normalizers)
    )
    header = ("normalizer", *(f"{rate:g}" for rate in figure.rates))
    return Table(f"{figure.color.label} by {figure.x.label}, diverged trials", header, rows)


def heat_map_text(figure: HeatMap, row: int, column: int) -> str:
    """Return what is written in a cell: the mean, and on a second line how many trials diverged, if any did."""
    diverged, trials = figure.diverged[row][column], figure.trials[row][column]
    count = f"\n{diverged}/{trials} diverged" if diverged else ""
    return short(figure.values[row][column]) + count
