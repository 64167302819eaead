from __future__ import annotations

import pytest
import torch

from normscope.curvature.batches import chunks, examples, listed, num_examples


def test_one_pair_is_one_batch_and_a_generator_is_read() -> None:
    pair = (torch.zeros(2, 3), torch.zeros(2))
    assert listed(pair) == [pair]
    assert listed([pair, pair]) == [pair, pair]
    assert listed(pair for _ in range(3)) == [pair] * 3


def test_no_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one batch, but none arrived"):
        listed([])


def test_examples_are_counted_along_the_first_axis_of_the_first_tensor_that_has_one() -> None:
    assert num_examples(({"scale": torch.tensor(2.0), "x": torch.zeros(5, 3)}, torch.zeros(5))) == 5


def test_inputs_without_examples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"hold no tensor with an axis\. Pass weight="):
        num_examples((torch.tensor(1.0), torch.zeros(5)))


def test_every_tensor_with_the_examples_is_sliced_and_no_other() -> None:
    inputs = {"x": torch.arange(10).view(5, 2), "positions": torch.arange(3), "scale": torch.tensor(2.0), "name": "a"}
    sliced, targets = examples((inputs, [torch.arange(5)]), 1, 3)
    assert torch.equal(sliced["x"], torch.tensor([[2, 3], [4, 5]]))
    assert torch.equal(sliced["positions"], torch.arange(3))
    assert (sliced["scale"], sliced["name"]) == (torch.tensor(2.0), "a")
    assert torch.equal(targets[0], torch.tensor([1, 2]))


def test_chunks_are_the_batch_in_order() -> None:
    x = torch.arange(7)
    found = chunks((x, 2 * x), 3)
    assert [len(part) for part, _ in found] == [3, 3, 1]
    assert torch.equal(torch.cat([part for part, _ in found]), x)
    assert torch.equal(torch.cat([part for _, part in found]), 2 * x)
