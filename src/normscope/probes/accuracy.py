"""Accuracy with the statistics of test batches, by their size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from normscope.curvature.batches import num_examples
from normscope.isolation import Mode, StandIn, draw_seed
from normscope.probes.probe import Probe, check_mode
from normscope.probes.reading import Reading, mean_over_batches
from normscope.subject import Batch, Inputs, Subject

_IGNORED = -100  # torch's own mark for a target that does not count


@final
@dataclass(frozen=True, kw_only=True)
class BatchSizeAccuracy(Probe):
    r"""Share of right predictions when the network normalizes by test batches of a given size.

    .. math:: \frac{\#\{n : \arg\max_k f(x_n)_k = y_n\}}{\#\{n\}}

    `subject.batch` is the whole test split. It is put into random order, cut into batches of each size and evaluated
    batch by batch, each with the model's own running statistics behind it; a last batch that would be smaller is left
    out, and every other example (every token, of sequences) counts once. One batch is in memory at a time. The same
    orders serve all sizes.

    Args:
        sizes: of the batches, each at most the number of examples.
        partitions: random orders.
        mode: "train", for the statistics of the test batch, or "eval", where the size matters only to rows without
            running statistics.

    Returns:
        Reading "batch_size_accuracy", axes ("batch_size",), standard errors over partitions (of all batches of the
        subject, each a split of its own). NaN for a size at which an output was not finite. One forward pass per
        batch, no graph.

    Raises:
        ValueError: a size is less than 1 or larger than the split, no size, less than one partition; targets that are
            no class indices, outputs that are not (*, K) for targets of shape (*).

    Source: Rao and Sohl-Dickstein, "Is Batch Norm unique?", arXiv:2010.10687, Figure 5.
    """

    sizes: tuple[int, ...] = (2, 8, 32, 128)
    partitions: int = 1
    mode: Mode = "train"

    def __post_init__(self) -> None:
        if not self.sizes or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in self.sizes):
            raise ValueError(f"`sizes` are integers of at least 1, but {self.sizes!r} arrived. Pass (2, 8, 32), say.")
        if self.partitions < 1:
            raise ValueError(f"`partitions` is at least 1, but {self.partitions} arrived. Choose a larger one.")
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Nothing that can be seen before the split is."""
        return frozenset()

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        stand_in = StandIn.of(subject)
        samples = []
        for split in subject.batches():
            count = _checked_count(split, self.sizes)
            for _ in range(self.partitions):
                order = torch.randperm(count, generator=generator, device=generator.device)
                seed = draw_seed(generator)
                accuracies = [_accuracy(stand_in, split, order, size, seed=seed) for size in self.sizes]
                samples.append(torch.tensor(accuracies, dtype=torch.float64))
        values, stderr = mean_over_batches(samples)
        return Reading(
            name="batch_size_accuracy",
            unit="1",
            axes=("batch_size",),
            values=values,
            stderr=stderr,
            labels={"batch_size": tuple(map(str, self.sizes))},
        )


def _checked_count(split: Batch, sizes: tuple[int, ...]) -> int:
    """The number of examples, after checking that targets and sizes fit them."""
    count, targets = num_examples(split), split[1]
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.ndim == 0 or len(targets) != count:
        arrived = f"{targets.dtype} of {tuple(targets.shape)}" if isinstance(targets, Tensor) else repr(targets)
        raise ValueError(
            f"Accuracy compares predictions with class indices, one for each of {count} examples, but {arrived} "
            "arrived. Pass (inputs, targets) with integer targets."
        )
    if max(sizes) > count:
        raise ValueError(
            f"A test batch holds at most the whole split, {count} examples, but size {max(sizes)} was asked for. "
            "Leave it out of `sizes`, or pass more examples."
        )
    return count


def _accuracy(stand_in: StandIn, split: Batch, order: Tensor, size: int, *, seed: int) -> float:
    """The share of right predictions over the whole batches of `size` in this order; NaN beside outputs that are."""
    right = torch.zeros(2, dtype=torch.float64)  # right predictions, and all
    draws = torch.Generator().manual_seed(seed)
    for batch in _batches(split, order, size):
        # Each in a run of its own: its buffers are then the model's, whatever the batches before it did to theirs.
        right += stand_in.run(partial(_right_in, stand_in, batch), seed=draw_seed(draws))
    return float(right[0] / right[1])


def _right_in(stand_in: StandIn, batch: tuple[Inputs, Tensor], model: nn.Module) -> Tensor:
    """What `_count_right` says of one batch, on the CPU."""
    inputs, targets = batch
    return _count_right(stand_in.outputs(model, inputs), targets).cpu()


def _batches(split: Batch, order: Tensor, size: int) -> Iterator[tuple[Inputs, Tensor]]:
    inputs, targets = split
    for start in range(0, len(order) - size + 1, size):
        chosen = order[start : start + size]
        yield _picked(inputs, chosen, len(order)), targets[chosen.to(targets.device)]


def _picked(inputs: Inputs, chosen: Tensor, count: int) -> Inputs:
    def pick(leaf: Any) -> Any:
        counts = isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == count
        return leaf[chosen.to(leaf.device)] if counts else leaf

    return pytree.tree_map(pick, inputs)


def _count_right(outputs: Any, targets: Tensor) -> Tensor:
    """Right predictions and predictions that count: (2,), float64; NaN in place of the former beside such outputs."""
    if not isinstance(outputs, Tensor) or outputs.shape[:-1] != targets.shape:
        arrived = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(
            f"Predictions are taken from outputs of shape ({', '.join(map(str, targets.shape))}, classes), but "
            f"{arrived} arrived. Let forward=lambda model, inputs: ... return them so."
        )
    counted = targets != _IGNORED
    right = (outputs.argmax(-1) == targets).sum().double()  # no prediction equals the mark
    if not outputs[counted].isfinite().all():
        right = right * torch.nan
    return torch.stack([right, counted.sum().double()])
