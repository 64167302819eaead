"""Error against products: every tool's density, trace and top ten on a network with outliers."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

from torch import Tensor

from benchmarks.curvature import exact
from benchmarks.curvature.tasks import BUDGETS, SEEDS, Result, answers, attempt, made, of_density, ordered
from benchmarks.curvature.tools.protocol import Meter, Missing, Tool

# How a density's budget may be divided: each tool is shown at the division that suits it best.
STEPS = (20, 40, 80)
Errors = dict[str, float]


def over_seeds(meter: Meter, run: Callable[[int], Errors]) -> Errors:
    """Root mean square of each error over the seeds, and of the products a run took."""
    runs = []
    for seed in SEEDS:
        meter.products = 0
        runs.append(run(seed) | {"products": meter.products})
    return {name: statistics.fmean(r[name] ** 2 for r in runs) ** 0.5 for name in runs[0]}


def best(results: Iterable[Result], name: str) -> Result:
    found = list(results)
    if not found:
        raise Missing
    return min(found, key=lambda result: result[name])


def density(subject: Tool, truth: dict[str, Tensor], budget: int) -> Result:
    def run(steps: int, seed: int) -> Errors:
        with subject.supplied():
            return of_density(*subject.density(budget // steps, steps, seed), truth["eigenvalues"])

    fitting = [steps for steps in STEPS if steps <= budget]
    results = (over_seeds(subject.meter, lambda s: run(steps, s)) | {"steps": steps} for steps in fitting)  # noqa: B023
    return best(results, "wasserstein")


def trace(subject: Tool, truth: dict[str, Tensor], budget: int) -> Result:
    def run(estimator: str, seed: int) -> Errors:
        return {"error": abs(subject.trace(estimator, budget, seed) / float(truth["trace"]) - 1)}

    results = (
        over_seeds(subject.meter, lambda seed: run(name, seed)) | {"estimator": name}  # noqa: B023
        for name in subject.estimators
    )
    return best(results, "error")


def top(subject: Tool, truth: dict[str, Tensor], budget: int) -> Result:
    reference = ordered(truth["eigenvalues"], subject.order)[:10]

    def run(seed: int) -> Errors:
        errors = exact.relative_errors(subject.top(10, budget, seed), reference)
        return {"error": float(errors.max()), "largest": float(errors[0])}

    return over_seeds(subject.meter, run)


def together(subject: Tool, truth: dict[str, Tensor], budget: int) -> Result:
    """Density, trace and top ten out of one budget, where a tool can do that."""
    eigenvalues = truth["eigenvalues"]

    def run(steps: int, seed: int) -> Errors:
        rule, values, estimate = subject.together(budget, steps, seed)
        errors = exact.relative_errors(values, ordered(eigenvalues, "magnitude")[:10])
        mine = {"trace": abs(estimate / float(truth["trace"]) - 1), "top": float(errors.max())}
        return of_density(*rule, eigenvalues) | mine

    results = (over_seeds(subject.meter, lambda seed: run(steps, seed)) | {"steps": steps} for steps in STEPS)  # noqa: B023
    return best(results, "wasserstein")


QUANTITIES = {"density": density, "trace": trace, "top": top, "together": together}


def curves(tool: str, problem: str, folder: Path) -> Result:
    """Rows {"budget", "density", "trace", "top", "together"}; the first three with the whole budget each."""
    truth = answers(problem, folder)
    subject = made(tool, problem, folder)
    rows = [
        {"budget": budget}
        | {name: attempt(lambda: measure(subject, truth, budget)) for name, measure in QUANTITIES.items()}  # noqa: B023
        for budget in BUDGETS
    ]
    return {"rows": rows}
