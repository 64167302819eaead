"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from normscope.train.schedules import Factor

Batch = TypeVar("Batch")

# In nats. Guessing uniformly among K classes costs log K, below 14 for a million classes; a network of sane logits is
# wrong by tens at worst. Past a thousand the weights have left for good, and float32 would only overflow some steps
# later, at a moment that depends on the arithmetic.
DIVERGED_LOSS = 1e3


@dataclass(frozen=True, slots=True)
class Objective:
    """What one batch gives.

    Attributes:
        total: 0-dim, what is differentiated.
        loss: 0-dim, the data's share of it, in nats; divergence is judged by it.
        parts: any further 0-dim tensors to report, by name; a penalty for instance.
    """

    total: Tensor
    loss: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of training, seen when it is over.

    Attributes:
        index: 1 for the first step.
        loss: of its batch before the update, in nats.
        parts: the objective's further parts, before the update.
        diverged: the loss was beyond the bound of `fit` or something was not finite; then there was no update.
    """

    index: int
    loss: float
    parts: dict[str, float]
    diverged: bool


def backpropagate(total: Tensor) -> None:
    """Add the gradient of `total` to the parameters', in the precision they are in."""
    total.backward()  # type: ignore[no-untyped-call]


def fit(
    objective: Callable[[Batch], Objective],
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    *,
    schedule: Factor | None = None,
    first: int = 1,
    backward: Callable[[Tensor], object] = backpropagate,
    diverged_loss: float = DIVERGED_LOSS,
) -> Iterator[Step]:
    """Train on each batch in turn and yield after each update, so that whoever iterates may measure, save or stop.

    The model belongs to the caller, who finds it updated at each yield; the optimizer's rates are the base rates
    again. A diverging run is a result: its last step says so, the parameters stay what they were before it, and the
    iteration ends.

    Args:
        objective: computes what to minimize from a batch, with the model it closes over.
        batches: as long as the training shall last; `itertools.islice` cuts an endless one.
        optimizer: of the parameters to be trained.
        schedule: from the step's index to the factor of the optimizer's learning rates at that step; None leaves
            them alone.
        first: index of the first step; for a training that goes on, one more than the last step taken.
        backward: what differentiates the total; `Setup.backward` where a precision needs its own.
        diverged_loss: in nats, the loss above which a run has diverged; higher for a network that begins there.
    """
    for index, batch in enumerate(batches, start=first):
        optimizer.zero_grad()
        outcome = objective(batch)
        total, loss, *values = _floats(outcome)
        diverged = not (math.isfinite(total) and loss <= diverged_loss)  # also true for a loss of NaN
        if not diverged:
            backward(outcome.total)
            if schedule is None:
                optimizer.step()
            else:
                _step_at(optimizer, schedule(index))
        yield Step(index, loss, dict(zip(outcome.parts, values, strict=True)), diverged)
        if diverged:
            return


def _step_at(optimizer: torch.optim.Optimizer, factor: float) -> None:
    # The rates are put back, so that what a checkpoint holds, and what `fit` starts from, is the base rate.
    rates = [group["lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * factor
    try:
        optimizer.step()
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


def _floats(outcome: Objective) -> list[float]:
    scalars = [outcome.total, outcome.loss, *outcome.parts.values()]
    if outcome.total.device.type == "cpu":
        return [float(scalar.item()) for scalar in scalars]
    # Stacked, a device has to be waited for only once.
    values: list[float] = torch.stack([scalar.detach() for scalar in scalars]).tolist()
    return values
