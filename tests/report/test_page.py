import hashlib
import html
import math
import re
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from normscope.report import figures, page, tables
from report import synthetic

EVIL = "<script>alert(1)</script>"


def render(frame, recipe, *, provenance=synthetic.PROVENANCE, data=synthetic.DATA):
    return page.render(frame, recipe, provenance, data, figures.draw(frame, recipe), title="compare-0123456789ab")


@pytest.fixture(scope="module")
def text(frame, recipe):
    return render(frame, recipe)


@pytest.fixture(scope="module")
def prose(text):
    """What a reader sees, without tags and white space."""
    body = re.sub(r"<(script|style).*?</\1>", "", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_vendored_plotly_is_the_one_that_the_readme_names():
    readme = (page.STATIC / "README.md").read_text()
    digest = hashlib.sha256((page.STATIC / "plotly-cartesian.min.js").read_bytes()).hexdigest()
    assert f"sha256 {digest}" in readme
    version = re.search(r"version (\d+\.\d+\.\d+)", readme)[1]
    assert f"plotly.js (cartesian - minified) v{version}" in (page.STATIC / "plotly-cartesian.min.js").read_text(
        "utf-8"
    )
    assert "MIT License" in (page.STATIC / "LICENSE.plotly").read_text()


def test_page_is_below_2_megabytes(text):
    assert len(text.encode()) < 2_000_000


def test_page_stays_below_2_megabytes_for_a_long_study_of_twenty_rows():
    recipe = synthetic.recipe([*synthetic.TEN_ROWS, *(f"row{i}" for i in range(10))], lrs=[0.1], steps=1000)
    assert len(render(synthetic.comparison(recipe), recipe).encode()) < 2_000_000


def test_the_same_record_gives_the_same_page(frame, recipe, text):
    assert render(frame.copy(), dict(recipe)) == text


def test_page_says_what_was_asked_and_with_what(prose):
    for fact in (
        "What do 10 normalizers do to a network", "normscope compare --data digits", "2.13.0", "c0" * 32,
        "The test split is a stratified part of train.", "penalty_weight", "2026-11-20T12:00:00+00:00",
    ):  # fmt: skip
        assert fact in prose


def test_page_states_how_divergence_counts_and_lists_every_diverged_trial(prose):
    assert "A diverged trial counts as accuracy 0" in prose
    assert "none 0.3 seed 0 at step 33, seed 1 at step 33, seed 2 at step 33" in prose
    assert "4 of 90 trials diverged" in prose
    assert "layernorm 0.3 seed 1 at step 33" in prose


def test_page_says_what_it_does_not_show(prose):
    assert "What this does not show" in prose
    assert "Training stops after 100 steps" in prose
    assert "Initialization was measured at depth 26 and training at depth 14." in prose


def test_page_says_of_what_its_spectra_are():
    recipe = synthetic.recipe(["a"], lrs=[0.1], **synthetic.CURVATURE)
    text = render(synthetic.frame(synthetic.trial("a", 0.1, 0, validation=0.5)), recipe)
    assert "those of seed 0 on one batch of 512 training examples" in text
    assert "seed 0 on one batch" not in render(
        synthetic.comparison(synthetic.recipe(["a"], lrs=[0.1])), synthetic.recipe(["a"], lrs=[0.1])
    )


def test_page_with_spectra_of_ten_rows_stays_below_2_megabytes():
    recipe = synthetic.recipe(lrs=[0.1], **synthetic.CURVATURE)
    rng = np.random.default_rng(0)
    rows = []
    for name in synthetic.TEN_ROWS:
        for step in (0, 50):
            for probe in ("spectrum", "spectrum.eval"):
                nodes, weights = 100 * rng.standard_normal(160), rng.random(160) ** 8
                rows += synthetic.spectrum(name, 0.1, step, list(nodes), list(weights), probe=probe)
    frame = pd.concat([synthetic.comparison(recipe), synthetic.frame(rows)])
    text = render(frame, recipe)
    assert "Spectral density of the Hessian at step 50" in text
    assert len(text.encode()) < 2_000_000


def test_every_figure_has_caption_numbers_and_table(text, drawn):
    for figure in drawn.values():
        assert html.escape(figure.caption, quote=False).replace("'", "&#39;") in text
        link = re.search(rf'<a download="{figure.name}\.csv" href="data:text/csv;charset=utf-8,([^"]*)"', text)
        assert unquote(link[1]) == tables.to_csv(figure)
    assert text.count("<figure ") == text.count("<figcaption>") == text.count("<details>") == len(drawn)


def test_names_in_the_record_are_text_wherever_they_appear():
    recipe = synthetic.recipe([EVIL, "batchnorm"], data=EVIL, lrs=[0.1])
    text = render(
        synthetic.comparison(recipe, diverges=lambda norm, lr, seed: seed == 0),
        recipe,
        provenance=synthetic.PROVENANCE | {"command": EVIL, "device": EVIL},
        data=synthetic.DATA | {"name": EVIL, "note": EVIL},
    )
    assert "<script>alert" not in text
    assert text.count("<script") == 3
    assert "&lt;script&gt;alert(1)" in text


def test_policy_loads_nothing_and_runs_only_known_scripts(text):
    policy = html.unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1])
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert "unsafe-eval" not in policy


def test_page_names_no_other_place(text):
    assert not re.findall(r'(?:src|href|action)="(?!#|data:)[^"]*"', text)
    assert "@import" not in text
    assert "url(" not in text


def test_partial_record_gives_a_page_that_says_so(recipe, frame):
    partial = frame[(frame["kind"] == "init") | (frame["seed"] == 0)]
    text = render(partial, recipe)
    assert "60 of the planned trials have not ended" in text


def test_single_seed_and_missing_optional_facts_give_a_page():
    recipe = synthetic.recipe(["batchnorm"], lrs=[0.1], seeds=1)
    text = render(synthetic.comparison(recipe), recipe, provenance={}, data={"name": "digits"})
    assert "With 1 seed(s) an interval over seeds says little or nothing." in text
    assert "only rate tried" in text


@pytest.mark.parametrize(("bounds", "said"), [
    ({"max_train": 1437, "max_eval": 180}, "1437 train, 180 validation, 180 test examples"),
    ({"max_train": 5000, "max_eval": 2000}, None),
])  # fmt: skip
def test_data_that_were_cut_are_named_and_bounds_that_did_not_bind_are_not(frame, bounds, said):
    text = render(frame, synthetic.recipe(**bounds))
    assert ("Only part of the data was used" in text) == (said is not None)
    assert said is None or said in text


def test_values_that_are_not_finite_leave_gaps():
    recipe = synthetic.recipe(["batchnorm"])
    frame = synthetic.comparison(recipe)
    frame.loc[frame["depth"] == 3, "value"] = math.nan
    frame.loc[frame["depth"] == 4, "value"] = math.inf
    assert "<figure" in render(frame, recipe)
