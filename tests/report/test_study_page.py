"""The report of an item's run, and the page about whole papers."""

from __future__ import annotations

import dataclasses
import html
import math
import re
from pathlib import Path

import msgspec
import pytest

from normscope import report
from normscope.console.papers import write_report
from normscope.report import published, study_words, template
from normscope.report.tables import Table
from normscope.study import Norm, Switch, judging
from normscope.study import folder as folders
from normscope.study.claims import Effect
from normscope.study.paper import study_of
from report.test_browser import Visit, chromium  # noqa: F401
from study import synthetic_paper
from study.synthetic_paper import FIG1, FIG2, PAPER, TABLE1, accuracies, install, norms, write_run

EVIL = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "PAPER")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reported runs of every item. Tests must not change them."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        install(patch, "PAPER")
        for item, scale, values in (
            (FIG1, "laptop", norms(3.0)),
            (FIG2, "smoke", accuracies),
            (TABLE1, "smoke", norms(1.0)),
        ):
            write_report(write_run(out, study_of(PAPER, item, scale, {}), values))
    return out


def run_of(out: Path, item: str) -> Path:
    (folder,) = out.glob(f"some-paper-{item}-*")
    return folder


def prose(page: str) -> str:
    """What a reader sees, without tags and white space."""
    body = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def text(folder: Path) -> str:
    return (folder / "report.html").read_text("utf-8")


def test_a_report_lies_in_the_run_folder_with_its_figures(out):
    folder = run_of(out, "fig1")
    names = {path.name for path in (folder / "figures").iterdir()}
    assert names == {"norms.png", "norms.pdf", "norms.csv", "fig1-table1.csv"}
    assert report.write(folder) == folder / "report.html"


def test_the_same_record_gives_the_same_page(out):
    folder = run_of(out, "fig1")
    before = text(folder)
    report.write(folder)
    assert text(folder) == before


def test_the_page_says_what_was_asked_at_which_scale_and_what_was_reduced(out):
    said = prose(text(run_of(out, "fig1")))
    for fact in (
        "Figure 1 of “A paper” (Nobody 2020, arXiv:0000.00000), at scale laptop: 6 experiments with 2 normalizers",
        "none of them trained.", "Everything here is of scale laptop and says nothing about a larger one.",
        "laptop: 400 images instead of all.", "The noise is a guess [G].", "normscope run some-paper/fig1",
        "over 3 seeds", "Norm of the gradient at the first site.", "A small part.", "c0" * 32,
        "2026-11-20T12:00:00+00:00", "batchnorm 6", run_of(out, "fig1").name,
    ):  # fmt: skip
        assert fact in said


def test_published_values_stand_beside_ours_with_interval_and_reason(out):
    said = prose(text(run_of(out, "fig1")))
    assert "gradient norm batchnorm 2.5 ± 0.1 3.01 [2.985, 3.035], 3 seeds Their network is wider." in said
    assert "perplexity none 59.2 nats not measured in this run It is not measured here." in said
    assert "Printed in the paper, and measured at scale laptop" in said


def test_verdicts_carry_effect_threshold_and_both_sides(out):
    said = prose(text(run_of(out, "fig1")))
    assert (
        "reproduced laptop Batch norm's gradients explode (section 4) Theory says so too. gradient norm at the first "
        "site, batchnorm minus layernorm 2.01 [1.985, 2.035], 3 seeds above 0.5" in said
    )
    assert "Claims that are not judged here claim statement also needs learns It learns fig2" in said


def test_a_run_that_decides_nothing_says_so(out):
    assert "No claim was judged from this run." in prose(text(run_of(out, "fig2")))
    said = prose(text(run_of(out, "table1")))
    assert "No claim rests on this item." in said
    assert "Table 1 of “A paper” (Nobody 2020, arXiv:0000.00000), at scale smoke: it needs no experiment." in said
    assert "Formulas row formula none x" in said


def test_divergences_are_listed(out):
    said = prose(text(run_of(out, "fig2")))
    assert "last step reached layernorm – 0.2 seed 0 at step 1 Record" in said
    assert "None of the 6 trials diverged." in prose(text(run_of(out, "fig1")))
    assert "2 networks trained for 2 steps; then each one's best learning rate again with 2 seeds." in said


