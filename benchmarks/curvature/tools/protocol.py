"""What the benchmark asks of a tool."""

# ruff: noqa: ARG002

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor


class Missing(Exception):  # noqa: N818  # an answer, not an error
    """The tool offers no algorithm for this."""


@dataclass
class Meter:
    """Counts products and the time inside them, so that the recursion's own time is the rest."""

    products: int = 0
    seconds: float = 0.0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            self.products += 1
            self.seconds += time.perf_counter() - start
            return result

        return counted


class Tool:
    """A tool applied to one model and batch, made by ``Adapter(model, batch)``; what it does not offer stays missing.

    `order` says which end of the spectrum `top` finds: "largest", or "magnitude" where power iteration decides.
    `estimators` are the tool's own ways to a trace, the best last.
    """

    meter: Meter
    order = "largest"
    estimators: tuple[str, ...] = ()

    def product(self, v: Tensor) -> Tensor:
        """H v."""
        raise Missing

    def ggn(self, v: Tensor) -> Tensor:
        """G v."""
        raise Missing

    def density(self, samples: int, steps: int, seed: int) -> tuple[Tensor, Tensor]:
        """Nodes and weights, (samples, steps) each."""
        raise Missing

    def top(self, k: int, budget: int, seed: int) -> Tensor:
        """Eigenvalues, (k,) or fewer, descending, in at most `budget` products."""
        raise Missing

    def trace(self, estimator: str, budget: int, seed: int) -> float:
        """In at most `budget` products."""
        raise Missing

    def together(self, budget: int, steps: int, seed: int) -> tuple[tuple[Tensor, Tensor], Tensor, float]:
        """Density in runs of `steps` products, ten eigenvalues of largest magnitude and trace, out of one budget."""
        raise Missing

    @contextlib.contextmanager
    def supplied(self) -> Iterator[bool]:
        """A context in which what the tool's density lacks on this torch is there; False where it lacks nothing."""
        yield False
