"""What is measured of one tool on one problem. Runs in the peers' environment; each task returns plain JSON."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.curvature import exact
from benchmarks.curvature.memory import peak_bytes, reset_peak
from benchmarks.curvature.problems import PROBLEMS, load
from benchmarks.curvature.state import State
from benchmarks.curvature.tools import adapter
from benchmarks.curvature.tools.protocol import Missing, Tool

Result = dict[str, Any]
SEEDS = (1, 2, 3, 4, 5, 6)
BUDGETS = (20, 30, 45, 70, 100, 150, 225, 320)
SAMPLES, STEPS = 10, 80
# A long density is timed on this many products and scaled.
SHORT = 20
# What "found" means for an eigenvalue, relative.
TOLERANCE = 1e-3


def answers(problem: str, folder: Path) -> dict[str, Tensor]:
    with np.load(folder / f"{problem}.exact.npz") as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored.files}


def made(tool: str, problem: str, folder: Path) -> Tool:
    return adapter(tool)(*load(PROBLEMS[problem], folder, torch.float32))


def attempt(action: Callable[[], Any]) -> Result:
    """{"value"}, {"missing"} where the tool has no such algorithm, or {"fails": the exception's first line}."""
    try:
        return {"value": action()}
    except Missing:
        return {"missing": True}
    except Exception as error:  # whatever a tool raises is its answer
        first = (str(error).strip() or repr(error)).splitlines()[0]
        return {"fails": f"{type(error).__name__}: {first}"}


def distance(found: Tensor, truth: Tensor) -> float:
    return float((found.detach().double() - truth).norm() / truth.norm())


def product(tool: str, problem: str, folder: Path) -> Result:
    """Error of one Hessian and one GGN product in both precisions, and what was left behind in the model."""
    truth = answers(problem, folder)
    result: Result = {}
    for dtype in (torch.float64, torch.float32):
        v, name = truth["v"].to(dtype), str(dtype).removeprefix("torch.")
        model, batch = load(PROBLEMS[problem], folder, dtype)
        before = State(model)
        hessian = attempt(lambda: distance(adapter(tool)(model, batch).product(v), truth["Hv"]))  # noqa: B023
        model.train()
        ggn = attempt(lambda: distance(adapter(tool)(model, batch).ggn(v), truth["Gv"]))  # noqa: B023
        result |= {f"hessian_{name}": hessian, f"ggn_{name}": ggn}
    # The loop's last model has seen the GGN as well: what a Hessian product alone leaves is read from a fresh one.
    model, batch = load(PROBLEMS[problem], folder, torch.float32)
    before = State(model)
    attempt(lambda: adapter(tool)(model, batch).product(v))
    return result | {"left_behind": before.changes()}


def algorithms(tool: str, problem: str, folder: Path) -> Result:
    """Density (10 samples of 80 products), trace by the tool's best estimator (99 products), top ten (80 products)."""
    truth = answers(problem, folder)
    eigenvalues = truth["eigenvalues"]
    subject = made(tool, problem, folder)

    def density() -> Result:
        return of_density(*subject.density(SAMPLES, STEPS, 1), eigenvalues)

    def top() -> float:
        reference = ordered(eigenvalues, subject.order)[:10]
        return float(exact.relative_errors(subject.top(10, 80, 1), reference).max())

    def trace() -> float:
        estimates = [subject.trace(name, 99, seed) for name in subject.estimators[-1:] for seed in SEEDS]
        if not estimates:
            raise Missing
        return statistics.median(abs(e / float(truth["trace"]) - 1) for e in estimates)

    result = {"density": attempt(density)}
    if "fails" in result["density"]:
        with subject.supplied() as supplied:
            result |= {"density_supplied": attempt(density)} if supplied else {}
    return result | {"top": attempt(top), "trace": attempt(trace)}


def of_density(nodes: Tensor, weights: Tensor, eigenvalues: Tensor) -> dict[str, float]:
    """Errors of nodes and weights (samples, steps) as a density, and of the two moments it implies."""
    nodes, weights = nodes.double().flatten(), weights.double().flatten() / weights.double().sum()
    return {
        "wasserstein": exact.wasserstein(nodes, weights, eigenvalues),
        "bulk": exact.bulk_wasserstein(nodes, weights, eigenvalues),
        "trace": abs(float(weights @ nodes) / float(eigenvalues.mean()) - 1),
        "trace_of_square": abs(float(weights @ nodes.square()) / float(eigenvalues.square().mean()) - 1),
    }


def ordered(eigenvalues: Tensor, order: str) -> Tensor:
    return eigenvalues[(eigenvalues.abs() if order == "magnitude" else eigenvalues).argsort(descending=True)]


def timing(tool: str, problem: str, folder: Path) -> Result:
    """Seconds a product and a gradient, taken in turn; peak memory of the first products; error of the product.

    The first product carries everything a tool does once. Memory is read before any gradient of our own is taken.
    """
    truth = answers(problem, folder)
    model, batch = load(PROBLEMS[problem], folder, torch.float32)
    v = truth["v"].float()
    pairs = 15 if problem == "mlp" else 3

    def gradient() -> Tensor:
        return exact.gradient(model, batch)

    def hessian() -> Result:
        reset_peak()
        before, start = peak_bytes(), time.perf_counter()
        subject = adapter(tool)(model, batch)
        found = subject.product(v)
        once = time.perf_counter() - start
        subject.product(v)
        memory = peak_bytes() - before
        model.train()
        facts = {"error": distance(found, truth["Hv"]), "peak_bytes": memory, "first_seconds": once}
        return facts | in_turn(lambda: subject.product(v), gradient, pairs)

    # One after the other: what a tool holds for Hessian products would crowd the memory of the other matrix.
    return hessian() | {"ggn": attempt(lambda: ggn_timing(adapter(tool)(model, batch), v, gradient, pairs))}


def ggn_timing(subject: Tool, v: Tensor, gradient: Callable[[], object], pairs: int) -> Result:
    subject.ggn(v)
    return in_turn(lambda: subject.ggn(v), gradient, pairs)


def in_turn(product: Callable[[], object], gradient: Callable[[], object], pairs: int) -> Result:
    """Medians of both and of the pairwise ratios: what the machine does meanwhile falls on both."""
    gradient()
    times: list[tuple[float, float]] = []
    for _ in range(pairs):
        marks = [time.perf_counter()]
        for call in (product, gradient):
            call()
            marks.append(time.perf_counter())
        times.append((marks[1] - marks[0], marks[2] - marks[1]))
    return {
        "product_seconds": statistics.median(a for a, _ in times),
        "gradient_seconds": statistics.median(b for _, b in times),
        "gradients": statistics.median(a / b for a, b in times),
    }


def density(tool: str, problem: str, folder: Path) -> Result:
    """Seconds of a density of 10 samples of 80 products: in full on the MLP, 20 products scaled on the large one."""
    model, batch = load(PROBLEMS[problem], folder, torch.float32)
    subject = adapter(tool)(model, batch)
    samples, steps = (SAMPLES, STEPS) if problem == "mlp" else (1, SHORT)
    subject.product(torch.ones(sum(p.numel() for p in model.parameters())))  # what a tool does once
    subject.meter.products, subject.meter.seconds = 0, 0.0
    with subject.supplied() as supplied:
        start = time.perf_counter()
        subject.density(samples, steps, 1)
        seconds = time.perf_counter() - start
    return {
        "seconds": seconds * SAMPLES * STEPS / (samples * steps),
        "products": subject.meter.products,
        "measured_seconds": seconds,
        "recursion_share": 1 - subject.meter.seconds / seconds,
        "supplied": supplied,
        "scaled": samples * steps != SAMPLES * STEPS,
    }


def top(tool: str, problem: str, folder: Path) -> Result:
    """Products, seconds and errors of the top ten at growing budgets, against ARPACK in float64, until they hold."""
    reference = answers(problem, folder)["eigenvalues"][:10]
    subject = made(tool, problem, folder)
    rows = []
    for budget in BUDGETS:
        subject.meter.products = 0
        start = time.perf_counter()
        values = subject.top(10, budget, 1)
        seconds = time.perf_counter() - start
        errors = exact.relative_errors(values, reference)
        row = {"budget": budget, "products": subject.meter.products, "seconds": seconds}
        rows.append(row | {"largest": float(errors[0]), "top_ten": float(errors.max())})
        if rows[-1]["top_ten"] <= TOLERANCE:
            break
    return {"rows": rows}


TASKS: dict[str, Callable[[str, str, Path], Result]] = {
    "product": product,
    "algorithms": algorithms,
    "timing": timing,
    "density": density,
    "top": top,
}
