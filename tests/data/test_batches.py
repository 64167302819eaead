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


def reference(split: Split, batch_size: int, generator: torch.Generator):
    """The definition, written to be read: what the records' runs were made with."""
    while True:
        order = torch.randperm(len(split), generator=generator)
        for start in range(0, len(split) - batch_size + 1, batch_size):
            rows = order[start : start + batch_size]
            yield split.inputs[rows], split.targets[rows]


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (12, 4), (5, 5), (7, 1)])
def test_orders_are_those_of_the_definition_bit_for_bit(n, batch_size):
    ours = shuffled_batches(numbered(n), batch_size, generator=torch.Generator().manual_seed(3))
    theirs = reference(numbered(n), batch_size, torch.Generator().manual_seed(3))
    for (inputs, targets), expected in itertools.islice(zip(ours, theirs, strict=True), 25):
        assert torch.equal(inputs, expected[0])
        assert torch.equal(targets, expected[1])


@pytest.mark.parametrize("taken", range(9))
def test_batches_go_on_from_every_place(taken, generator):
    whole = [t for _, t in itertools.islice(shuffled_batches(numbered(10), 3, generator=generator), 16)]
    begun = shuffled_batches(numbered(10), 3, generator=torch.Generator().manual_seed(0))
    list(itertools.islice(begun, taken))
    state = begun.state()
    next(begun)  # does not reach into the state that was taken
    resumed = shuffled_batches(numbered(10), 3, generator=torch.Generator().manual_seed(99))
    next(resumed)
    resumed.restore(state)
    rest = [targets for _, targets in itertools.islice(resumed, 16 - taken)]
    assert all(torch.equal(a, b) for a, b in zip(rest, whole[taken:], strict=True))


def test_a_state_beyond_the_end_of_an_epoch_is_refused(generator):
    batches = shuffled_batches(numbered(10), 3, generator=generator)
    list(itertools.islice(batches, 3))
    other = shuffled_batches(numbered(10), 5, generator=torch.Generator().manual_seed(4))
    before = next(shuffled_batches(numbered(10), 5, generator=torch.Generator().manual_seed(4)))[1]
    with pytest.raises(ValueError, match="stand at 3 of an epoch of 2; they were of other data or batch_size"):
        other.restore(batches.state())
    assert torch.equal(next(other)[1], before), "nothing was changed"


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
