from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from normscope.probes import Subject

MODEL = nn.Linear(3, 2)
BATCH = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)


def test_batches_are_the_batch_and_then_more_every_time() -> None:
    others = [(torch.ones(4, 3), BATCH[1]), (torch.ones(2, 3), BATCH[1][:2])]
    subject = Subject(MODEL, F.cross_entropy, BATCH, more=others)

    for _ in range(2):
        assert [inputs for inputs, _ in subject.batches()] == [BATCH[0], others[0][0], others[1][0]]


def test_forward_takes_the_place_of_the_call() -> None:
    inputs = {"x": BATCH[0]}
    subject = Subject(MODEL, F.cross_entropy, (inputs, BATCH[1]), forward=lambda model, inputs: model(inputs["x"]) + 1)

    assert torch.equal(subject.outputs(MODEL, inputs), MODEL(BATCH[0]) + 1)


def test_a_model_that_is_no_module_is_refused() -> None:
    with pytest.raises(TypeError, match=r"is an nn.Module, but a function arrived. Wrap"):
        Subject(lambda x: x, F.cross_entropy, BATCH)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["loss_fn", "forward"])
def test_what_cannot_be_called_is_refused(field: str) -> None:
    arguments = {"loss_fn": F.cross_entropy, "forward": None, field: "mse"}
    with pytest.raises(TypeError, match=f"{field} is a function, but a str arrived"):
        Subject(MODEL, batch=BATCH, **arguments)


def test_a_missing_loss_is_refused() -> None:
    with pytest.raises(TypeError, match="but None arrived"):
        Subject(MODEL, None, BATCH)  # type: ignore[arg-type]


def test_a_generator_of_batches_is_refused() -> None:
    with pytest.raises(TypeError, match="read once by every probe, but a generator can be read only once"):
        Subject(MODEL, F.cross_entropy, BATCH, more=(BATCH for _ in range(2)))


@pytest.mark.parametrize(
    ("batch", "arrived"), [(torch.zeros(2, 3), "a Tensor arrived"), ((1, 2, 3), "a tuple of 3"), ({}, "a dict arrived")]
)
def test_a_batch_that_is_no_pair_is_refused(batch: object, arrived: str) -> None:
    with pytest.raises(ValueError, match=rf"pair \(inputs, targets\), but {arrived}"):
        Subject(MODEL, F.cross_entropy, batch)  # type: ignore[arg-type]


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one example, but an empty tensor arrived"):
        Subject(MODEL, F.cross_entropy, (torch.zeros(0, 3), BATCH[1]))


def test_a_further_batch_is_checked_when_it_is_read() -> None:
    subject = Subject(MODEL, F.cross_entropy, BATCH, more=[BATCH[0]])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="A batch is a pair"):
        list(subject.batches())


def test_a_loss_that_is_not_one_number_is_refused() -> None:
    subject = Subject(MODEL, lambda y, t: F.cross_entropy(y, t, reduction="none"), BATCH)
    with pytest.raises(ValueError, match=r"a tensor of shape \(4,\) arrived. Reduce it"):
        subject.loss(MODEL, BATCH)
    with pytest.raises(ValueError, match="a float arrived"):
        Subject(MODEL, lambda y, t: 0.0, BATCH).loss(MODEL, BATCH)  # type: ignore[arg-type, return-value]
