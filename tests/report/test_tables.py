import csv
import io
import math

import pytest

from normscope.report import figures, tables
from normscope.report.specification import Axis, LineFigure, Panel, Series
from report import synthetic


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_holds_every_point_with_interval_and_seeds(drawn):
    figure = drawn["gradient_correlation"]
    rows = read(tables.to_csv(figure))

    assert len(rows) == sum(len(line.x) for panel in figure.panels for line in panel.series)
    first, line = rows[0], figure.panels[0].series[0]
    assert first["panel"] == "similar batches"
    assert (first["normalizer"], first["kind"], float(first["x"])) == (line.normalizer, "measured", line.x[0])
    numbers = [float(first[name]) for name in ("mean", "ci95_low", "ci95_high", "seed_0", "seed_1", "seed_2")]
    assert numbers == pytest.approx([line.y[0], line.lo[0], line.hi[0], *(values[0] for _, values in line.seeds)])


def test_csv_quotes_a_name_with_a_comma_and_leaves_nan_empty():
    nan = math.nan
    line = Series('a,"b"', "measured", (1.0,), (0.5,), (nan,), (nan,), ((0, (0.5,)),))
    figure = LineFigure("f", "F", "", (Panel("", Axis("x"), Axis("y"), (line,)),))
    (row,) = read(tables.to_csv(figure))
    assert row["normalizer"] == 'a,"b"'
    assert (row["mean"], row["ci95_low"]) == ("0.5", "")


def test_heat_map_csv_is_one_row_per_cell(drawn):
    rows = read(tables.to_csv(drawn["learning_rate"]))
    assert len(rows) == 30
    (cell,) = [row for row in rows if (row["normalizer"], row["learning_rate"]) == ("none", "0.3")]
    assert (cell["validation_accuracy"], cell["diverged"], cell["trials"]) == ("0", "3", "3")


def test_a_table_has_normalizers_across_and_says_mean_and_interval(drawn):
    (table,) = tables.to_tables(drawn["information_propagation"])
    assert table.header[:3] == ("depth (normalizer site)", "none", "batchnorm")
    assert table.header[-1] == "preregnorm (theory)"
    assert len(table.rows) == 25
    line = drawn["information_propagation"].panels[0].series[0]
    assert table.rows[0][1] == f"{line.y[0]:.3f} [{line.lo[0]:.3f}, {line.hi[0]:#.3g}]"


def test_a_long_table_is_thinned_to_its_bound_and_says_so():
    points = tuple(float(i) for i in range(301))
    line = Series("a", "measured", points, points, points, points, ())
    (table,) = tables.to_tables(LineFigure("f", "F", "", (Panel("", Axis("x"), Axis("y"), (line,)),)))
    assert len(table.rows) <= tables.MAX_ROWS + 1
    assert (table.rows[0][0], table.rows[-1][0]) == ("0", "300")
    assert "301 points, the rest in the CSV" in table.caption


def test_heat_map_table_counts_divergences(drawn):
    (table,) = tables.to_tables(drawn["learning_rate"])
    assert table.rows[0][-1] == "0.00, 3/3 diverged"


def test_cells_without_trials_are_a_dash():
    recipe = synthetic.recipe(["a", "b"], lrs=[0.1])
    figure = figures.learning_rate(synthetic.frame(synthetic.trial("a", 0.1, 0, validation=0.5)), recipe)
    assert tables.to_tables(figure)[0].rows == (("a", "0.500"), ("b", "–"))


@pytest.mark.parametrize(
    ("value", "text"), [(0.94, "0.940"), (123.4, "123"), (0.0, "0.00"), (math.nan, "–"), (1e-5, "1.00e-05")]
)
def test_short_numbers_have_three_digits(value, text):
    assert tables.short(value) == text
