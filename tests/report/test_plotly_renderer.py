import json
import math

from normscope.report import plotly_renderer
from normscope.report.specification import Axis, HeatMap, LineFigure, Panel, Series
from normscope.report.style import STYLES, THEORY

NAN = math.nan


def figure(line, *, log=False):
    return LineFigure("f", "F", "", (Panel("", Axis("x"), Axis("y", "nats", log=log), (line,)),))


def series(name="batchnorm", kind="measured", lo=(0.0, 0.1, 0.2), hi=(1.0, 1.1, 1.2)):
    return Series(
        name, kind, (1.0, 2.0, 3.0), (0.5, NAN, 0.25), lo, hi, ((0, (0.4, 0.5, math.inf)), (1, (0.6, 0.7, 0.8)))
    )


def test_one_chart_per_panel_and_all_of_it_is_json(drawn):
    for name, spec in drawn.items():
        charts = plotly_renderer.charts(spec)
        assert len(charts) == (1 if name == "learning_rate" else len(spec.panels))
        json.dumps(charts, allow_nan=False)


def test_a_line_carries_numbers_seeds_and_style():
    ((chart),) = plotly_renderer.charts(figure(series()))
    band, line = chart["data"]
    look = STYLES["batchnorm"]
    assert line["y"] == [0.5, None, 0.25]
    assert line["customdata"] == [[0, 1, 0.4, 0.6], [0.1, 1.1, 0.5, 0.7], [0.2, 1.2, None, 0.8]]
    assert (line["line"]["color"], line["line"]["dash"], line["marker"]["symbol"]) == (look.color, "solid", look.marker)
    assert band["meta"] == line["meta"] == "batchnorm"


def test_theory_is_grey_dashed_and_has_neither_marker_nor_band():
    ((chart),) = plotly_renderer.charts(figure(series(kind="theory")))
    (line,) = chart["data"]
    assert line["mode"] == "lines"
    assert line["line"] == {"color": THEORY.color, "width": line["line"]["width"], "dash": "6px,3px"}


def test_a_band_is_broken_where_the_interval_is_missing():
    ((chart),) = plotly_renderer.charts(figure(series(lo=(0.0, NAN, 0.2), hi=(1.0, NAN, 1.2))))
    band = chart["data"][0]
    assert band["x"] == [1, 1, None, 3, 3, None]
    assert band["y"] == [1, 0, None, 1.2, 0.2, None]


def test_without_intervals_there_is_no_band():
    ((chart),) = plotly_renderer.charts(figure(series(lo=(NAN, NAN, NAN), hi=(NAN, NAN, NAN))))
    assert len(chart["data"]) == 1


def test_axes_have_titles_with_units_and_scales():
    ((chart),) = plotly_renderer.charts(figure(series(), log=True))
    assert chart["layout"]["yaxis"]["title"]["text"] == "y (nats)"
    assert (chart["layout"]["xaxis"]["type"], chart["layout"]["yaxis"]["type"]) == ("linear", "log")


def test_a_shifted_axis_places_zero_and_tells_values_as_they_are():
    steps = (0.0, 9.0, 99.0)
    line = Series("batchnorm", "measured", steps, steps, steps, steps, ())
    panel = Panel("", Axis("step", log=True, shift=1.0), Axis("y"), (line,))
    (chart,) = plotly_renderer.charts(LineFigure("f", "F", "", (panel,)))
    band, drawn = chart["data"]
    axis = chart["layout"]["xaxis"]
    assert (axis["type"], axis["tickvals"], axis["ticktext"]) == ("log", [1, 2, 11], ["0", "1", "10"])
    assert drawn["x"] == [1, 10, 100]
    assert drawn["text"] == [0, 9, 99]
    assert "step: %{text}<br>" in drawn["hovertemplate"]
    assert band["x"] == [1, 10, 100, 100, 10, 1, None]


def test_a_name_is_no_markup_to_plotly():
    ((chart),) = plotly_renderer.charts(figure(series("<b>&x</b>")))
    line = chart["data"][-1]
    assert line["name"] == "&lt;b&gt;&amp;x&lt;/b&gt;"
    assert "<b>&lt;b&gt;&amp;x&lt;/b&gt;</b>" in line["hovertemplate"]
    assert line["meta"] == "<b>&x</b>"


def test_heat_map_writes_divergences_and_draws_only_edges_that_exist():
    heat_map = HeatMap(
        "h", "H", "", Axis("rate"), Axis("accuracy"), ("a", "b", "c"), (0.1, 0.3), ((0.5, 0.0), (0.6, 0.7), (NAN, NAN)),
        ((0, 2), (0, 0), (0, 0)), ((2, 2), (2, 2), (0, 0)), (1, 2, None),
    )  # fmt: skip

    (chart,) = plotly_renderer.charts(heat_map)

    assert chart["data"][0]["z"] == [[0.5, 0], [0.6, 0.7], [None, None]]
    texts = {(a["x"], a["y"]): a["text"] for a in chart["layout"]["annotations"]}
    assert texts[1, 0] == "0.00<br>2/2 diverged"
    assert texts[0, 2] == "–"
    (edge,) = chart["layout"]["shapes"]
    assert (edge["x0"], edge["y0"], edge["y1"]) == (0.5, -0.5, 0.5)


def test_a_bounded_log_axis_shows_its_bounds_in_powers_of_ten():
    panel = Panel("", Axis("x", log=True), Axis("y", log=True, bounds=(1e-10, 1e2)), (series(),))
    (chart,) = plotly_renderer.charts(LineFigure("f", "F", "", (panel,)))
    assert chart["layout"]["yaxis"]["range"] == [-10, 2]
    assert chart["layout"]["xaxis"]["type"] == "log"
