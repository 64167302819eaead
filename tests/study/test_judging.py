"""Verdicts from run folders: which runs are judged, at which scale, and how they are kept."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from normscope.study import folder as folders
from normscope.study import judging
from normscope.study.paper import study_of

from .synthetic_paper import EXPLODES, FIG1, FIG2, PAPER, PARTED, accuracies, install, norms, write_run

EARLY, LATE = "2026-11-20T12:00:00+00:00", "2026-11-21T09:00:00+00:00"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "PAPER")


def fig1(out: Path, growth: float, scale: str = "smoke", *, started: str = EARLY, **overrides: str) -> Path:
    return write_run(out, study_of(PAPER, FIG1, scale, overrides), norms(growth), started=started)


def fig2(out: Path, scale: str = "smoke") -> Path:
    return write_run(out, study_of(PAPER, FIG2, scale, {}), accuracies)


def told(verdicts) -> dict[str, tuple[str, str]]:
    return {verdict.claim: (verdict.verdict, verdict.scale) for verdict in verdicts}


@pytest.mark.parametrize(("growth", "expected"), [(3.0, "reproduced"), (1.0, "contradicted"), (1.5, "undecided")])
def test_a_claim_is_judged_from_the_rows_of_a_run(tmp_path, growth, expected):
    folder = fig1(tmp_path, growth)
    (found,) = judging.verdicts(PAPER, [folder])
    assert (found.claim, found.verdict, found.scale, found.runs) == ("explodes", expected, "smoke", (folder.name,))
    assert found.mean == pytest.approx(growth - 1 + 0.005)
    assert found.remark == "Theory says so too."


def test_the_largest_scale_that_has_all_items_is_judged_and_no_other(tmp_path):
    fig1(tmp_path, 3.0, "smoke")
    fig2(tmp_path, "smoke")
    fig1(tmp_path, 1.0, "laptop")
    assert told(judging.verdicts(PAPER, [tmp_path])) == {
        "explodes": ("contradicted", "laptop"),
        "learns": ("reproduced", "smoke"),
    }
    fig2(tmp_path, "laptop")
    assert told(judging.verdicts(PAPER, [tmp_path]))["learns"] == ("reproduced", "laptop")


def test_of_runs_at_one_scale_the_newest_counts(tmp_path):
    fig1(tmp_path / "a", 3.0, started=LATE, data="here")
    fig1(tmp_path / "b", 1.0, started=EARLY, data="there")
    assert told(judging.verdicts(PAPER, [tmp_path])) == {"explodes": ("reproduced", "smoke")}
    assert told(judging.verdicts(PAPER, [tmp_path / "b", tmp_path / "a"])) == {"explodes": ("reproduced", "smoke")}


def test_parts_of_an_item_that_were_run_apart_are_read_together(tmp_path, monkeypatch):
    install(monkeypatch, "PARTED")
    early = fig1(tmp_path, 3.0, skips="true")
    fig1(tmp_path, 1.0, seeds="3")
    late = fig1(tmp_path, 3.0, started=LATE)
    (run,) = judging.newest([tmp_path]).values()
    # Each part from the newest run that has it: of the two without skips, only the later.
    assert [part.folder for part in run.together] == [late, early]
    assert set(run.rows()["condition"]) == {"", "skips"}
    (found,) = judging.verdicts(PARTED, [tmp_path])
    assert (found.runs, found.seeds) == ((late.name, early.name), 2)
    assert judging.measured(PARTED, judging.newest([tmp_path]))["fig1"]["smoke"] == pytest.approx(
        sum(part.seconds for part in run.together)
    )


def test_runs_of_an_item_without_parts_are_not_mixed(tmp_path):
    fig1(tmp_path, 3.0, skips="true")
    late = fig1(tmp_path, 3.0, started=LATE)
    (run,) = judging.newest([tmp_path]).values()
    assert [part.folder for part in run.together] == [late]


def test_a_run_that_is_not_finished_counts_for_nothing(tmp_path):
    folder = fig1(tmp_path, 3.0)
    (folder / folders.COMPLETED).unlink()
    assert judging.verdicts(PAPER, [folder]) == ()


def test_a_damaged_run_is_named(tmp_path):
    folder = fig1(tmp_path, 3.0)
    next(folder.glob("trials/*/rows.parquet")).write_bytes(b"")
    with pytest.raises(ValueError, match=r"rows.parquet is damaged"):
        judging.verdicts(PAPER, [folder])


def test_sizes_set_by_hand_are_told_and_another_place_of_the_data_is_not(tmp_path):
    (moved,) = judging.verdicts(PAPER, [fig1(tmp_path / "moved", 3.0, data="../digits")])
    assert moved.remark == EXPLODES.remark
    (changed,) = judging.verdicts(PAPER, [fig1(tmp_path / "changed", 3.0, "paper", seeds="2")])
    assert changed.remark == f"{EXPLODES.remark} The run of fig1 has other sizes than scale paper asks for."


def test_a_run_judges_what_it_decides_with_the_runs_beside_it(tmp_path):
    second = fig2(tmp_path)
    assert judging.judge_run(second) == ()
    first = fig1(tmp_path, 3.0)
    assert told(judging.judge_run(first)) == {"explodes": ("reproduced", "smoke"), "learns": ("reproduced", "smoke")}
    (found,) = judging.judge_run(second)
    assert (found.claim, found.runs) == ("learns", (first.name, second.name))


def test_a_run_is_judged_as_soon_as_its_trials_are_done_and_not_before(tmp_path):
    folder = fig1(tmp_path, 3.0)
    (folder / folders.COMPLETED).unlink()  # the report is written before a run is sealed
    assert told(judging.judge_run(folder)) == {"explodes": ("reproduced", "smoke")}
    next(folder.glob("trials/*/COMPLETED")).unlink()
    assert judging.judge_run(folder) == ()


def test_a_run_is_judged_by_itself_even_where_a_newer_one_lies_beside_it(tmp_path):
    old = fig1(tmp_path, 3.0, started=EARLY)
    new = fig1(tmp_path, 1.0, started=LATE, data="elsewhere")
    (found,) = judging.judge_run(old)
    assert (found.verdict, found.runs) == ("reproduced", (old.name,))
    next(new.glob("trials/*/rows.parquet")).write_bytes(b"")  # nor does it matter what became of that one
    (found,) = judging.judge_run(old)
    assert (found.verdict, found.runs) == ("reproduced", (old.name,))


def test_verdicts_survive_their_file(tmp_path):
    fig1(tmp_path, 3.0)
    (decided,) = judging.verdicts(PAPER, [tmp_path])
    (open_,) = (v for v in judging.last_verdicts(PAPER, judging.newest([tmp_path])) if v.claim == "learns")
    path = tmp_path / judging.VERDICTS
    judging.write(path, [decided, open_])
    first, second = judging.read(path)
    assert first == decided
    assert dataclasses.replace(second, mean=0, low=0, high=0) == dataclasses.replace(open_, mean=0, low=0, high=0)
    assert math.isnan(second.mean)
    assert json.loads(path.read_text())["verdicts"][1]["mean"] is None


@pytest.mark.parametrize("content", ["{}", '{"verdicts": 3}', '{"verdicts": [3]}', '{"verdicts": [{"mean": 1}]}', "["])
def test_a_damaged_file_of_verdicts_is_named(tmp_path, content):
    path = tmp_path / judging.VERDICTS
    path.write_text(content)
    with pytest.raises(ValueError, match=r"verdicts.json is damaged"):
        judging.read(path)


def test_every_claim_has_a_last_verdict_from_runs_or_else_from_the_package(tmp_path):
    fig1(tmp_path / "records", 1.0, "laptop")
    fig2(tmp_path / "records", "laptop")
    chosen = judging.newest([tmp_path / "records"])
    shipped = tmp_path / "shipped.json"
    seconds = judging.measured(PAPER, chosen)
    judging.write(shipped, judging.verdicts(PAPER, [tmp_path / "records"]), seconds=seconds)
    paper = dataclasses.replace(PAPER, shipped=shipped)
    fig1(tmp_path / "runs", 3.0, "smoke")
    here = judging.newest([tmp_path / "runs"])

    assert told(judging.last_verdicts(PAPER, {})) == {"explodes": ("not judged", ""), "learns": ("not judged", "")}
    assert told(judging.last_verdicts(paper, {})) == {
        "explodes": ("contradicted", "laptop"),
        "learns": ("reproduced", "laptop"),
    }
    assert told(judging.last_verdicts(paper, here))["explodes"] == ("reproduced", "smoke")
    assert judging.seconds(paper, here) == {
        "fig1": {"laptop": 12.0, "smoke": 8.0},
        "fig2": {"laptop": 10.0},
        "table1": {},
    }


def test_a_paper_whose_file_of_verdicts_is_not_there_has_none(tmp_path):
    paper = dataclasses.replace(PAPER, shipped=tmp_path / "absent.json")
    assert {verdict.verdict for verdict in judging.last_verdicts(paper, {})} == {"not judged"}


def test_the_package_ships_what_its_records_say(tmp_path, monkeypatch, capsys):
    from normscope_papers import verdicts

    from . import synthetic_paper

    shipped = tmp_path / "shipped.json"
    monkeypatch.setattr(synthetic_paper, "PAPER", dataclasses.replace(PAPER, shipped=shipped))
    fig1(tmp_path / "records", 3.0, "laptop")
    assert verdicts.main([]) == 2
    assert verdicts.main([str(tmp_path / "absent")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert not shipped.exists()
    assert verdicts.main([str(tmp_path / "records")]) == 0
    assert capsys.readouterr().out.strip() == str(shipped)
    assert told(judging.read(shipped)) == {"explodes": ("reproduced", "laptop")}
    assert json.loads(shipped.read_text())["seconds"]["fig1"] == {"laptop": 12.0}
