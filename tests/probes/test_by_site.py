"""One reading of what several batches give at every site."""

from __future__ import annotations

import pytest
import torch

from normscope.probes.by_site import by_site


def test_numbers_are_averaged_over_batches_by_site():
    batches = [{"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, {"a": torch.tensor(3.0), "b": torch.tensor(2.0)}]
    reading = by_site("some", iter(batches))
    assert (reading.axes, reading.labels) == (("layer",), {"layer": ("a", "b")})
    assert reading.values.tolist() == [2.0, 2.0]
    assert reading.stderr.tolist() == [1.0, 0.0]


def test_several_quantities_come_first_and_one_batch_has_no_spread():
    reading = by_site("some", [{"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}], quantities=("x", "y"))
    assert reading.axes == ("quantity", "layer")
    assert reading.values.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert reading.stderr is None


def test_sites_that_change_between_batches_are_refused():
    with pytest.raises(ValueError, match="did not run alike in two passes"):
        by_site("some", [{"a": torch.tensor(1.0)}, {"b": torch.tensor(1.0)}])
    with pytest.raises(ValueError, match="none of the sites did"):
        by_site("some", [{}])


def test_the_unit_and_what_the_labels_are_of_are_asked_for():
    reading = by_site("some", [{"a:0": torch.tensor([1.0, 2.0])}], unit="nats", quantities=("x", "y"), axis="channel")
    assert (reading.unit, reading.axes) == ("nats", ("quantity", "channel"))
    assert reading.labels == {"quantity": ("x", "y"), "channel": ("a:0",)}
