"""Choose the machinery for a risk: what is exact, what fits in memory, what is fastest, in this order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import final

import torch

from normscope.curvature.batches import examples, num_examples
from normscope.curvature.blame import culprit
from normscope.curvature.check import SYMMETRY_TOLERANCE, TOLERANCE, Check, Checker
from normscope.curvature.machinery import Kind, Machinery, MachineryName
from normscope.curvature.memory import graph_bytes
from normscope.curvature.products import Product
from normscope.curvature.risk import Risk, gradient

_EXAMPLES = 8  # enough for every rule to be used; batch statistics need two
# A product quicker than this is worth timing another way: what each operation costs beside its arithmetic decides.
QUICK_SECONDS = 0.25


@final
class Exactness:
    """Which machineries are right for a model, found when asked for, on a few examples in float64.

    Attributes:
        graph_bytes: memory of one gradient's graph for one example, in the risk's own dtype.
        refused: machinery -> why it is not used, so far.
    """

    def __init__(self, kind: Kind, risk: Risk, candidates: Sequence[Machinery]) -> None:
        self._kind, self._candidates = kind, candidates
        self._few = _few(risk)
        count = num_examples(self._few.batch)
        share = risk.values[0].dtype.itemsize / torch.float64.itemsize / count
        self.graph_bytes = graph_bytes(self._few) * share
        self.refused: dict[MachineryName, str] = {}
        self._checker = Checker(kind, self._few, examples=count)
        self._found: dict[str, Check | None] = {}

    def check(self, machinery: Machinery) -> Check | None:
        """The machinery's check if it passed; None, and the reason in `refused`, if not.

        Two machineries that differ only in what they keep between products share a check that passed.
        """
        if machinery.name not in self._found:
            shared = [self._found.get(m.name) for m in self._candidates if m.way == machinery.way]
            passed = next((check for check in shared if check is not None), None)
            self._found[machinery.name] = passed or self._checked(machinery)
        return self._found[machinery.name]

    def first(self) -> Machinery:
        """The first of the candidates that is right; those after it are not looked at.

        Raises:
            ValueError: none is; the layer that is to blame is named.
        """
        for machinery in self._candidates:
            if self.check(machinery) is not None:
                return machinery
        blamed = culprit(self._kind, self._few, self._candidates)
        reasons = "; ".join(f"{name}: {reason}" for name, reason in self.refused.items())
        raise ValueError(
            f"Products of the {self._kind.name} are exact or refused, and {blamed} has no exact second derivative here "
            f"({reasons}). Replace the layer, or leave its parameters out with params=..."
        )

    def _checked(self, machinery: Machinery) -> Check | None:
        try:
            result = self._checker(lambda risk: machinery.prepare(self._kind, risk))
        except RuntimeError as error:  # torch raises NotImplementedError, a kind of it, where a rule is missing
            self.refused[machinery.name] = str(error).splitlines()[0]
            return None
        if result.passed:
            return result
        self.refused[machinery.name] = (
            f"it misses finite differences by {result.finite_difference:.1e} (most in {result.worst}; at most "
            f"{TOLERANCE:.0e}) and symmetry by {result.symmetry:.1e} (at most {SYMMETRY_TOLERANCE:.0e})"
        )
        return None


def seconds_of(product: Product, risk: Risk) -> float:
    """Time of a product: the best of three, or of fewer where one takes long."""
    direction = [torch.ones_like(value) for value in risk.values]
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        result = product(direction)
        if result[0].is_cuda:
            torch.cuda.synchronize(result[0].device)
        best = min(best, time.perf_counter() - started)
        if best > QUICK_SECONDS:
            break
    return best


def _few(risk: Risk) -> Risk:
    """The risk on its first examples in float64; on the whole batch where the model or its loss takes no other size."""
    wide = Risk.of(
        risk.stand_in.subject, risk.layout, mode=risk.mode, dtype=torch.float64, regularizer=risk.regularizer
    ).at(risk.batch)
    if num_examples(risk.batch) <= _EXAMPLES:
        return wide
    few = wide.at(examples(risk.batch, 0, _EXAMPLES))
    try:
        gradient(few)
    except Exception:
        return wide
    return few
