"""What is refused before a folder is made."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from normscope.data import Dataset, Split
from normscope.study import preparation
from normscope.study.recipe import Options

from .conftest import TINY, run

WRN = Options(scale="smoke", norms=("none",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dataclasses.replace(TINY, norms=("batchnrom",)), "Unknown normalizer 'batchnrom'.*batchnorm"),
        (dataclasses.replace(TINY, norms=("regnorm:penality=B",)), "Unknown option 'penality'.*penalty"),
        (dataclasses.replace(TINY, norms=("regnorm:penalty=Z",)), "penalty of regnorm must be one of"),
        (dataclasses.replace(TINY, norms=("regnorm:name=none",)), "has no option 'name'"),
        (dataclasses.replace(TINY, data="no/such/data"), "no/such/data"),
        (dataclasses.replace(TINY, batch_size=1), "batchnorm take statistics over the batch.*at least 2, got 1"),
        (dataclasses.replace(TINY, batch_size=49), "must not exceed the 48 training examples of digits, got 49"),
        (
            dataclasses.replace(TINY, probes=("sharpness",), curvature_examples=49),
            "curvature_examples must not exceed the 48 training examples of digits, got 49",
        ),
        (dataclasses.replace(WRN, depth=9), "^depth: depth must be 6n \\+ 2"),
        (dataclasses.replace(WRN, train_depth=9), "^train_depth: depth must be 6n \\+ 2"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_leaves_no_folder(options, message, tmp_path):
    with pytest.raises(ValueError, match=message) as raised:
        run(options.resolve(), tmp_path / "runs")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "runs").exists()


def test_one_example_per_batch_is_fine_where_nothing_couples_them(tmp_path):
    preparation.try_out(dataclasses.replace(TINY, norms=("layernorm", "none"), batch_size=1).resolve())


def test_images_are_asked_for_by_the_image_model(monkeypatch):
    features = Split(torch.randn(8, 5), torch.arange(8) % 2)
    tabular = Dataset("table", features, features, features, 2, ("a", "b"), "0" * 64, "")
    monkeypatch.setattr(preparation, "load_data", lambda recipe: tabular)
    with pytest.raises(ValueError, match=r"wrn takes images, got examples of shape \(5,\); use mlp"):
        preparation.try_out(dataclasses.replace(WRN, batch_size=4).resolve())
    preparation.try_out(dataclasses.replace(TINY, batch_size=4).resolve())
