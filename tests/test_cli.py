from __future__ import annotations

import json
import math
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from normscope import cli
from normscope.cli import main
from normscope.study.folder import driving

SMOKE = ["compare", "--scale", "smoke", "--model", "mlp", "--depth", "2", "--width", "8", "--steps", "2"]
SMOKE += ["--norms", "batchnorm,layernorm", "--seeds", "1", "--max-train", "48", "--max-eval", "16", "--workers", "0"]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run. Tests must not change it."""
    out = tmp_path_factory.mktemp("cli") / "runs"
    assert main([*SMOKE, "--out", str(out)]) == 0
    return out


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "runs"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on stderr of a command that must end with exit code 2."""
    capsys.readouterr()
    assert main(list(map(str, arguments))) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("normscope: ")
    assert printed.err.count("\n") == 1
    assert printed.err.endswith("\n")
    return printed.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--norms", "batchnrom"], "Unknown normalizer 'batchnrom'; did you mean batchnorm"),
        (["--norms", "batchnorm:epsilon=1"], "Unknown option 'epsilon' of batchnorm; did you mean eps"),
        (["--norms", "regnorm[penalty=B]"], "written NAME or NAME:OPTION=VALUE"),
        (["--norms", ""], "written NAME or NAME:OPTION=VALUE"),
        (["--norms", "none,none"], "norms must not name one twice, got none"),
        (["--data", "no/such/data"], "no/such/data"),
        (["--model", "vgg"], "'vgg'"),
        (["--scale", "huge"], "'huge'"),
        (["--depht", "3"], "--depht"),
        (["--depth", "three"], "--depth: expected a whole number, got 'three'"),
        (["--depth", "0"], "depth must be at least 1, got 0"),
        (["--model", "wrn", "--depth", "9"], "depth must be 6n + 2"),
        (["--model", "wrn", "--depth", "8", "--train-depth", "9"], "train_depth: depth must be 6n + 2"),
        (["--skips"], "skips is an option of the model wrn, got mlp"),
        (["--lrs", "0.1,0"], "a learning rate must be positive and finite, got 0.0"),
        (["--lrs", "0.1;0.2"], "--lrs: expected a number or several separated by commas"),
        (["--lrs=-0.1"], "a learning rate must be positive and finite, got -0.1"),
        (["--seeds", "0"], "seeds must be at least 1, got 0"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
        (["--batch-size", "1"], "batchnorm take statistics over the batch"),
        (["--batch-size", "49"], "must not exceed the 48 training examples"),
        (["--noise", "0"], "noise must be positive and finite, got 0.0"),
        (["--momentum", "1"], "momentum must be at least 0 and below 1"),
        (["--workers", "-1"], "workers must not be negative, got -1"),
        (["--threads-per-worker", "0"], "threads-per-worker must be at least 1, got 0"),
        (["--max-eval", "0"], "max_eval must be at least 1, got 0"),
        (["--probes", "spectra"], "there is no probe 'spectra'; did you mean spectrum"),
        (["--lanczos-steps", "9"], "lanczos_steps is an option of spectrum; add it to probes"),
        (["--probes", "spectrum", "--spectrum-steps", "0,3"], "must lie between 0 and the 2 steps of training, got 3"),
        (["--probes", "spectrum", "--spectrum-modes", "train,test"], "must be among train, eval, got 'test'"),
        (["--probes", "sharpness", "--curvature-examples", "49"], "must not exceed the 48 training examples"),
        (["--probes", "spectrum", "--spectrum-groups", "head.*"], "'head.*' matches none with batchnorm"),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_no_folder(arguments, says, capsys, tmp_path):
    assert says in refused(capsys, *SMOKE, *arguments, "--out", tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"x": [], "label": []}, "Check that no file is empty"),
        ({"x": [1.0, math.nan, 2.0, 3.0] * 20, "label": [0, 1] * 40}, "hold a missing, NaN or infinite feature"),
        ({"x": [[1.0, 2.0], [3.0]] * 40, "label": [0, 1] * 40}, "differ in length"),
        ({"x": [1.0, 2.0] * 40, "label": [0] * 80}, "all training examples have the same label"),
        ({"x": [1.0, 2.0] * 40}, "no label column"),
        ({"x": ["a", "b"] * 40, "label": [0, 1] * 40}, "no image or numeric column"),
    ],
)
def test_data_that_cannot_be_used_are_one_line_exit_code_2_and_no_folder(columns, says, capsys, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    types = {"x": pa.float64()} if not len(columns["x"]) else {}
    table = pa.table({name: pa.array(values, types.get(name)) for name, values in columns.items()})
    pq.write_table(table, data / "train-00000-of-00001.parquet")
    assert says in refused(capsys, *SMOKE, "--data", data, "--out", tmp_path / "runs")
    assert list(tmp_path.iterdir()) == [data]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "compare, norms, status, resume, report"),
        (["compere"], "compare, norms, status, resume, report"),
        (["status", "a", "b"], "Unrecognized options: b"),
        (["status", "absent"], "there is no folder absent"),
        (["report", "absent"], "there is no folder absent"),
        (["resume", "absent"], "there is no folder absent"),
        (["norms", "--jsno"], "did you mean --json"),
    ],
)
def test_bad_commands_are_one_line(arguments, says, capsys):
    assert says in refused(capsys, *arguments)


