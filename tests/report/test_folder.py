import pytest

from normscope import report
from normscope.report import tables


def test_write_puts_page_and_figures_into_the_run_folder(page, drawn):
    run = page.parent
    assert page == run / "report.html"
    expected = {f"{name}.{kind}" for name in drawn for kind in ("png", "pdf", "csv")}
    assert {path.name for path in (run / "figures").iterdir()} == expected
    assert {path.name for path in run.iterdir()} == {"report.html", "figures"}
    assert (run / "figures/training.csv").read_text() == tables.to_csv(drawn["training"])


def test_writing_again_gives_the_same_bytes(page):
    run = page.parent
    before = {path: path.read_bytes() for path in run.rglob("*.*")}
    assert report.write(str(run)) == page
    assert {path: path.read_bytes() for path in run.rglob("*.*")} == before


def test_page_is_named_after_its_folder(page):
    assert "<title>compare-0123456789ab" in page.read_text("utf-8")


def test_a_write_that_fails_leaves_no_partial_file(page, monkeypatch):
    run = page.parent
    before = sorted(run.rglob("*"))

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("normscope.report.folder.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        report.write(run)
    assert sorted(run.rglob("*")) == before