def test_the_recipe_is_what_is_shared_and_what_differs():
    study = study_of(PAPER, FIG1, "smoke", {"norms": "batchnorm,regnorm:penalty=B", "max_train": "none"})
    shared, apart = study_words.recipe(study)
    assert dict(shared)["model.options.width"] == "8"
    assert dict(shared)["measurements"] == "gradient_norm batches=1 at step 0"
    assert dict(shared)["data.augment"] == "none"  # a default
    assert apart.header == ("experiment", "norm", "seed")
    assert apart.rows[-1] == ("regnorm,penalty=B-seed1", "regnorm:penalty=B", "1")


def test_the_recipe_tells_switches_and_the_final_stage():
    study = study_of(PAPER, FIG2, "smoke", {})
    switched = [
        msgspec.structs.replace(e, switches=(Switch(name="scale", options={"k": 1.1}),)) for e in study.experiments
    ]
    shared, apart = study_words.recipe(msgspec.structs.replace(study, experiments=tuple(switched)))
    assert dict(shared)["switches"] == "scale k=1.1"
    assert dict(shared)["final stage: seeds"] == "0, 1"
    assert apart.header == ("experiment", "training.optimizer.lr")


def test_a_single_experiment_is_told_as_what_sets_it_apart():
    study = study_of(PAPER, FIG1, "smoke", {"norms": "none", "seeds": "1"})
    shared, apart = study_words.recipe(study)
    assert [name for name, _ in shared] == ["paper", "item", "scale"]
    assert dict(zip(apart.header, apart.rows[0], strict=True))["norm"] == Norm("none").label


def test_one_seed_and_missing_trials_are_told(tmp_path):
    folder = write_run(tmp_path, study_of(PAPER, FIG1, "smoke", {"seeds": "1"}), norms(3.0))
    next(folder.glob("trials/layernorm*/COMPLETED")).unlink()
    write_report(folder)
    said = prose(text(folder))
    assert "1 of 2 trials have not ended; everything here is without them." in said
    assert "There is one seed, so nothing here has an interval and no claim is decided." in said
    assert judging.read(folder / judging.VERDICTS) == ()


def test_a_report_without_verdicts_judges_nothing(tmp_path):
    folder = write_run(tmp_path, study_of(PAPER, FIG1, "smoke", {}), norms(3.0))
    report.write(folder)
    assert "No claim was judged from this run." in prose(text(folder))
    assert not (folder / judging.VERDICTS).exists()


def test_names_in_the_record_are_text_wherever_they_appear(tmp_path, monkeypatch):
    published_evil = dataclasses.replace(FIG1.published[0], quantity=EVIL, gap=EVIL)
    item = dataclasses.replace(FIG1, title=EVIL, notes=(EVIL,), published=(published_evil,))
    claim = dataclasses.replace(PAPER.claims[0], statement=EVIL, remark=EVIL)
    claims = (claim, PAPER.claims[1])
    evil = dataclasses.replace(PAPER, title=EVIL, reference=EVIL, items=(item, FIG2, TABLE1), claims=claims)
    monkeypatch.setattr(synthetic_paper, "PAPER", evil)
    study = study_of(PAPER, FIG1, "smoke", {"data": EVIL})
    folder = write_run(tmp_path, study, norms(3.0))
    write_report(folder)
    report.write_papers(tmp_path / "page.html", [synthetic_paper.PAPER], judging.newest([folder]))
    for page, scripts in ((text(folder), 3), ((tmp_path / "page.html").read_text("utf-8"), 0)):
        assert "<script>alert" not in page
        assert page.count("<script") == scripts
        assert "&lt;script&gt;alert(1)" in page


def test_pages_load_nothing_and_run_only_known_scripts(out, tmp_path):
    papers_page = report.write_papers(tmp_path / "page.html", [PAPER], judging.newest([out]))
    for page in (text(run_of(out, "fig1")), papers_page.read_text("utf-8")):
        policy = html.unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1])
        assert policy.startswith("default-src 'none'; script-src '")
        assert "unsafe-inline" not in policy.split("style-src")[0]
        assert not re.findall(r'src="(?!data:)[^"]*"', page)
    assert "script-src 'none'" in html.unescape(papers_page.read_text("utf-8"))


def test_pages_stay_below_2_megabytes(out):
    assert all(len(text(folder).encode()) < 2_000_000 for folder in out.iterdir())


def test_a_study_of_a_paper_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    folder = write_run(tmp_path, study_of(PAPER, FIG1, "smoke", {}), norms(3.0))
    install(monkeypatch)
    with pytest.raises(ValueError, match="there is no item 'some-paper/fig1': no paper is installed"):
        report.write(folder)
    assert not (folder / "figures").exists()


