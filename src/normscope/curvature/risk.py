"""The function whose curvature is taken: the loss of a model on one batch, by the chosen parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar, final

import torch
from torch import Tensor, nn

from normscope.curvature.backward import pull_back
from normscope.curvature.exact import exact_rules
from normscope.curvature.parameters import Layout
from normscope.isolation import Mode, StandIn, copies, isolated
from normscope.subject import Batch, Subject

T = TypeVar("T")
Regularizer: TypeAlias = Callable[[nn.Module], Tensor]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Risk:
    """Mean loss over the examples of one batch as a function of the chosen parameters.

    Parameters and buffers are those of the moment it was made: what the caller does to the model afterwards does not
    reach it.

    Attributes:
        stand_in: the model with copies of its parameters in place of its own, and its loss.
        layout: the chosen parameters.
        batch: one batch.
        mode: "train" or "eval"; dropout is off in both.
        regularizer: added to the loss, a function of the model; None for the loss alone.
        buffers: copies of the model's, which each evaluation starts from.
        seed: of the global random state during each evaluation, so that a model that draws is a fixed function.
    """

    stand_in: StandIn
    layout: Layout
    batch: Batch
    mode: Mode
    buffers: Mapping[str, Tensor]
    regularizer: Regularizer | None = None
    seed: int = 0

    @classmethod
    def of(
        cls,
        subject: Subject,
        layout: Layout,
        *,
        mode: Mode,
        dtype: torch.dtype | None,
        regularizer: Regularizer | None = None,
    ) -> Risk:
        """The risk of the subject's model on the subject's batch, its tensors in `dtype`."""
        return cls(
            stand_in=StandIn.of(subject, dtype=dtype),
            layout=layout,
            batch=subject.batch,
            mode=mode,
            buffers=copies(dict(subject.model.named_buffers())),
            regularizer=regularizer,
        )

    def at(self, batch: Batch) -> Risk:
        """The same function on another batch; the copies of the parameters are shared."""
        return replace(self, batch=batch)

    def moved(self, values: Sequence[Tensor]) -> Risk:
        """The same function with other values of the chosen parameters."""
        parameters = {**self.stand_in.parameters, **dict(zip(self.layout.names, values, strict=True))}
        return replace(self, stand_in=replace(self.stand_in, parameters=parameters))

    @property
    def values(self) -> list[Tensor]:
        """The chosen parameters, in the layout's order."""
        return [self.stand_in.parameters[name] for name in self.layout.names]

    def call(self, values: Sequence[Tensor], work: Callable[[nn.Module], T]) -> T:
        """`work(model)` with `values` in place of the chosen parameters, isolated from the caller's model and state.

        Derivatives belong inside `work`: checkpointed modules run their forward again in the backward pass.
        """
        stand_in = self.moved(values).stand_in
        constants = {id(value): own for value, own in zip(values, self.values, strict=True)}
        with isolated(stand_in.subject, mode=self.mode, seed=self.seed), exact_rules(constants):
            return stand_in.run(lambda model: work(self._rewound(model)), seed=self.seed)

    def _rewound(self, model: nn.Module) -> nn.Module:
        """The model, as a stand-in has it, with the buffers of the moment this risk was made."""
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(self.buffers[name])
        return model

    def outputs(self, model: nn.Module) -> Any:
        """What the model makes of the batch's inputs; for use inside `call`."""
        return self.stand_in.outputs(model, self.batch[0])

    def loss_of(self, outputs: Any) -> Tensor:
        """The loss of outputs, without the regularizer."""
        return self.stand_in.subject.loss_of(outputs, copies(self.batch[1], self.stand_in.dtype))

    def loss(self, model: nn.Module) -> Tensor:
        """The loss, and the regularizer where there is one; for use inside `call`.

        Raises:
            ValueError: it is not one number.
        """
        loss = self.stand_in.loss(model, self.batch)
        return loss if self.regularizer is None else loss + self.regularizer(model)


def gradient(risk: Risk, values: Sequence[Tensor] | None = None) -> list[Tensor]:
    """The gradient of the risk by the chosen parameters, at `values` or where they are.

    Raises:
        ValueError: the loss or its gradient is not finite, or a chosen parameter gets no gradient.
    """
    leaves = [value.detach().requires_grad_() for value in (risk.values if values is None else values)]

    def work(model: nn.Module) -> tuple[Tensor, list[Tensor | None]]:
        loss = risk.loss(model)
        return loss.detach(), pull_back([loss], leaves)

    loss, gradients = risk.call(leaves, work)
    if not torch.isfinite(loss):
        raise ValueError(
            f"Curvature is taken where the loss is finite, but it is {loss.item()}. Take a checkpoint from before it "
            "diverged, or remove the examples that overflow."
        )
    found = []
    for name, value in zip(risk.layout.names, gradients, strict=True):
        if value is None:
            raise ValueError(
                f"Curvature is taken by parameters that the loss depends on, but {name} gets no gradient. Leave it out "
                "with params=..., or remove the detach() or no_grad on its way to the loss."
            )
        if not torch.isfinite(value).all():
            raise ValueError(
                f"Curvature is taken where the gradient is finite, but that of {name} is not. Take a checkpoint from "
                "before it diverged, or dtype=torch.float64."
            )
        found.append(value)
    return found


def loss(risk: Risk) -> float:
    """The risk where it is."""
    return float(risk.call(risk.values, risk.loss))
