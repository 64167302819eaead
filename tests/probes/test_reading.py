from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from normscope.probes import Reading
from normscope.probes.reading import mean_over_batches


def reading(**changes: object) -> Reading:
    fields = {
        "name": "size",
        "unit": "1",
        "axes": ("layer", "kind"),
        "values": torch.arange(6.0, dtype=torch.float64).reshape(2, 3),
        "labels": {"layer": ("a", "b"), "kind": ("x", "y", "z")},
    }
    return Reading(**{**fields, **changes})


def test_the_frame_has_a_row_for_every_value() -> None:
    frame = reading().frame()

    assert list(frame.columns) == ["name", "layer", "kind", "value", "stderr", "unit"]
    assert frame["layer"].tolist() == ["a"] * 3 + ["b"] * 3
    assert frame["kind"].tolist() == ["x", "y", "z"] * 2
    assert frame["value"].tolist() == [0, 1, 2, 3, 4, 5]
    assert frame["stderr"].isna().all()


def test_a_number_is_a_frame_of_one_row() -> None:
    frame = reading(axes=(), labels={}, values=torch.tensor(2.0), stderr=torch.tensor(0.5)).frame()

    assert list(frame.columns) == ["name", "value", "stderr", "unit"]
    assert frame[["value", "stderr"]].to_numpy().tolist() == [[2.0, 0.5]]


@pytest.mark.parametrize("labels", [{"layer": ("a", "b")}, {"layer": ("a", "b"), "kind": ("x",)}])
def test_labels_that_do_not_fit_are_refused(labels: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ValueError, match="labels every entry of every axis"):
        reading(labels=labels)


def test_a_standard_error_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape of the values, \(2, 3\), but \(3,\) arrived"):
        reading(stderr=torch.zeros(3))


def test_a_reading_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        reading().unit = "nats"  # type: ignore[misc]


def test_the_standard_error_covers_the_true_mean_as_often_as_it_should(generator: torch.Generator) -> None:
    samples = torch.randn(10, 20_000, generator=generator, dtype=torch.float64)

    mean, stderr = mean_over_batches(list(samples))

    assert stderr is not None
    torch.testing.assert_close(stderr.square().mean(), torch.tensor(0.1, dtype=torch.float64), rtol=0.02, atol=0)
    covered = (mean.abs() < 2.262 * stderr).double().mean()  # Student's t, 9 degrees of freedom, 95 %
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 20_000)


def test_one_sample_has_no_standard_error() -> None:
    assert mean_over_batches([torch.ones(2)])[1] is None
