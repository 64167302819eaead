from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from pathlib import Path

import pytest

from normscope import files
from normscope.study import InlineEngine, Planned, Reporting, records
from normscope.study import folder as folders
from normscope.study.plan import plan

from .conftest import TINY, run


@pytest.fixture
def copied(unbroken: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(unbroken, tmp_path / unbroken.name))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class NoEngine:
    """An engine that must not be asked for anything."""

    def describe(self):
        return {}

    def run(self, folder, trials):
        raise AssertionError(f"asked to run {trials}")


def test_a_finished_run_folder_holds_what_the_design_says(unbroken, recipe):
    here = {path.name for path in unbroken.iterdir() if not path.name.startswith(".")}
    assert here == {"recipe.json", "provenance.json", "data.json", "trials", "COMPLETED"}
    assert {path.name for path in (unbroken / "trials").iterdir()} == {trial.id for trial in plan(recipe)}
    for place in (unbroken / "trials").iterdir():
        assert {path.name for path in place.iterdir()} == {"trial.json", "rows.parquet", "COMPLETED"}
    assert folders.check_seal(unbroken, remedy="") > 0


def test_a_finished_comparison_costs_nothing(copied, recipe):
    before = contents(copied)

    def no_report(folder):
        raise AssertionError("wrote the report again")

    events = []
    run(recipe, copied.parent, engine=NoEngine(), write_report=no_report, listen=events.append)
    assert contents(copied) == before
    assert events == []


def test_finished_trials_are_kept_and_the_others_run_again(copied, recipe, same_numbers):
    redone = [plan(recipe)[index].id for index in (1, 4)]
    for name in redone:
        (copied / "trials" / name / "COMPLETED").unlink()
    (copied / "trials" / redone[0] / "rows.parquet").write_bytes(b"half")
    (copied / "COMPLETED").unlink()
    events = []
    run(recipe, copied.parent, listen=events.append)
    planned, *middle, reporting = events
    assert isinstance(planned, Planned)
    assert isinstance(reporting, Reporting)
    assert set(planned.finished) == {trial.id for trial in plan(recipe)} - set(redone)
    assert [event.trial.id for event in middle[::2]] == redone
    same_numbers(copied)
    assert len(records.provenance(copied)["resumed"]) == 1


def test_a_lost_trial_of_a_finished_run_is_run_again(copied, recipe, same_numbers):
    shutil.rmtree(copied / "trials" / plan(recipe)[2].id)
    run(recipe, copied.parent)
    same_numbers(copied)


def test_a_report_that_failed_is_written_the_next_time_without_any_trial(copied, recipe):
    (copied / "COMPLETED").unlink()

    def broken(folder):
        raise RuntimeError("no report")

    with pytest.raises(RuntimeError, match="no report"):
        run(recipe, copied.parent, engine=InlineEngine(), write_report=broken)
    assert not folders.is_sealed(copied)
    written = []
    run(recipe, copied.parent, write_report=written.append)
    assert written == [copied]
    assert folders.is_sealed(copied)


def test_a_damaged_trial_stops_before_anything_runs(copied, recipe):
    path = copied / "trials" / plan(recipe)[3].id / "rows.parquet"
    path.write_bytes(b"other")
    with pytest.raises(ValueError, match=r"rows.parquet is damaged.*remove the folder"):
        run(recipe, copied.parent, engine=NoEngine())
    shutil.rmtree(path.parent)  # the remedy
    run(recipe, copied.parent)


@pytest.mark.parametrize("name", ["data.json", "provenance.json"])
def test_a_damaged_description_is_named(copied, recipe, name):
    (copied / name).write_text("{}")
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        run(recipe, copied.parent, engine=NoEngine())


def test_another_recipe_under_this_name_is_refused(copied, recipe):
    other = dataclasses.replace(TINY, steps=5).resolve()
    (copied / "recipe.json").write_bytes(other.to_json())
    with pytest.raises(ValueError, match=r"recipe.json is not the recipe"):
        run(recipe, copied.parent, engine=NoEngine())


def test_data_that_changed_are_refused(copied, recipe):
    (copied / "COMPLETED").unlink()
    (copied / "trials" / plan(recipe)[0].id / "COMPLETED").unlink()
    data = folders.read_json(copied / "data.json")
    folders.write_json(copied / "data.json", {**data, "sha256": "0" * 64})
    with pytest.raises(ValueError, match=r"the data set digits is not the one .* was begun with"):
        run(recipe, copied.parent, engine=NoEngine())


def test_a_run_folder_is_no_place_for_runs(copied, recipe):
    with pytest.raises(ValueError, match="is itself a run folder"):
        run(recipe, copied, engine=NoEngine())


def test_a_second_driver_is_turned_away_at_once(copied, recipe):
    (copied / "COMPLETED").unlink()
    with folders.driving(copied), pytest.raises(ValueError, match="another process is running the comparison"):
        run(recipe, copied.parent, engine=NoEngine())


@pytest.mark.parametrize("writes", [0, 2, 3, 4, 5, 8])
def test_a_full_disk_stops_the_run_and_loses_nothing_finished(recipe, tmp_path, monkeypatch, same_numbers, writes):
    done = []
    write = files.write

    def until_full(path, content):
        if len(done) == writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        done.append(path)
        write(path, content)

    events = []
    with monkeypatch.context() as patch:
        patch.setattr(files, "write", until_full)
        with pytest.raises(OSError, match="No space left on device"):
            run(recipe, tmp_path, listen=events.append)
    assert not any(isinstance(event, Reporting) for event in events)
    finished = sum(path.name == "COMPLETED" for path in done)
    assert len(list(tmp_path.glob("*/trials/*/COMPLETED"))) == finished
    same_numbers(run(recipe, tmp_path))


def test_provenance_says_with_what_the_run_was_made(unbroken):
    import torch

    import normscope as ns

    said = records.provenance(unbroken)
    assert said["libraries"]["torch"] == torch.__version__
    assert said["normscope"] == ns.__version__
    assert (said["engine"], said["workers"], said["threads_per_worker"]) == ("inline", 1, 1)
    assert len(said["source_sha256"]) == 64
    assert {"git", "python", "platform", "device", "started"} <= set(said)