def test_a_file_where_the_runs_should_go_is_one_line(capsys, tmp_path):
    (tmp_path / "file").touch()
    assert "Not a directory" in refused(capsys, *SMOKE, "--out", tmp_path / "file" / "runs")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_run_folder_given_as_out_is_one_line(capsys, finished):
    (folder,) = finished.iterdir()
    assert "is itself a run folder" in refused(capsys, *SMOKE, "--out", folder)


def test_damage_by_hand_is_one_line_with_file_and_remedy(capsys, copied):
    path = next(copied.glob("*/trials/*/rows.parquet"))
    path.write_bytes(b"")
    for command in ([*SMOKE, "--out"], ["resume"], ["report"], ["status"]):
        says = refused(capsys, *command, copied)
        assert f"{path} is damaged" in says
        assert f"remove the folder {path.parent}" in says


def test_a_run_in_other_hands_is_one_line(capsys, copied):
    (folder,) = copied.iterdir()
    (folder / "COMPLETED").unlink()
    with driving(folder):
        assert "another process is running" in refused(capsys, *SMOKE, "--out", copied)


def test_the_table_is_printed_as_it_fills_and_whole_at_the_end(capsys, tmp_path):
    assert main([*SMOKE, "--out", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "\x1b" not in printed.out
    lines = printed.out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("batchnorm ", "layernorm "))] == [
        "batchnorm",
        "layernorm",
    ] * 2
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"report   {folder / 'report.html'}" in lines
    assert (folder / "report.html").is_file()


def test_a_finished_comparison_is_printed_without_torch_and_without_the_data(finished):
    code = (
        "import sys; from normscope.cli import main; code = main(sys.argv[1:]); "
        "print(code, {'torch', 'datasets', 'sklearn'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, *SMOKE, "--out", str(finished)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert printed.stdout.splitlines()[-1] == "0 set()"
    assert "layernorm" in printed.stdout


def cpu_seconds(code: str) -> tuple[float, str]:
    """CPU time of a new interpreter that runs `code`, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, printed


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom normscope.cli import main\ntry:\n    main(['--help'])\nfinally:\n"
        "    assert not {'torch', 'numpy', 'pandas', 'rich'} & set(sys.modules), sorted(sys.modules)"
    )
    helps = [cpu_seconds(code) for _ in range(3)]
    assert "compare" in helps[0][1]
    # Beside torch's own import in the same minute: a busy or slow machine stretches both.
    assert min(seconds for seconds, _ in helps) < cpu_seconds("import torch")[0] / 5


def test_help_of_compare_lists_every_option(capsys):
    with pytest.raises(SystemExit) as end:
        main(["compare", "--help"])
    assert not end.value.code
    printed = capsys.readouterr().out
    for option in ("data", "model", "depth", "width", "skips", "train-depth", "norms", "lrs", "seeds", "steps"):
        assert f"--{option}" in printed
    for option in ("batch-size", "noise", "momentum", "weight-decay", "penalty-weight", "max-train", "max-eval"):
        assert f"--{option}" in printed
    for option in ("scale", "out", "workers", "threads-per-worker"):
        assert f"--{option}" in printed


def test_norms_lists_the_table(capsys):
    import normscope as ns

    assert main(["norms", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in table] == [row.name for row in ns.normalizers()]
    assert {row["name"] for row in table if row["penalized"]} == {"regnorm", "preregnorm"}
    assert main(["norms"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(table)


def test_status_tells_finished_from_stopped_and_running(capsys, copied):
    def state() -> tuple[str, int, int]:
        capsys.readouterr()
        assert main(["status", str(copied), "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        return row["state"], row["finished"], row["trials"]

    assert state() == ("finished", 4, 4)
    (folder,) = copied.iterdir()
    next(folder.glob("trials/*/COMPLETED")).unlink()
    assert state() == ("stopped", 3, 4)
    with driving(folder):
        assert state() == ("running", 3, 4)
    assert main(["status", str(copied)]) == 0
    assert "3/4" in capsys.readouterr().out


def test_resume_finishes_what_was_stopped(capsys, copied):
    (folder,) = copied.iterdir()
    (folder / "COMPLETED").unlink()
    next(folder.glob("trials/*/COMPLETED")).unlink()
    assert main(["resume", str(copied), "--workers", "0"]) == 0
    assert "4 trials, 3 of them finished before" in capsys.readouterr().out
    assert (folder / "COMPLETED").exists()


def test_a_renamed_run_is_not_resumed_beside_itself(capsys, copied):
    (folder,) = copied.iterdir()
    folder.rename(copied / "mine")
    assert f"call it {folder.name} again" in refused(capsys, "resume", copied)


def test_report_writes_the_report_anew(capsys, copied):
    (folder,) = copied.iterdir()
    (folder / "report.html").unlink()
    assert main(["report", str(copied)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "threads"),
    [
        (["--workers", "1", "--probes", "spectrum"], 5),
        (["--workers", "2", "--probes", "spectrum"], 1),
        (["--workers", "1"], 1),
        (["--workers", "1", "--probes", "spectrum", "--threads-per-worker", "3"], 3),
        (["--workers", "0", "--probes", "spectrum"], 1),
    ],
)
def test_a_worker_alone_with_spectra_has_every_cpu(monkeypatch, tmp_path, arguments, threads):
    engines = []

    def stop(recipe, *, engine, **_rest):
        engines.append(engine)
        raise ValueError("enough")

    monkeypatch.setattr(cli, "compare", stop)
    monkeypatch.setattr(cli.os, "sched_getaffinity", lambda _process: set(range(5)))
    assert main([*SMOKE, *arguments, "--out", str(tmp_path)]) == 2
    assert engines[0].describe()["threads_per_worker"] == threads
