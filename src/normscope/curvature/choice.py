"""Choose the machinery for a risk: what is exact, what fits in memory, what is fastest, in this order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from normscope.curvature.batches import examples, num_examples
from normscope.curvature.blame import culprit
from normscope.curvature.check import SYMMETRY_TOLERANCE, TOLERANCE, Check, check
from normscope.curvature.machinery import Kind, Machinery, MachineryName
from normscope.curvature.memory import graph_bytes
from normscope.curvature.products import Product
from normscope.curvature.risk import Risk, gradient

_EXAMPLES = 8  # enough for every rule to be used; batch statistics need two
# A product quicker than this is worth timing another way: what each operation costs beside its arithmetic decides.
_QUICK_SECONDS = 0.25


@final
@dataclass(frozen=True, kw_only=True)
class Exactness:
    """Which machineries are right for a model, found on a few examples in float64.

    Attributes:
        passed: machinery -> its check.
        failed: machinery -> why it is not used.
        graph_bytes: memory of one gradient's graph for one example, in the risk's own dtype.
    """

    passed: dict[MachineryName, Check]
    failed: dict[MachineryName, str]
    graph_bytes: float


def find_exact(kind: Kind, risk: Risk, candidates: Sequence[Machinery]) -> Exactness:
    """Check each candidate; the derivative rules of torch that a model uses are not all right, or not all there.

    Raises:
        ValueError: none is right; the layer that is to blame is named.
    """
    few = _few(risk)
    count = num_examples(few.batch)
    passed: dict[MachineryName, Check] = {}
    failed: dict[MachineryName, str] = {}
    for machinery in candidates:
        try:
            result = check(kind, machinery.prepare(kind, few), few, examples=count)
        except (RuntimeError, NotImplementedError) as error:
            failed[machinery.name] = str(error).splitlines()[0]
            continue
        if result.passed:
            passed[machinery.name] = result
        else:
            failed[machinery.name] = (
                f"it misses finite differences by {result.finite_difference:.1e} (most in {result.worst}; at most "
                f"{TOLERANCE:.0e}) and symmetry by {result.symmetry:.1e} (at most {SYMMETRY_TOLERANCE:.0e})"
            )
    if not passed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise ValueError(
            f"Products of the {kind.name} are exact or refused, and {culprit(kind, few, candidates)} has no exact "
            f"second derivative here ({reasons}). Replace the layer, or leave its parameters out with params=..."
        )
    share = _dtype(risk).itemsize / torch.float64.itemsize / count
    return Exactness(passed=passed, failed=failed, graph_bytes=graph_bytes(few) * share)


def fastest(prepared: dict[MachineryName, Callable[[], Product]], risk: Risk) -> tuple[MachineryName, Product, float]:
    """Prepare the machineries in turn, time a product of each and keep the quickest; slow ones are not compared."""
    best: tuple[MachineryName, Product, float] | None = None
    for name, prepare in prepared.items():
        product = prepare()
        seconds = _seconds(product, risk)
        if best is None or seconds < best[2]:
            best = name, product, seconds
        if best[2] > _QUICK_SECONDS:
            break
    assert best is not None
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


def _seconds(product: Product, risk: Risk) -> float:
    direction = [torch.ones_like(value) for value in risk.values]
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        _synchronized(product(direction))
        best = min(best, time.perf_counter() - started)
        if best > _QUICK_SECONDS:
            break
    return best


def _synchronized(result: Sequence[Tensor]) -> None:
    if result[0].is_cuda:
        torch.cuda.synchronize(result[0].device)


def _dtype(risk: Risk) -> torch.dtype:
    return risk.values[0].dtype