def test_the_page_about_papers_has_every_item_and_every_claim(out, tmp_path):
    page = report.write_papers(tmp_path / "page.html", [PAPER], judging.newest([out])).read_text("utf-8")
    said = prose(page)
    assert "reproduced laptop Batch norm's gradients explode (section 4)" in said
    assert "not judged – It learns (section 5)" in said
    assert "Figure 1, scale laptop Gradients by depth" in said
    assert "2.5 ± 0.1 3.01 [2.985, 3.035], 3 seeds" in said
    assert "Formulas row formula none x" in said
    assert page.count('src="data:image/png;base64,') == 1
    link = re.search(r'<a href="([^"#][^"]*)">its report', page)[1]
    assert (tmp_path / link).resolve() == (run_of(out, "fig1") / "report.html").resolve()


def test_the_page_shows_the_largest_scale_and_draws_a_picture_that_is_not_there(tmp_path):
    for scale, growth in (("smoke", 1.0), ("laptop", 3.0)):
        write_run(tmp_path, study_of(PAPER, FIG1, scale, {}), norms(growth))
    page = report.write_papers(tmp_path / "page.html", [PAPER], judging.newest([tmp_path])).read_text("utf-8")
    assert "Figure 1, scale laptop" in page
    assert page.count('src="data:image/png;base64,') == 1
    assert "its report" not in page


def test_tables_of_the_page_read_the_items_that_they_name(tmp_path):
    def items(frame, _study):
        return (Table("Items", ("item",), tuple((item,) for item in sorted(frame["item"].unique()))),)

    paper = dataclasses.replace(PAPER, items=(dataclasses.replace(FIG1, reads=("fig2",), tables=items), FIG2))
    for one, values in ((FIG1, norms(1.0)), (FIG2, accuracies)):
        write_run(tmp_path, study_of(PAPER, one, "smoke", {}), values)
    page = report.write_papers(tmp_path / "page.html", [paper], judging.newest([tmp_path])).read_text("utf-8")
    assert "Items item fig1 fig2" in prose(page)


def test_without_runs_the_page_says_what_was_published_and_how_to_run(tmp_path):
    said = prose(report.write_papers(tmp_path / "page.html", [PAPER], {}).read_text("utf-8"))
    assert "gradient norm batchnorm 2.5 ± 0.1 not run Their network is wider." in said
    assert "normscope run some-paper/fig1" in said


@pytest.mark.parametrize(
    ("effect", "said"),
    [
        (Effect("", "1", {0: 1.0}), "1, 1 seed"),
        (Effect("", "nats", {0: 1.0, 1: 3.0}), "2 [-10.71, 14.71], 2 seeds nats"),
        (Effect("", "1", {}), "not measured in this run"),
        (None, "not measured in this run"),
        (Effect("", "1", {0: math.inf, 1: 1.0}), "no finite value, 2 seeds"),
    ],
)
def test_our_value_is_told_with_what_is_behind_it(effect, said):
    value = dataclasses.replace(FIG1.published[0], measured=lambda _frame: effect)
    (found,) = published.beside(dataclasses.replace(FIG1, published=(value,)), synthetic_paper.pd.DataFrame())
    assert found.ours == said


def test_the_style_of_studies_is_no_part_of_a_comparisons_page():
    assert ".verdict" not in template.static("report.css")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_the_page_without_a_complaint_or_a_request(chromium, out, scheme):  # noqa: F811
    context = chromium.new_context(color_scheme=scheme, viewport={"width": 390, "height": 800})
    seen = Visit(context, run_of(out, "fig1") / "report.html")
    assert seen.tab.locator(".js-plotly-plot").count() == 1
    assert seen.tab.locator(".verdict.reproduced").count() == 1
    assert seen.tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert seen.complaints == []
    assert len([url for url in seen.requests if url.startswith("file:")]) == len(
        [url for url in seen.requests if not url.startswith(("data:", "blob:"))]
    )
    context.close()


def test_a_browser_shows_a_page_without_figures(chromium, out):  # noqa: F811
    context = chromium.new_context()
    seen = Visit(context, run_of(out, "table1") / "report.html")
    assert seen.complaints == []
    context.close()


def test_reports_of_studies_are_sealed_into_nothing(out):
    """A report may be written anew at any time: neither it nor the verdicts are under the seal of the run."""
    for folder in out.iterdir():
        folders.check_run(folder)
