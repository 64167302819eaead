"""How much an example's output depends on the company it is in, and on the mode the network is in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final, get_args

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from normscope.curvature.batches import examples, num_examples
from normscope.isolation import Mode, StandIn, copies, draw_seed, isolated
from normscope.probes.probe import Probe, check_mode
from normscope.probes.reading import Reading, mean_over_batches
from normscope.probes.similarity import norm
from normscope.subject import Batch, Inputs, Subject


@final
@dataclass(frozen=True, kw_only=True)
class BatchDependence(Probe):
    r"""Relative change of examples' outputs when the other examples of their batch are exchanged.

    .. math:: \frac{\| f(a, b')_a - f(a, b)_a \|_2}{\| f(a, b)_a \|_2}

    where a is the first half of a minibatch, b its second half, b' the last examples of another minibatch, as many,
    and :math:`f(\cdot)_a` the network's outputs for a, all of them as one vector. Exactly 0 for a network in which
    examples do not meet.

    Args:
        mode: "train", for the statistics of the batch, or "eval".

    Returns:
        Reading "batch_dependence", no axes, standard errors over pairs of minibatches. Two forward passes per pair, no
        graph. NaN where the outputs are zero or not finite.

    Raises:
        ValueError: a minibatch of one example; a second one of a pair with fewer examples than half of the first; no
            output has an axis of examples.

    Source: Rao and Sohl-Dickstein, "Is Batch Norm unique?", arXiv:2010.10687, Table 2 (batch-size dependence).
    """

    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """A second batch."""
        return frozenset({"two_batches"})

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        stand_in = StandIn.of(subject)
        samples = []
        for batch, other in _pairs(subject):
            count = num_examples(batch)
            exchanged = _exchanged(batch, other)
            seed = draw_seed(generator)
            before, after = (_outputs(stand_in, inputs, seed=seed) for inputs in (batch[0], exchanged))
            samples.append(_relative_change(_first(before, count), _first(after, count)))
        values, stderr = mean_over_batches(samples)
        return Reading(name="batch_dependence", unit="1", axes=(), values=values, stderr=stderr, labels={})


@final
@dataclass(frozen=True, kw_only=True)
class TrainEvalGap(Probe):
    r"""Relative distance between a network's outputs in train and in eval mode on the same minibatch.

    .. math:: \frac{\| f_{\mathrm{train}}(x) - f_{\mathrm{eval}}(x) \|_2}{\| f_{\mathrm{mode}}(x) \|_2}

    with dropout off in both and the running statistics as they are. 0 for a network without running statistics, up to
    the rounding of sites that compute in another order where nothing is to be recorded.

    Args:
        mode: whose outputs the distance is relative to, "train" or "eval".

    Returns:
        Reading "train_eval_gap", no axes, standard errors over batches. Two forward passes per batch, no graph. NaN
        where the outputs are zero or not finite.

    Source: Rao and Sohl-Dickstein, "Is Batch Norm unique?", arXiv:2010.10687, Table 2 (consistent train/test).
    """

    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Nothing."""
        return frozenset()

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        stand_in = StandIn.of(subject)
        (other,) = set(get_args(Mode)) - {self.mode}
        samples = []
        for inputs, _ in subject.batches():
            seed = draw_seed(generator)
            here = _outputs(stand_in, inputs, seed=seed)
            with isolated(subject, mode=other, seed=seed):
                there = _outputs(stand_in, inputs, seed=seed)
            samples.append(_relative_change(here, there))
        values, stderr = mean_over_batches(samples)
        return Reading(name="train_eval_gap", unit="1", axes=(), values=values, stderr=stderr, labels={})


def _pairs(subject: Subject) -> Iterator[tuple[Batch, Batch]]:
    batches = subject.batches()
    yield from zip(batches, batches, strict=False)


def _exchanged(batch: Batch, other: Batch) -> Inputs:
    """The inputs of `batch` with the last examples of `other` in place of the second half."""
    count, available = num_examples(batch), num_examples(other)
    kept = count // 2
    if kept == 0 or available < count - kept:
        raise ValueError(
            "Half of a minibatch is exchanged for examples of another, but they hold "
            f"{count} and {available}. Pass batches of equal size, at least 2."
        )
    incoming = examples(other, available - (count - kept), available)[0]

    def exchange(old: Any, new: Any) -> Any:
        if not _has_examples(old, count):
            return old
        return torch.cat([old[:kept], new.to(old.device)])

    return pytree.tree_map(exchange, batch[0], incoming)


def _outputs(stand_in: StandIn, inputs: Inputs, *, seed: int) -> list[Tensor]:
    """The tensors among the outputs, whatever the model does with them afterwards."""

    def work(model: Any) -> list[Tensor]:
        leaves = pytree.tree_leaves(stand_in.outputs(model, inputs))
        found: list[Tensor] = copies([leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()])
        return found

    return stand_in.run(work, seed=seed)


def _first(outputs: list[Tensor], count: int) -> list[Tensor]:
    """The outputs of the first half of `count` examples."""
    halves = [leaf[: count // 2] for leaf in outputs if _has_examples(leaf, count)]
    if not halves:
        raise ValueError(
            f"Outputs of {count} examples are compared, but no output has a first axis of that length. "
            "Let forward=lambda model, inputs: ... return those of each example."
        )
    return halves


def _has_examples(leaf: Any, count: int) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == count


def _relative_change(before: list[Tensor], after: list[Tensor]) -> Tensor:
    """‖after - before‖ / ‖before‖ of lists of tensors seen as one vector each: 0-dim, float64."""
    changes = [new.double() - old.double() for old, new in zip(before, after, strict=True)]
    change, size = (torch.stack([norm(part) for part in parts]).square().sum() for parts in (changes, before))
    return (change / size).sqrt()
