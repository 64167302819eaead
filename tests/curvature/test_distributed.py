from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from curvature import zoo
from normscope.curvature import GGNOperator, HessianOperator
from normscope.curvature.distributed import Group, unwrapped

OPERATORS: dict[str, Any] = {"hessian": HessianOperator, "ggn": GGNOperator}


def model() -> nn.Module:
    return zoo.randomized(zoo.row_mlp(zoo.ROWS["layernorm"]))


def share(rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = zoo.features(9)
    return (x[:3], y[:3]) if rank == 0 else (x[3:], y[3:])


def _process(rank: int, folder: str, store_file: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(store_file, 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    try:
        spread = DistributedDataParallel(model())
        found: dict[str, Any] = {}
        for kind, operator in OPERATORS.items():
            mine = operator(spread, F.cross_entropy, share(rank))
            with mock.patch.object(dist, "all_reduce", wraps=dist.all_reduce) as reduce:
                found[kind] = mine.matvec(torch.ones(mine.size, dtype=torch.float64))
            found[f"{kind}_reductions"] = reduce.call_count
            found[f"{kind}_gradients"] = all(p.grad is None for p in spread.parameters())
        torch.save(found, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(_process, args=(str(folder), str(folder / "store")), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.skipif(not dist.is_available(), reason="this torch has no processes")
@pytest.mark.parametrize("kind", OPERATORS)
def test_the_processes_together_have_the_operator_of_all_batches(kind: str, products: list[dict[str, Any]]) -> None:
    whole = OPERATORS[kind](model(), F.cross_entropy, zoo.features(9))
    expected = whole.matvec(torch.ones(whole.size, dtype=torch.float64))
    for found in products:
        torch.testing.assert_close(found[kind], expected, rtol=1e-12, atol=1e-14)
        assert found[f"{kind}_reductions"] == 1
        assert found[f"{kind}_gradients"]


def test_a_process_of_its_own_adds_nothing() -> None:
    plain = model()
    assert unwrapped(plain) == (plain, Group())
    vector = torch.ones(3)
    assert Group().total(2.5) == 2.5
    assert Group().sum_(vector) is vector
    assert torch.equal(vector, torch.ones(3))
