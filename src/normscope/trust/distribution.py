"""Badge on data-parallel training: two processes with half the batch each are one process with the whole."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from normscope.nn.distributed import synchronized
from normscope.trust.bench import Bench
from normscope.trust.outcome import Badge, Finding, Outcome, inapplicable, judged, not_run
from normscope.trust.specimen import Layout, Row, block, draw, layouts_taken

_BOUND = 1e-10
_STEPS = 2
_CPU = torch.device("cpu")


def _equals_one_process(row: Row, bench: Bench) -> Outcome:
    if not (dist.is_available() and dist.is_gloo_available()):
        return not_run("this torch has no gloo")
    try:
        pickle.dumps(row)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return not_run(f"the row cannot be sent to another process: {error}")
    layouts = layouts_taken(row, device=_CPU)
    parts = bench.pair(_share, row, layouts)
    findings = list(_compare(parts, [_train(row, layout, None)[0] for layout in layouts], layouts))
    outcome = judged(findings, _BOUND)
    keeps = any(list(block(row, layout, device=_CPU).buffers()) for layout in layouts)
    if outcome.state == "failed" and (row.couples_batch or keeps) and not any(part["reductions"] for part in parts):
        return inapplicable("no synchronization yet: its statistics are each process's own", measured=outcome.measured)
    return outcome


def _compare(parts: list[Any], whole: list[dict[str, np.ndarray]], layouts: tuple[Layout, ...]) -> Iterator[Finding]:
    for i, layout in enumerate(layouts):
        joined = {
            name: np.concatenate([part["layouts"][i][name] for part in parts])
            if name in ("output", "input gradient")
            else parts[0]["layouts"][i][name]
            for name in whole[i]
        }
        for name, want in whole[i].items():
            scale = max(1.0, float(np.abs(want).max(initial=0.0)))
            yield Finding(float(np.abs(joined[name] - want).max(initial=0.0)) / scale, f"{name}, {layout.name}")


def _share(rank: int, store: str, row: Row, layouts: tuple[Layout, ...]) -> dict[str, Any]:
    """What one of the two processes finds; runs there."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    try:
        trained = [_train(row, layout, rank) for layout in layouts]
        return {"layouts": [found for found, _ in trained], "reductions": sum(count for _, count in trained)}
    finally:
        dist.destroy_process_group()


def _train(row: Row, layout: Layout, rank: int | None) -> tuple[dict[str, np.ndarray], int]:
    """Some train-mode steps, without updates: the last one's results, and how many statistics were synchronized."""
    model = block(row, layout, device=_CPU)
    forward = model if rank is None else DistributedDataParallel(model)
    # Twice the layout's batch and one more example in all: the halves are unequal, and each of at least two.
    shape = (2 * layout.into[0] + 1, *layout.into[1:])
    reductions = 0
    for seed in range(_STEPS):
        x = _mine(draw(shape, 50 + seed, device=_CPU), layout, rank).requires_grad_()
        c = _mine(draw((shape[0], *layout.out[1:]), 60 + seed, device=_CPU), layout, rank)
        model.zero_grad()
        with synchronized() as synchronization:
            y = forward(x)
        (y * c).sum().backward()
        reductions += synchronization.reductions
    found = {"output": y, "input gradient": x.grad}
    processes = 1 if rank is None else 2  # DDP takes the mean of the processes' gradients, and the loss is a sum
    found |= {f"gradient of {name}": processes * p.grad for name, p in model.named_parameters() if p.grad is not None}
    found |= dict(model.named_buffers())
    return {name: value.detach().double().numpy() for name, value in found.items() if value is not None}, reductions


def _mine(whole: Tensor, layout: Layout, rank: int | None) -> Tensor:
    first = layout.into[0]
    return whole if rank is None else whole[:first] if rank == 0 else whole[first:]


DDP = Badge(
    name="ddp",
    says="two processes under DistributedDataParallel with synchronized statistics equal one with the whole batch",
    check=_equals_one_process,
    slow=True,
)
