from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from normscope.data.division import divide, stratified

LABELS = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)


def shares(labels: torch.Tensor) -> list[int]:
    return torch.bincount(labels, minlength=3).tolist()


def test_each_class_gets_its_share(generator):
    chosen, rest = stratified(LABELS, 10, generator=generator)
    assert shares(LABELS[chosen]) == [5, 3, 2]
    assert shares(LABELS[rest]) == [45, 27, 18]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0, 1), st.integers(0, 5))
def test_the_count_is_exact_no_row_is_lost_and_no_class_is_off_by_one(labels, fraction, seed):
    labels = torch.tensor(labels)
    count = int(fraction * len(labels))
    chosen, rest = stratified(labels, count, generator=torch.Generator().manual_seed(seed))
    assert len(chosen) == count
    assert sorted([*chosen.tolist(), *rest.tolist()]) == list(range(len(labels)))
    for label in labels.unique():
        exact = (labels == label).sum() * count / len(labels)
        assert abs((labels[chosen] == label).sum() - exact) < 1


def test_what_is_chosen_is_mixed(generator):
    chosen, _ = stratified(LABELS, 100, generator=generator)
    assert chosen.tolist() != sorted(chosen.tolist())
    assert len(LABELS[chosen][:20].unique()) == 3


def division(labels, **changes):
    return divide(labels, **({"validation_fraction": 0.1, "max_train": None, "max_eval": None} | changes))


def test_missing_splits_are_cut_from_train_apart_from_each_other():
    parts, notes = division({"train": LABELS})
    assert [len(parts[role].rows) for role in ("train", "validation", "test")] == [80, 10, 10]
    rows = torch.cat([part.rows for part in parts.values()])
    assert sorted(rows.tolist()) == list(range(100))
    assert len(notes) == 2
    assert "no test split is stored: 10 examples were cut from train" in notes[1]


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_stored_splits_are_used_whole(name):
    parts, notes = division({"train": LABELS, name: LABELS[:40], "test": LABELS[:30]})
    assert notes == []
    assert parts["validation"].table == name
    assert sorted(parts["validation"].rows.tolist()) == list(range(40))
    assert sorted(parts["test"].rows.tolist()) == list(range(30))
    assert sorted(parts["train"].rows.tolist()) == list(range(100))


def test_limits_reduce_in_proportion_and_are_noted():
    parts, notes = division({"train": LABELS, "test": LABELS, "validation": LABELS}, max_train=20, max_eval=10)
    assert shares(LABELS[parts["train"].rows]) == [10, 6, 4]
    assert shares(LABELS[parts["test"].rows]) == [5, 3, 2]
    assert "train was reduced from 100 to 20 examples" in notes


def test_limits_do_not_move_rows_from_one_split_to_another():
    whole, _ = division({"train": LABELS})
    small, _ = division({"train": LABELS}, max_train=7, max_eval=5)
    for role, part in small.items():
        assert set(part.rows.tolist()) <= set(whole[role].rows.tolist())


def test_the_division_is_the_same_every_time_and_ignores_the_global_seed():
    one, _ = division({"train": LABELS})
    with torch.random.fork_rng():
        torch.manual_seed(7)
        two, _ = division({"train": LABELS})
    assert all(torch.equal(one[role].rows, two[role].rows) for role in one)


def test_too_little_to_cut_from_is_refused():
    with pytest.raises(ValueError, match="leaves nothing for validation"):
        division({"train": LABELS[:3]})
