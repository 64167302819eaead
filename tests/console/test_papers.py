"""`normscope run` and `normscope papers`, from the command line to what is printed and written."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from normscope.cli import main
from normscope.study import folder as folders
from normscope.study import judging
from normscope.study.paper import study_of
from study.synthetic_paper import FIG1, FIG2, PAPER, accuracies, install, norms, write_run


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "PAPER")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one real run of an item. Tests must not change it."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        install(patch, "PAPER")
        assert main(["run", "some-paper/fig1", "--scale", "smoke", "--workers", "0", "--out", str(out)]) == 0
    return out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on stderr of a command that must end with exit code 2."""
    capsys.readouterr()
    assert main(list(map(str, arguments))) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("normscope: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_run_leaves_rows_report_figures_and_verdicts(finished):
    (folder,) = finished.iterdir()
    assert folder.name == study_of(PAPER, FIG1, "smoke", {}).folder_name
    for name in ("report.html", "figures/norms.png", "verdicts.json", "COMPLETED"):
        assert (folder / name).is_file()
    (verdict,) = judging.read(folder / judging.VERDICTS)
    assert (verdict.claim, verdict.scale, verdict.seeds, verdict.runs) == ("explodes", "smoke", 2, (folder.name,))


def test_run_prints_table_verdicts_and_places_and_asks_a_finished_run_nothing(finished, capsys):
    assert main(["run", "fig1", "--scale", "smoke", "--out", str(finished)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (folder,) = finished.iterdir()
    assert "Figure 1, scale smoke: Gradients by depth" in lines
    assert "Rows of each normalizer" in lines
    assert "batchnorm   4" in lines
    assert any("Batch norm's gradients explode (section 4)" in line for line in lines)
    assert any("claimed above 0.5" in line for line in lines)
    assert f"figures  {folder / 'figures'}" in lines
    assert f"verdicts {folder / 'verdicts.json'}" in lines


def test_run_judges_a_run_that_was_made_without_the_command_line(tmp_path, capsys):
    study = study_of(PAPER, FIG1, "smoke", {})
    folder = write_run(tmp_path, study, norms(3.0))
    assert main(["run", "some-paper/fig1", "--scale", "smoke", "--out", str(tmp_path)]) == 0
    assert (folder / judging.VERDICTS).is_file()
    assert "reproduced" in capsys.readouterr().out


def test_fields_are_set_before_and_after_options(tmp_path):
    study = study_of(PAPER, FIG1, "smoke", {"seeds": "1", "norms": "layernorm"})
    write_run(tmp_path, study, norms(3.0))
    for arguments in (
        ["seeds=1", "norms=layernorm", "--scale", "smoke", "--out", str(tmp_path)],
        ["--scale", "smoke", "--out", str(tmp_path), "seeds=1", "norms=layernorm"],
    ):
        assert main(["run", "some-paper/fig1", *arguments]) == 0
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["some-paper/fig9"], "there is no item 'some-paper/fig9'; did you mean some-paper/fig"),
        (["some-paper/fig1", "seed=1"], "fig1 has no field 'seed'; did you mean seeds; it has data, max_train"),
        (["some-paper/fig1", "seeds"], "a field of fig1 is set by NAME=VALUE, such as data=path/to/data, got 'seeds'"),
        (["some-paper/fig1", "=1"], "is set by NAME=VALUE"),
        (["some-paper/fig1", "seeds=1", "seeds=2"], "seeds must be set once, got seeds=1 and seeds=2"),
        (["some-paper/fig1", "seeds=two"], "seeds must be a whole number, got 'two'"),
        (["some-paper/fig1", "norms=batchnrom"], "Unknown normalizer 'batchnrom'; did you mean batchnorm"),
        (["some-paper/fig1", "data=no/such/data"], "no/such/data"),
        (["some-paper/table1", "--scale", "paper"], "table1 has no scale 'paper'; choose from smoke"),
        (["some-paper/fig1", "--scale", "huge"], "'huge'"),
        (["some-paper/fig1", "--workers", "-1"], "workers must not be negative, got -1"),
        ([], "ITEM"),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_no_folder(arguments, says, capsys, tmp_path):
    if "--scale" not in arguments:
        arguments = [*arguments, "--scale", "smoke"]
    assert says in refused(capsys, "run", *arguments, "--out", tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def test_report_judges_the_run_anew(tmp_path, capsys):
    folder = write_run(tmp_path, study_of(PAPER, FIG1, "smoke", {}), norms(3.0))
    judging.write(folder / judging.VERDICTS, [])
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert [verdict.verdict for verdict in judging.read(folder / judging.VERDICTS)] == ["reproduced"]


def test_status_and_resume_take_runs_of_items(finished, tmp_path, capsys):
    (made,) = finished.iterdir()
    folder = Path(shutil.copytree(made, tmp_path / made.name))
    assert main(["status", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["state"], row["finished"], row["trials"], row["scale"]) == ("finished", 4, 4, "smoke")
    (folder / folders.COMPLETED).unlink()
    next(folder.glob("trials/*/COMPLETED")).unlink()
    assert main(["resume", str(tmp_path), "--workers", "0"]) == 0
    assert "4 trials, 3 of them finished before" in capsys.readouterr().out
    assert (folder / folders.COMPLETED).is_file()


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    write_run(tmp_path / "runs", study_of(PAPER, FIG1, "laptop", {}), norms(3.0))
    write_run(tmp_path / "runs", study_of(PAPER, FIG2, "smoke", {}), accuracies)
    return tmp_path / "runs"


def test_papers_as_json_has_every_item_and_every_claim(judged, capsys):
    assert main(["papers", "--runs", str(judged), "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert [(item["paper"], item["name"], item["source"]) for item in table["items"]] == [
        ("some-paper", "fig1", "Figure 1"),
        ("some-paper", "fig2", "Figure 2"),
        ("some-paper", "table1", "Table 1"),
    ]
    assert table["items"][0]["seconds"] == {"laptop": 12.0}
    assert table["items"][0]["scales"] == ["smoke", "laptop", "paper"]
    first, second = table["claims"]
    assert (first["claim"], first["verdict"], first["scale"], first["seeds"]) == ("explodes", "reproduced", "laptop", 3)
    assert (first["statement"], first["source"]) == ("Batch norm's gradients explode", "section 4")
    assert (second["verdict"], second["scale"], second["mean"]) == ("not judged", "", None)


def test_papers_prints_items_with_cost_and_claims_with_verdicts(judged, capsys):
    assert main(["papers", "--runs", str(judged)]) == 0
    printed = capsys.readouterr().out
    assert "A paper\nNobody 2020" in printed
    assert "fig1    Figure 1  laptop 0:00:12  Gradients by depth" in printed
    assert "table1  Table 1   –               Definitions" in printed
    assert "reproduced    laptop    Batch norm's gradients explode (section 4)" in printed
    assert "2.01 [1.985, 2.035], 3 seeds" in printed
    assert "not judged    –         It learns (section 5)" in printed


def test_papers_looks_at_runs_where_nothing_else_is_named(judged, capsys, monkeypatch):
    monkeypatch.chdir(judged.parent)
    assert main(["papers", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["claims"][0]["verdict"] == "reproduced"
    (judged.parent / "empty" / "runs").mkdir(parents=True)
    for folder in (judged.parent / "empty", judged.parent / "empty" / "runs"):  # an empty runs/, and none at all
        monkeypatch.chdir(folder)
        assert main(["papers", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["claims"][0]["verdict"] == "not judged"


def test_papers_takes_several_folders(judged, capsys, tmp_path):
    write_run(tmp_path / "more", study_of(PAPER, FIG1, "smoke", {}), norms(3.0))
    assert main(["papers", "--json", "--runs", str(judged), str(tmp_path / "more")]) == 0
    assert [claim["verdict"] for claim in json.loads(capsys.readouterr().out)["claims"]] == ["reproduced", "reproduced"]


def test_papers_writes_a_page(judged, capsys, tmp_path):
    assert main(["papers", "--runs", str(judged), "--page", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    assert "Batch norm" in (tmp_path / "page.html").read_text("utf-8")


def test_papers_of_one_name_are_that_paper_alone(judged, capsys, tmp_path, monkeypatch):
    other = dataclasses.replace(PAPER, name="other-paper", title="Another paper")
    monkeypatch.setattr("normscope.console.papers.papers", lambda: (PAPER, other))
    assert main(["papers", "other-paper", "--json"]) == 0
    assert {item["paper"] for item in json.loads(capsys.readouterr().out)["items"]} == {"other-paper"}
    page = tmp_path / "page.html"
    assert main(["papers", "--runs", str(judged), "--page", str(page)]) == 0
    both = page.read_text("utf-8")
    assert "<h1>Papers as code</h1>" in both
    assert 'href="#some-paper-fig1"' in both
    assert 'href="#other-paper-fig1"' in both
    assert main(["papers", "some-paper", "--runs", str(judged), "--page", str(page)]) == 0
    assert "<h1>A paper</h1>" in page.read_text("utf-8")
    assert "Another paper" not in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["absent-paper"], "there is no paper 'absent-paper'; installed are"),
        (["--runs", "absent"], "there is no folder absent"),
        (["--page", "absent/page.html"], "there is no folder absent; make it, or choose another file"),
        (["--page", "."], "is a folder; name the file"),
        (["--page", "page.html", "--json"], "--json and --page are two ways to say the same; choose one"),
        (["--rusn", "a"], "--runs"),
    ],
)
def test_bad_papers_commands_are_one_line_and_write_nothing(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, "papers", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_one_line(judged, capsys):
    path = next(judged.glob("*fig1*/trials/*/rows.parquet"))
    path.write_bytes(b"")
    assert f"{path} is damaged" in refused(capsys, "papers", "--runs", judged)


@pytest.mark.parametrize("command", ["run", "papers"])
def test_help_imports_nothing_heavy(command):
    code = (
        f"import sys\nfrom normscope.cli import main\ntry:\n    main(['{command}', '--help'])\nfinally:\n"
        "    assert not {'torch', 'numpy', 'pandas', 'scipy', 'rich'} & set(sys.modules), sorted(sys.modules)"
    )
    environment = {**os.environ, "COLUMNS": "120"}
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert command in printed.stdout
