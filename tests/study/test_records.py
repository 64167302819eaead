from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

import normscope as ns
from normscope.study import records
from normscope.study.folder import write_json
from normscope.study.plan import plan


@pytest.fixture
def copied(unbroken: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(unbroken, tmp_path / unbroken.name))


def test_load_gives_every_row_in_long_form(unbroken, recipe):
    frame = ns.load(unbroken)
    assert tuple(frame.columns) == records.COLUMNS
    kinds = {
        "seed": "int64",
        "step": "int64",
        "depth": "int64",
        "lr": "float64",
        "value": "float64",
        "stderr": "float64",
    }
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == dict.fromkeys(records.COLUMNS, "str") | kinds
    assert set(frame["run"]) == {unbroken.name}
    assert list(dict.fromkeys(frame["trial"])) == [trial.id for trial in plan(recipe)]
    assert list(dict.fromkeys(frame["normalizer"])) == ["batchnorm", "regnorm"]


def test_load_reads_every_run_below(unbroken, copied):
    assert len(ns.load(copied.parent)) == len(ns.load(unbroken))
    twice = copied.parent / "more" / copied.name
    shutil.copytree(copied, twice)
    assert len(ns.load(copied.parent)) == 2 * len(ns.load(unbroken))


def test_load_skips_what_is_not_finished(copied, recipe):
    first = plan(recipe)[0].id
    (copied / "trials" / first / "COMPLETED").unlink()
    assert first not in set(ns.load(copied)["trial"])


def test_a_run_without_a_finished_trial_loads_as_no_rows(copied):
    shutil.rmtree(copied / "trials")
    frame = ns.load(copied)
    assert len(frame) == 0
    assert tuple(frame.columns) == records.COLUMNS


def test_numbers_that_are_not_finite_survive(tmp_path, recipe):
    from normscope.study.rows import Rows, frame

    with (tmp_path / "live").open("w") as live:
        rows = Rows("run", plan(recipe)[0], live)
        for value in (math.inf, -math.inf, math.nan):
            rows.add("probe", "name", value)
    assert np.array_equal(frame([rows.to_parquet()])["value"], [math.inf, -math.inf, math.nan], equal_nan=True)


def test_the_live_file_has_a_line_per_row(tmp_path, recipe):
    import json

    from normscope.study.rows import Rows

    with (tmp_path / "live").open("w") as live:
        rows = Rows("run", plan(recipe)[0], live)
        rows.add("probe", "name", 1.5, step=3, layer="l", depth=2, stderr=0.5, unit="nats")
    row = json.loads((tmp_path / "live").read_text())
    assert list(row) == list(records.COLUMNS)
    assert (row["value"], row["step"], row["depth"], row["unit"]) == (1.5, 3, 2, "nats")


@pytest.mark.parametrize("name", ["rows.parquet", "trial.json"])
def test_a_damaged_file_is_named_with_the_remedy(copied, recipe, name):
    path = copied / "trials" / plan(recipe)[1].id / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(ValueError, match=rf"{name} is damaged.*remove the folder .*run the comparison again") as raised:
        ns.load(copied)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_recipe_changed_by_hand_is_refused(copied):
    text = (copied / "recipe.json").read_text()
    (copied / "recipe.json").write_text(text.replace('"steps": 4', '"steps": 5'))
    with pytest.raises(ValueError, match=r"recipe.json is not the recipe compare-\w+ was made with"):
        ns.load(copied)
    (copied / "recipe.json").write_text(text.replace('"steps": 4', '"stepz": 4'))
    with pytest.raises(ValueError, match=r"recipe.json is damaged.*unknown field `stepz`"):
        ns.load(copied)
    (copied / "recipe.json").write_text(text[:20])
    with pytest.raises(ValueError, match=r"recipe\.json is damaged"):
        ns.load(copied)


def test_a_renamed_run_still_loads(copied, unbroken):
    renamed = copied.rename(copied.parent / "my-run")
    assert len(ns.load(renamed)) == len(ns.load(unbroken))


def test_what_a_report_needs_is_read_as_plain_values(unbroken, recipe):
    plain = records.recipe(unbroken)
    assert plain["norms"][0] == {"name": "batchnorm", "options": {}}
    assert plain["lrs"] == [0.1, 1.0] or plain["lrs"] == (0.1, 1.0)
    assert records.provenance(unbroken)["command"] == "test"
    data = records.data(unbroken)
    assert (data["name"], data["train"], data["validation"], data["test"]) == ("digits", 48, 16, 16)


def test_missing_provenance_is_an_error(copied):
    (copied / "provenance.json").unlink()
    with pytest.raises(ValueError, match=r"provenance\.json is missing"):
        records.provenance(copied)
    write_json(copied / "provenance.json", {"command": "x"})
    assert records.provenance(copied) == {"command": "x"}
