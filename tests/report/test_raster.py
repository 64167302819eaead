"""Grids of colored cells: what is shown, drawn, written to CSV and put into tables."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest
from matplotlib.image import imread

from normscope.report import matplotlib_raster, matplotlib_renderer, plotly_renderer, tables, template
from normscope.report.specification import Axis, Raster, RasterFigure


def raster(values, *, log=False, title="layer 8"):
    ys, xs = tuple(float(i) / 10 for i in range(len(values))), tuple(float(j) for j in range(1, len(values[0]) + 1))
    return Raster(
        title, Axis("channel"), Axis("share of the step"), Axis("mean", log=log), xs, ys, tuple(map(tuple, values))
    )


def figure(*panels):
    return RasterFigure("fig4", "Along a step", "Caption.", panels)


def test_colors_part_at_zero_where_both_signs_occur():
    grid = raster([(-1.0, 0.5), (0.0, 0.2)])
    assert grid.signed
    assert grid.limits == (-1.0, 1.0)
    assert raster([(0.1, 0.5)]).limits == (0.1, 0.5)
    assert not raster([(0.1, 0.5)]).signed


def test_a_log_scale_shows_powers_of_ten_and_nothing_that_has_none():
    grid = raster([(1e-3, 1e5), (0.0, math.inf)], log=True)
    assert grid.limits == (-3.0, 5.0)
    assert grid.shown[0] == pytest.approx((-3.0, 5.0))
    assert all(map(math.isnan, grid.shown[1]))


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (1e-3, 1e5, ["10⁻³", "10⁻²", "10⁻¹", "10⁰", "10¹", "10²", "10³", "10⁴", "10⁵"]),
        (1e-20, 1e20, ["10⁻²⁰", "10⁻¹⁵", "10⁻¹⁰", "10⁻⁵", "10⁰", "10⁵", "10¹⁰", "10¹⁵", "10²⁰"]),
        (0.7, 30.0, ["1", "2", "5", "10", "20"]),
        (0.83, 0.88, ["0.83", "0.842", "0.855", "0.867", "0.88"]),
    ],
)
def test_a_log_scale_is_marked_however_short_or_long_it_is(low, high, texts):
    marks = raster([(low, high)], log=True).marks
    assert [text for _, text in marks] == texts
    assert all(math.log10(low) <= at <= math.log10(high) for at, _ in marks)
    assert raster([(low, high)]).marks == ()


def test_a_scale_has_two_ends_whatever_the_values():
    for values in ([(2.0, 2.0)], [(math.nan, math.inf)]):
        low, high = raster(values).limits
        assert low < high


def test_the_first_row_lies_at_the_bottom_and_a_missing_cell_is_grey():
    one = figure(raster([(0.0, 0.0), (1.0, math.nan)]))
    canvas = matplotlib_renderer._drawn(one)
    ax = canvas.axes[0]
    (image,) = ax.images
    assert image.origin == "lower"
    assert np.ma.getmaskarray(image.get_array()).tolist() == [[False, False], [False, True]]
    assert ax.get_facecolor()[:3] == pytest.approx([int("bb", 16) / 255] * 3)
    pixels = imread(io.BytesIO(matplotlib_renderer.render(one, "png")))[..., :3]
    assert (np.abs(pixels - int("bb", 16) / 255).max(axis=-1) < 0.01).sum() > 1000


def test_long_axes_are_marked_at_a_few_places_with_their_own_values():
    grid = raster([tuple(range(64))] * 21)
    ax = matplotlib_renderer._drawn(figure(grid)).axes[0]
    ticks, labels = ax.get_xticks(), [text.get_text() for text in ax.get_xticklabels()]
    assert len(ticks) <= matplotlib_raster._TICKS
    assert labels == [f"{grid.xs[int(tick)]:g}" for tick in ticks]


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_every_panel_is_drawn_with_a_color_bar(count):
    canvas = matplotlib_renderer._drawn(figure(*[raster([(1.0, 10.0)], log=True)] * count))
    assert sum(bool(ax.images) for ax in canvas.axes) == count
    assert len(canvas.axes) == 2 * count


@pytest.mark.parametrize("format", ["png", "pdf"])
def test_the_same_grid_gives_the_same_bytes(format):
    one = figure(raster([(-1.0, 0.5), (0.0, 0.2)]))
    assert matplotlib_renderer.render(one, format) == matplotlib_renderer.render(one, format)


def test_a_chart_has_numbers_limits_and_categories():
    (chart,) = plotly_renderer.charts(figure(raster([(-1.0, 0.25), (0.0, math.nan)], title="<b>")))
    (trace,) = chart["data"]
    assert trace["z"] == [[-1, 0.25], [0, None]]
    assert (trace["x"], trace["y"]) == (["1", "2"], ["0", "0.1"])
    assert (trace["zmin"], trace["zmax"]) == (-1.0, 1.0)
    assert trace["colorscale"][2] == [0.5, "#f7f7f7"]
    assert chart["layout"]["xaxis"]["type"] == "category"
    assert chart["layout"]["yaxis"]["title"]["text"] == "share of the step"
    json.dumps(chart, allow_nan=False)


def test_a_chart_of_a_log_scale_shows_powers():
    (chart,) = plotly_renderer.charts(figure(raster([(1e-3, 1e5)], log=True)))
    (trace,) = chart["data"]
    assert trace["z"] == [[-3, 5]]
    assert trace["colorbar"]["ticktext"] == ["10⁻³", "10⁻²", "10⁻¹", "10⁰", "10¹", "10²", "10³", "10⁴", "10⁵"]
    assert trace["colorbar"]["tickvals"] == list(range(-3, 6))
    assert trace["colorscale"] == "Cividis"


def test_the_csv_holds_every_cell():
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(figure(raster([(1.0, math.nan), (math.inf, -4.0)]))))))
    assert [tuple(row.values()) for row in rows] == [
        ("layer 8", "0", "1", "1"),
        ("layer 8", "0", "2", ""),
        ("layer 8", "0.1", "1", "inf"),
        ("layer 8", "0.1", "2", "-4"),
    ]


def test_a_table_is_thinned_both_ways_and_says_so():
    (table,) = tables.to_tables(figure(raster([tuple(range(64))] * 70)))
    assert len(table.rows) <= tables.MAX_ROWS
    assert len(table.header) - 1 <= tables.MAX_ROWS
    assert "24 of 70 rows and 22 of 64 columns, the rest in the CSV" in table.caption
    (small,) = tables.to_tables(figure(raster([(1.0, 2.0)])))
    assert "rest" not in small.caption
    assert small.rows == (("0", "1.00", "2.00"),)


def test_a_page_shows_the_grid_without_a_legend():
    one = figure(raster([(1.0, 2.0)]))
    html = (
        template._environment()
        .get_template("parts.html.j2")
        .make_module({"charts": {one.name: plotly_renderer.charts(one)}, "theory": None, "dashes": {}, "line_width": 1})
    )
    card = str(html.figure_card(one, {}, "Lines"))
    assert "<h3>layer 8</h3>" in card
    assert "share of the step against channel" in card
    assert 'class="legend"' not in card
