"""Put data, trained weights and exact answers into the work folder, where each tool's process reads them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

import normscope as ns
from benchmarks.curvature import exact
from benchmarks.curvature.problems import OUTLIERS, SMALL, Batch, Problem, load
from normscope.files import write


def prepare(problem: Problem, folder: Path, images: str | None) -> dict[str, object]:
    """Write NAME.npz (weights, batch, one vector and its product, and the exact spectrum where it can be had).

    Returns:
        What the page says of the problem: parameters, where the data is from, how far the oracle was checked.
    """
    inputs, targets, source = batch_of(problem, images)
    model = problem.build(torch.Generator().manual_seed(0))
    train(model, (inputs, targets), problem.steps)
    arrays = {f"state.{name}": value.numpy() for name, value in model.state_dict().items()}
    arrays |= {"inputs": inputs.numpy(), "targets": targets.numpy()}
    save(folder / f"{problem.name}.npz", arrays)
    facts = {"parameters": sum(p.numel() for p in model.parameters()), "data": source}
    return facts | oracle(problem, folder)


def batch_of(problem: Problem, images: str | None) -> tuple[Tensor, Tensor, str]:
    if problem.data == "images" and images is None:
        generator = torch.Generator().manual_seed(1)
        inputs = torch.randn(problem.examples, 3, 32, 32, generator=generator)
        return inputs, torch.randint(0, 10, (problem.examples,), generator=generator), "seeded random images"
    dataset = ns.data.load("digits" if problem.data != "images" else str(images), max_train=problem.examples)
    inputs, targets = dataset.train.inputs, dataset.train.targets
    return (inputs.flatten(1) if problem.data == "digits" else inputs), targets, Path(dataset.name).name


def train(model: nn.Module, batch: Batch, steps: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()


def oracle(problem: Problem, folder: Path) -> dict[str, object]:
    """One product in float64 for all; the dense Hessian and GGN where the network is small enough.

    Raises:
        ArithmeticError: double backward and the difference of gradients disagree.
    """
    model, batch = load(problem, folder, torch.float64)
    size = sum(p.numel() for p in model.parameters())
    v = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    if problem in SMALL or problem is OUTLIERS:
        reference = reference_model(problem, model)
        H = exact.dense_hessian(reference, batch)
        G = exact.dense_ggn(reference, batch) if problem in SMALL else None
        answers = {"v": v, "Hv": H @ v, "eigenvalues": torch.linalg.eigvalsh(H).flip(0)}
        answers |= {"trace": H.trace(), "trace_of_square": H.square().sum()}
        answers |= {} if G is None else {"Gv": G @ v}
        apart = float((exact.difference(model, batch, v) - H @ v).norm() / (H @ v).norm())
        if apart > 1e-6:
            raise ArithmeticError(f"{problem.name}: the oracle and a difference of gradients are {apart:.1e} apart")
        facts: dict[str, object] = {"difference_of_gradients": apart}
    else:
        answers = {"v": v, "Hv": exact.product(model, batch, v)}
        facts = {}
        if problem.name == "mlp":
            answers["eigenvalues"] = by_arpack(model, batch, size)
    save(folder / f"{problem.name}.exact.npz", {name: value.detach().numpy() for name, value in answers.items()})
    return facts


def reference_model(problem: Problem, model: nn.Module) -> nn.Module:
    """The model itself, or its twin with the same parameters where torch's double backward is wrong."""
    if problem.twin is None:
        return model
    twin = problem.twin(torch.Generator().manual_seed(0)).double().train()
    with torch.no_grad():
        for mine, its in zip(twin.parameters(), model.parameters(), strict=True):
            mine.copy_(its)
    return twin


def by_arpack(model: nn.Module, batch: Batch, size: int, k: int = 10) -> Tensor:
    """The k largest eigenvalues in float64: SciPy's ARPACK on double backward, nobody's code that is compared here."""

    def matvec(x: np.ndarray) -> np.ndarray:
        return exact.product(model, batch, torch.from_numpy(x.ravel())).detach().numpy()

    op = LinearOperator((size, size), matvec=matvec, dtype=np.float64)
    start = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).numpy()
    return torch.from_numpy(eigsh(op, k=k, which="LA", ncv=60, tol=1e-8, v0=start)[0]).sort(descending=True).values


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez(content, **arrays)
    write(path, content.getvalue())
