"""What is measured: a model, its loss and some batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from torch import Tensor, nn
from torch.utils import _pytree as pytree

Inputs: TypeAlias = Any  # any pytree of tensors
Batch: TypeAlias = tuple[Inputs, Any]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A model with the loss and the batches it is measured on.

    Args:
        model: any `nn.Module`; no probe changes it.
        loss_fn: `loss_fn(outputs, targets)`, a scalar tensor (a mean over examples, in nats for cross-entropy).
        batch: `(inputs, targets)`; inputs are any pytree of tensors.
        more: further batches of the same form, over which standard errors are taken; read anew by every probe, so a
            list or a loader and not a generator.
        forward: `forward(model, inputs)` gives the outputs, for a model that takes more than one argument or returns
            more than its outputs; `model(inputs)` if None.
        previous: the parameters before the last step, by name, for probes that measure an update.

    Raises:
        TypeError: `model` is not a module, a callable is not callable, or `more` can be read only once.
        ValueError: a batch is not a pair, or holds no example.
    """

    model: nn.Module
    loss_fn: Callable[[Any, Any], Tensor]
    batch: Batch
    more: Iterable[Batch] = ()
    forward: Callable[[nn.Module, Inputs], Any] | None = None
    previous: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise TypeError(
                f"A Subject's model is an nn.Module, but a {_kind(self.model)} arrived. Wrap the function in a module."
            )
        for name, function in (("loss_fn", self.loss_fn), ("forward", self.forward)):
            if function is not None and not callable(function):
                raise TypeError(f"A Subject's {name} is a function, but a {_kind(function)} arrived. Pass a callable.")
        if self.loss_fn is None:
            raise TypeError("A Subject's loss_fn is a function, but None arrived. Pass loss_fn(outputs, targets).")
        if isinstance(self.more, Iterator):
            raise TypeError(
                f"A Subject's `more` is read once by every probe, but a {_kind(self.more)} can be read only once. "
                "Pass a list of batches or a loader."
            )
        _checked(self.batch)

    def batches(self) -> Iterator[Batch]:
        """`batch`, then each of `more`."""
        yield _checked(self.batch)
        for batch in self.more:
            yield _checked(batch)

    def outputs(self, model: nn.Module, inputs: Inputs) -> Any:
        """What `model`, this subject's or a stand-in for it, makes of `inputs`."""
        return model(inputs) if self.forward is None else self.forward(model, inputs)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The scalar loss of `model` on `batch`.

        Raises:
            ValueError: `loss_fn` returned anything but one number.
        """
        inputs, targets = batch
        return self.loss_of(self.outputs(model, inputs), targets)

    def loss_of(self, outputs: Any, targets: Any) -> Tensor:
        """The scalar loss of `outputs`.

        Raises:
            ValueError: `loss_fn` returned anything but one number.
        """
        loss = self.loss_fn(outputs, targets)
        if not isinstance(loss, Tensor) or loss.ndim != 0:
            arrived = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {_kind(loss)}"
            raise ValueError(
                f"loss_fn(outputs, targets) returns one number, a tensor without axes, but {arrived} arrived. "
                "Reduce it, for example by .mean()."
            )
        return loss


def _checked(batch: Any) -> Batch:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        size = f" of {len(batch)}" if isinstance(batch, (tuple, list)) else ""
        raise ValueError(
            f"A batch is a pair (inputs, targets), but a {_kind(batch)}{size} arrived. "
            "Put everything the model takes into inputs and unpack it in forward(model, inputs)."
        )
    inputs, targets = batch
    if any(leaf.numel() == 0 for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)):
        raise ValueError("A batch holds at least one example, but an empty tensor arrived. Drop empty batches.")
    return inputs, targets


def _kind(value: object) -> str:
    return type(value).__name__
