"""Curvature of a model whose batches are spread over processes: one sum over the processes a product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


@final
@dataclass(frozen=True, slots=True)
class Group:
    """The processes that share a model; `process_group` None for this process alone."""

    process_group: Any = None

    def total(self, value: float) -> float:
        """The sum of a number over the processes."""
        if self.process_group is None:
            return value
        tensor = torch.tensor([value], dtype=torch.float64, device=self._device())
        dist.all_reduce(tensor, group=self.process_group)
        return float(tensor)

    def sum_(self, vector: Tensor) -> Tensor:
        """The sum of a vector over the processes, in place."""
        if self.process_group is not None:
            dist.all_reduce(vector, group=self.process_group)
        return vector

    def _device(self) -> torch.device:
        cuda = "nccl" in dist.get_backend(self.process_group)
        return torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")


def unwrapped(model: nn.Module) -> tuple[nn.Module, Group]:
    """The model itself and the processes it is spread over, if it comes in DistributedDataParallel."""
    if isinstance(model, DistributedDataParallel):
        return model.module, Group(model.process_group)
    return model, Group()
