"""`normscope norms --check`: what is printed, and the exit code."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

import normscope as ns
from normscope import trust
from normscope.cli import main
from normscope.console import norms
from normscope.trust import Environment, Outcome, Result

CHECK = ["norms", "--check", "--norms", "layernorm,bnl2", "--badges", "state_dict,train=eval"]
WHERE = Environment(torch="2.13", python="3.11", device="cpu")


def result(row: str, badge: str, **outcome: object) -> Result:
    return Result(normalizer=row, badge=badge, outcome=Outcome(**outcome), seconds=0.1)


RESULTS = [
    result("batchnorm", "hessian", state="passed", measured=2e-9, bound=1e-6),
    result("batchnorm", "ddp", state="does not apply", reason="no synchronization yet"),
    result("weightnorm", "hessian", state="failed", measured=math.inf, bound=1e-6, reason="worst at (N, C)"),
    result("weightnorm", "ddp", state="not run here", reason="this torch has no gloo"),
]
BADGES = trust.select(["hessian", "ddp"])
ORDERED = sorted(RESULTS, key=lambda result: result.normalizer)


def test_the_check_prints_numbers_bounds_and_where_they_hold(capsys):
    assert main(CHECK) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["state_dict", "train=eval"]
    assert printed[1].split() == ["at", "most", "0", "1e-12"]
    assert [line.split()[0] for line in printed[2:4]] == ["layernorm", "bnl2"]
    assert printed[-1].startswith("torch ")


def test_json_lists_everything(capsys):
    assert main([*CHECK, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["environment"].keys() == {"torch", "python", "device"}
    assert [badge["name"] for badge in table["badges"]] == ["state_dict", "train=eval"]
    assert [(row["normalizer"], row["badge"]) for row in table["outcomes"]] == [
        (row, badge) for row in ("layernorm", "bnl2") for badge in ("state_dict", "train=eval")
    ]
    assert all(row.keys() >= {"outcome", "measured", "bound", "reason", "seconds"} for row in table["outcomes"])


def test_a_failed_badge_is_exit_code_1_and_one_line_after_the_table(capsys, monkeypatch):
    monkeypatch.setattr(trust, "check", lambda *_arguments, **_options: RESULTS)
    assert main(["norms", "--check", "--badges", "hessian,ddp"]) == 1
    printed = capsys.readouterr()
    assert "FAILED" in printed.out
    assert printed.err == "normscope: 1 of 4 badges failed: weightnorm hessian.\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--check", "--badges", "hesian"], "Unknown badge 'hesian'; choose from reference, gradcheck"),
        (["--check", "--norms", "batchnrom"], "Unknown normalizer 'batchnrom'; did you mean batchnorm"),
        (["--check", "--norms", "none,none"], "norms must not name one twice, got none"),
        (["--check", "--device", "abacus"], "got 'abacus'"),
        (["--check", "--device", "meta"], "must be one that computes"),
        (["--check", "--json", "--markdown"], "choose one"),
        (["--norms", "none"], "--norms is an option of the check; add --check"),
        (["--markdown"], "--markdown is an option of the check; add --check"),
    ],
)
def test_bad_commands_are_one_line(arguments, says, capsys):
    assert main(["norms", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert says in printed.err


def test_the_text_says_why_for_everything_that_is_not_a_pass():
    text = norms.as_text(BADGES, ORDERED, WHERE)
    assert re.search(r"^batchnorm +2e-09 +-$", text, re.MULTILINE)
    assert re.search(r"^weightnorm +FAILED +\?$", text, re.MULTILINE)
    for line in (
        "ddp of batchnorm: does not apply; no synchronization yet",
        "hessian of weightnorm: failed, inf of at most 1e-06; worst at (N, C)",
        "ddp of weightnorm: not run here; this torch has no gloo",
    ):
        assert line in text.splitlines()


def test_the_markdown_has_a_mark_for_each_and_the_largest_number_of_those_passed():
    lines = norms.as_markdown(BADGES, ORDERED, WHERE).splitlines()
    assert lines[2:6] == [
        "| `batchnorm` | ✓ | – |",
        "| `weightnorm` | **✗** | ? |",
        "| largest of those passed | 2e-09 |  |",
        "| bound | 1e-06 |  |",
    ]
    assert "- hessian of weightnorm: failed, inf of at most 1e-06; worst at (N, C)." in lines


def test_what_json_cannot_write_is_said_in_words():
    (row,) = [
        row for row in json.loads(norms.as_json(BADGES, RESULTS, WHERE))["outcomes"] if row["outcome"] == "failed"
    ]
    assert row["measured"] is None
    assert row["reason"].startswith("measured inf")


def test_the_list_alone_neither_imports_nor_runs_the_badges():
    code = (
        "import sys; from normscope.cli import main; main(['norms']); "
        "sys.exit(any(name.startswith('normscope.trust') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_table_of_the_readme_has_every_row_and_every_badge():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    table = readme.split("<!-- badges: begin -->")[1].split("<!-- badges: end -->")[0]
    head, _, *rows = [line for line in table.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in head.split("|")[2:-1]] == [badge.name for badge in trust.BADGES]
    assert [row.split("`")[1] for row in rows[:-2]] == [row.name for row in ns.normalizers()], "run scripts/badges"
