from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from normscope.probes import matrices
from normscope.probes.matrices import Batched, samples_by_features, unit_scale, where_finite


def test_results_come_in_the_order_of_arrival_and_by_kind() -> None:
    calls: list[tuple[tuple[int, ...], int]] = []

    def totals(stacked: Tensor, power: int) -> Tensor:
        calls.append((tuple(stacked.shape), power))
        return stacked.pow(power).sum((1, 2))

    batched = Batched(totals)
    for index, (size, power) in enumerate([(2, 1), (3, 1), (2, 2), (2, 1)]):
        batched.add(str(index), torch.full((size, size), 2.0), power)

    results = batched.results()
    assert {label: value.item() for label, value in results.items()} == {"0": 8.0, "1": 18.0, "2": 16.0, "3": 8.0}
    assert list(results) == ["0", "1", "2", "3"]
    assert sorted(calls) == [((1, 2, 2), 2), ((1, 3, 3), 1), ((2, 2, 2), 1)]
    assert results["0"].dtype == torch.float64


def test_matrices_of_another_device_are_taken_on_their_own() -> None:
    batched = Batched(lambda stacked: stacked.sum((1, 2)))
    batched.add("here", torch.ones(2, 2))
    batched.add("there", torch.ones(2, 2, device="meta"))
    results = batched.results()
    assert results["here"].item() == 4
    assert results["there"].device.type == "meta"


def test_no_more_wait_than_a_piece_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrices, "_PIECE", 3 * 4)
    sizes: list[int] = []
    batched = Batched(lambda stacked: sizes.append(len(stacked)) or stacked[:, 0, 0])
    for index in range(7):
        batched.add(str(index), torch.full((2, 2), float(index)))

    assert sizes == [3, 3]
    assert [value.item() for value in batched.results().values()] == [0, 1, 2, 3, 4, 5, 6]
    assert sizes == [3, 3, 1]


def test_what_was_cleared_has_no_result() -> None:
    batched = Batched(lambda stacked: stacked.sum((1, 2)))
    batched.add("before", torch.ones(2, 2))
    batched.clear()
    batched.add("after", torch.ones(2, 2))
    assert list(batched.results()) == ["after"]


def test_only_matrices_that_are_not_finite_are_nan() -> None:
    stacked = torch.ones(3, 2, 2)
    stacked[1, 0, 1] = math.inf
    values = where_finite(stacked, lambda finite: torch.linalg.svdvals(finite)[:, 0])
    assert values[[0, 2]].tolist() == pytest.approx([2.0, 2.0])
    assert values[1].isnan()


def test_the_largest_entry_becomes_one_and_zeros_stay() -> None:
    assert unit_scale(torch.tensor([[1e30, -2e30]])).tolist() == [[0.5, -1.0]]
    assert unit_scale(torch.zeros(1, 2)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("module", "shape", "rows"), [(nn.Conv2d(2, 3, 1), (4, 3, 5, 6), 120), (nn.LayerNorm(3), (4, 5, 3), 20)]
)
def test_channels_are_columns(module: nn.Module, shape: tuple[int, ...], rows: int) -> None:
    value = torch.randn(shape)
    matrix = samples_by_features("site", module, value)
    axis = shape.index(3)
    assert matrix.shape == (rows, 3)
    torch.testing.assert_close(matrix.sum(0), value.sum([d for d in range(value.ndim) if d != axis]))
