import io
import math
import struct

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from normscope.report import matplotlib_renderer
from normscope.report.specification import Axis, LineFigure, Panel, Series
from normscope.report.style import STYLES


def one_line(name="batchnorm", values=(0.1, 0.5, 0.2), log=False):
    line = Series(name, "measured", (1.0, 2.0, 3.0), values, values, values, ())
    return LineFigure("f", "Title", "", (Panel("", Axis("x"), Axis("y", log=log), (line,)),))


@pytest.mark.parametrize("format", ["png", "pdf"])
def test_the_same_figure_gives_the_same_bytes(drawn, format):
    figure = drawn["training"]
    assert matplotlib_renderer.render(figure, format) == matplotlib_renderer.render(figure, format)


def test_png_has_150_dpi_and_pdf_is_a_pdf():
    png = matplotlib_renderer.render(one_line(), "png")
    at = png.index(b"pHYs")
    per_meter, _, _ = struct.unpack(">IIB", png[at + 4 : at + 13])
    assert per_meter * 0.0254 == pytest.approx(150, abs=0.1)
    assert matplotlib_renderer.render(one_line(), "pdf").startswith(b"%PDF")


def test_global_settings_are_neither_read_nor_changed():
    plain = matplotlib_renderer.render(one_line(), "png")
    with matplotlib.rc_context({"lines.linewidth": 20, "axes.facecolor": "red"}):
        before = dict(matplotlib.rcParams)
        assert matplotlib_renderer.render(one_line(), "png") == plain
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", ["_private", r"$\nope$", "<script>", "regnorm:penalty=B", "ν"])
def test_any_name_can_be_drawn(name):
    matplotlib_renderer.render(one_line(name), "png")


def test_a_line_has_its_normalizers_color():
    pixels = imread(io.BytesIO(matplotlib_renderer.render(one_line("layernorm"), "png")))[..., :3]
    color = np.array([int(STYLES["layernorm"].color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    assert (np.abs(pixels - color).max(axis=-1) < 0.01).sum() > 100


def test_lines_with_gaps_and_without_any_value_are_drawn():
    matplotlib_renderer.render(one_line(values=(0.1, math.nan, 0.2)), "png")
    matplotlib_renderer.render(one_line(values=(math.nan, math.nan, math.nan), log=True), "png")


def test_heat_map_is_drawn(drawn):
    assert matplotlib_renderer.render(drawn["learning_rate"], "png").startswith(b"\x89PNG")


@pytest.mark.parametrize("values", [(1.7, 2.1, 2.4), (0.3, 0.9, 4.0), (1e-4, 1.0, 10.0)])
def test_a_log_axis_has_labels_however_short_it_is(values):
    canvas = matplotlib_renderer._line_figure(one_line(values=values, log=True))
    (axes,) = canvas.axes
    low, high = axes.get_ylim()
    places = [place for place in axes.yaxis.get_majorticklocs() if low <= place <= high]
    assert len(set(axes.yaxis.get_major_formatter().format_ticks(places)) - {""}) >= 2


def test_a_shifted_axis_places_zero_and_marks_values_as_they_are():
    steps = (0.0, 1.0, 9.0, 99.0, 200.0)
    line = Series("batchnorm", "measured", steps, steps, steps, steps, ())
    panel = Panel("", Axis("step", log=True, shift=1.0), Axis("y"), (line,))
    (axes,) = matplotlib_renderer._line_figure(LineFigure("f", "F", "", (panel,))).axes
    places = [axes.transData.transform((step, 0))[0] for step in steps]
    from_zero = (np.array(places) - places[0]) / (places[3] - places[0])
    np.testing.assert_allclose(from_zero, np.log10(np.array(steps) + 1) / 2, atol=1e-9)
    assert axes.get_xlim()[0] < 0 < 200 < axes.get_xlim()[1]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "10", "100"]


def test_a_shifted_axis_takes_lines_without_a_band():
    nothing = (math.nan,) * 3
    line = Series("batchnorm", "measured", (0.0, 1.0, 3.0), (0.8, 0.7, 0.1), nothing, nothing, ())
    panel = Panel("", Axis("step", log=True, shift=1.0), Axis("R", log=True, bounds=(1e-3, 1.0)), (line,))
    matplotlib_renderer.render(LineFigure("f", "F", "", (panel,)), "png")


def test_log_axes_both_ways_and_bounds_are_kept_to():
    line = Series("batchnorm", "measured", (1.0, 10.0, 100.0), (1e-12, 1.0, 1e3), (math.nan,) * 3, (math.nan,) * 3, ())
    panel = Panel("", Axis("x", log=True), Axis("y", log=True, bounds=(1e-10, 1e2)), (line,))
    (axes,) = matplotlib_renderer._line_figure(LineFigure("f", "F", "", (panel,))).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_ylim() == pytest.approx((1e-10, 1e2))
    assert len(set(axes.xaxis.get_major_formatter().format_ticks([1.0, 10.0, 100.0]))) == 3
