"""Curvature matrices of a model's loss as symmetric linear operators."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from torch import Tensor, nn

from normscope.curvature.assembly import Assembled, MachineryChoice, OperatorReport, Options, assemble
from normscope.curvature.batches import Weight
from normscope.curvature.machinery import GGN, HESSIAN
from normscope.curvature.parameters import Selection
from normscope.curvature.risk import Regularizer
from normscope.isolation import Mode
from normscope.subject import Batch


class CurvatureOperator:
    """A symmetric matrix (size, size) made of a model, a loss and batches, known by its products.

    The loss is the mean over all examples: batches are weighted by `weight(batch)`, by default their number of
    examples. Parameters, buffers and batches are those of the moment the operator was made. The model, its buffers,
    modes, gradients and hooks, and the global random state are left as they were; dropout is off.

    A product is exact up to rounding, or refused: before the first, the machinery is compared on a few examples in
    float64 with finite differences of gradients, and with its own transpose (`report.check`).

    Attributes:
        report: what this is the curvature of, how its products are computed, and how exact that was found to be.
        size, dtype, device: of the vectors it multiplies.
        names: of the parameters, in the order in which they make the vector.
    """

    def __init__(self, assembled: Assembled) -> None:
        self._layout, self._parts, self._group = assembled.layout, assembled.parts, assembled.group
        self.report: OperatorReport = assembled.report
        self.size: int = assembled.layout.size
        self.dtype: torch.dtype = assembled.dtype
        self.device: torch.device = assembled.device

    @property
    def names(self) -> tuple[str, ...]:
        """See the class."""
        return self._layout.names

    @torch.inference_mode(mode=False)  # which turns gradients on, too
    def matvec(self, v: Tensor) -> Tensor:
        """The product with a vector (size,), in the operator's dtype.

        Raises:
            ValueError: the vector has another shape.
        """
        if v.shape != (self.size,):
            raise ValueError(
                f"This operator multiplies vectors of shape ({self.size},), but one of {tuple(v.shape)} arrived. Use "
                "matmat for several, and flatten(tensors) for tensors in the parameters' shapes."
            )
        direction = self._layout.split(v.detach().to(self.device, self.dtype))
        total = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        for part in self._parts:
            total.add_(self._layout.flatten(part.product(direction)), alpha=part.share)
        return self._group.sum_(total)

    def matmat(self, V: Tensor) -> Tensor:
        """The product with a matrix (size, columns), column by column."""
        return torch.stack([self.matvec(column) for column in V.unbind(1)], 1)

    def split(self, v: Tensor) -> dict[str, Tensor]:
        """Parameter name -> its part of a vector (size,), a view in the parameter's shape."""
        return dict(zip(self.names, self._layout.split(v), strict=True))

    def flatten(self, tensors: dict[str, Tensor]) -> Tensor:
        """The vector (size,) of tensors by parameter name: the inverse of `split`."""
        return self._layout.flatten([tensors[name] for name in self.names])

    def __repr__(self) -> str:
        r = self.report
        return (
            f"{type(self).__name__}(size={self.size}, mode={r.mode!r}, num_examples={r.num_examples}, "
            f"machinery={r.machinery!r}, dtype={self.dtype}, seconds={r.seconds:.3g})"
        )


@final
class HessianOperator(CurvatureOperator):
    r"""The Hessian of the loss, :math:`\partial_\theta^2 L`; may be indefinite.

    Args:
        model: any module; in DistributedDataParallel, each process passes its own batches and asks for the same
            products, which are summed by one all-reduce each.
        loss_fn: `loss_fn(outputs, targets)`, a mean over the examples of a batch.
        batches: pairs (inputs, targets).
        params: parameters the curvature is taken by: all (None), a shell pattern on their names ("blocks.0.*"),
            several, or a function of name and parameter. The others are constants.
        mode, weight, chunking, dtype, regularizer, forward, machinery, memory_limit: see `Options`.

    Raises:
        ValueError: what arrived cannot be used, the loss or its gradient is not finite, a parameter gets no gradient,
            chunking would change the loss, the batch does not fit in memory, or products would not be exact.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[Any, Any], Tensor],
        batches: Iterable[Batch] | Batch,
        params: Selection = None,
        *,
        mode: Mode = "train",
        weight: Weight | None = None,
        chunking: int | None = None,
        dtype: torch.dtype | None = None,
        regularizer: Regularizer | None = None,
        forward: Callable[[nn.Module, Any], Any] | None = None,
        machinery: MachineryChoice = "auto",
        memory_limit: int | None = None,
    ) -> None:
        options = Options(
            mode=mode,
            weight=weight,
            chunking=chunking,
            dtype=dtype,
            regularizer=regularizer,
            forward=forward,
            machinery=machinery,
            memory_limit=memory_limit,
        )
        super().__init__(assemble(HESSIAN, model, loss_fn, batches, params, options))


@final
class GGNOperator(CurvatureOperator):
    r"""The generalised Gauss-Newton matrix :math:`J^\top (\partial_z^2 L) J` of outputs z, without the regularizer.

    Positive semi-definite where the loss is convex in the outputs.

    Source: Schraudolph, "Fast curvature matrix-vector products for second-order gradient descent", 2002.

    Args:
        model: any module; in DistributedDataParallel, each process passes its own batches and asks for the same
            products, which are summed by one all-reduce each.
        loss_fn: `loss_fn(outputs, targets)`, a mean over the examples of a batch.
        batches: pairs (inputs, targets).
        params: parameters the curvature is taken by: all (None), a shell pattern on their names ("blocks.0.*"),
            several, or a function of name and parameter. The others are constants.
        mode, weight, chunking, dtype, regularizer, forward, machinery, memory_limit: see `Options`.

    Raises:
        ValueError: what arrived cannot be used, the loss or its gradient is not finite, a parameter gets no gradient,
            chunking would change the loss, the batch does not fit in memory, or products would not be exact.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[Any, Any], Tensor],
        batches: Iterable[Batch] | Batch,
        params: Selection = None,
        *,
        mode: Mode = "train",
        weight: Weight | None = None,
        chunking: int | None = None,
        dtype: torch.dtype | None = None,
        regularizer: Regularizer | None = None,
        forward: Callable[[nn.Module, Any], Any] | None = None,
        machinery: MachineryChoice = "auto",
        memory_limit: int | None = None,
    ) -> None:
        options = Options(
            mode=mode,
            weight=weight,
            chunking=chunking,
            dtype=dtype,
            regularizer=regularizer,
            forward=forward,
            machinery=machinery,
            memory_limit=memory_limit,
        )
        super().__init__(assemble(GGN, model, loss_fn, batches, params, options))
