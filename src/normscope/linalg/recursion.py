"""One step of Lanczos: a product, the three-term recursion in float64, and full orthogonalization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from normscope.linalg.basis import Basis
from normscope.linalg.operators import LinearOperator, product, require_finite
from normscope.linalg.orthogonal import orthogonalize

# A remainder so many roundings small beside its own product is rounding: the Krylov space is complete. Beside its own,
# not beside the largest: a bulk of eigenvalues may be a hundred thousand times smaller than the outliers. Going on
# from rounding would do no harm (it is a fresh start, all but uncoupled), so a product noisier than this is no danger.
_BREAKDOWN_ROUNDINGS = 100


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    r"""What one product added: :math:`A v_k = \beta_{k-1} v_{k-1} + \alpha_k v_k + V c + \beta_k v_{k+1}`."""

    alpha: float
    beta: float  # norm of the remainder; 0 where that is rounding
    components: Tensor  # (count,) float64: c, what full orthogonalization removed beyond the three terms


@final
class Recursion:
    """The latest two vectors of a Krylov space, and the work on them.

    Long vectors are allocated once: a fresh one a step would cost more in page faults than the arithmetic on it.
    """

    def __init__(self, op: LinearOperator) -> None:
        self.op = op
        self.vector = torch.zeros(op.size, dtype=op.dtype, device=op.device)  # the latest, as products take it
        self._current, self._previous, self._remainder = torch.zeros(
            3, op.size, dtype=torch.float64, device=op.device
        ).unbind()
        self._beta = 0.0  # between the previous and the current vector
        self._norm = 0.0  # of the remainder

    def begin(self, start: Tensor, bases: list[Basis]) -> bool:
        """Make `start` (size,), projected onto the complement of `bases` and normalized, the first vector.

        Returns whether anything but rounding was left of it; if not, there is no first vector.

        Raises:
            ValueError: `start` has another shape, is not finite, or is zero.
        """
        if start.shape != (self.op.size,):
            raise ValueError(
                f"A start vector has the shape ({self.op.size},), but {tuple(start.shape)} arrived. Flatten it."
            )
        self._remainder.copy_(start)
        norm = float(torch.linalg.vector_norm(self._remainder))
        if not 0 < norm < float("inf"):
            raise ValueError(f"A start vector has a finite norm above zero, but {norm} arrived. Draw another one.")
        _, self._norm = orthogonalize(bases, self._remainder.div_(norm))
        if self._norm <= torch.finfo(self.op.dtype).eps ** 0.5:
            return False
        self._turn(beta=0.0)
        return True

    def advance(self, basis: Basis, *, others: list[Basis], done: int) -> Step:
        """Multiply the latest vector, which is the last of `basis`, and orthogonalize against `basis` and `others`.

        `done` is the number of this product, for messages. `follow` then makes the remainder the latest vector.

        Raises:
            ValueError: the product is not finite.
        """
        w = self._remainder.copy_(product(self.op, self.vector))
        scale = torch.linalg.vector_norm(w)
        w.sub_(self._previous, alpha=self._beta)
        projection = torch.dot(w, self._current)
        w.addcmul_(self._current, projection, value=-1)
        alpha, scale_of_product = torch.stack([projection, scale]).tolist()
        require_finite(scale_of_product, done)
        (*_, components), self._norm = orthogonalize([*others, basis], w)
        rounding = _BREAKDOWN_ROUNDINGS * torch.finfo(self.op.dtype).eps * scale_of_product
        return Step(alpha=alpha, beta=self._norm if self._norm > rounding else 0.0, components=components)

    def follow(self) -> None:
        """Normalize the remainder into the latest vector."""
        self._turn(beta=self._norm)

    def forget(self) -> None:
        """Drop the vector before the latest: the space it belonged to has been restarted."""
        self._beta = 0.0

    def _turn(self, *, beta: float) -> None:
        self._beta = beta
        self.vector.copy_(self._remainder.div_(self._norm))
        # The coefficients belong to the vector that products and basis see, so it is rounded here too.
        self._remainder.copy_(self.vector)
        self._previous, self._current, self._remainder = self._current, self._remainder, self._previous
