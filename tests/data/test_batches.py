from __future__ import annotations

import itertools

import pytest
import torch

from normscope.data import Split, even_batches, shuffled_batches


def numbered(n: int) -> Split:
    return Split(torch.arange(float(n))[:, None], torch.arange(n))


def test_an_epoch_holds_each_example_at_most_once_and_drops_the_short_batch(generator):
    batches = list(itertools.islice(shuffled_batches(numbered(10), 3, generator=generator), 6))
    assert all(len(targets) == 3 for _, targets in batches)
    for epoch in (batches[:3], batches[3:]):
        assert len(torch.cat([targets for _, targets in epoch]).unique()) == 9


def test_inputs_stay_with_their_targets(generator):
    inputs, targets = next(shuffled_batches(numbered(10), 4, generator=generator))
    assert torch.equal(inputs[:, 0], targets.float())


def test_each_epoch_has_an_order_of_its_own(generator):
    one, two = itertools.islice(shuffled_batches(numbered(50), 50, generator=generator), 2)
    assert not torch.equal(one[1], two[1])


def test_orders_come_from_the_generator_alone():
    def first() -> torch.Tensor:
        return next(shuffled_batches(numbered(50), 50, generator=torch.Generator().manual_seed(3)))[1]

    before = torch.get_rng_state()
    assert torch.equal(first(), first())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("batch_size", [0, -1, 11])
def test_impossible_batch_sizes_are_refused_before_the_first_batch(batch_size, generator):
    with pytest.raises(ValueError, match=f"between 1 and the 10 examples of the split, got {batch_size}"):
        shuffled_batches(numbered(10), batch_size, generator=generator)


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"), [(10, 3, [3, 3, 2, 2]), (10, 5, [5, 5]), (65, 64, [33, 32]), (3, 100, [3])]
)
def test_evaluation_sees_everything_once_in_nearly_equal_parts(n, batch_size, sizes):
    batches = even_batches(numbered(n), batch_size)
    assert [len(targets) for _, targets in batches] == sizes
    assert torch.equal(torch.cat([targets for _, targets in batches]), torch.arange(n))
    assert torch.equal(torch.cat([inputs for inputs, _ in batches])[:, 0], torch.arange(float(n)))


def test_empty_evaluation_batches_are_refused():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        even_batches(numbered(3), 0)


def test_a_split_pairs_inputs_with_targets():
    with pytest.raises(ValueError, match="one target per input, got 2 and 3"):
        Split(torch.zeros(2, 1), torch.zeros(3, dtype=torch.int64))
    assert numbered(2).to("meta").inputs.device.type == "meta"
