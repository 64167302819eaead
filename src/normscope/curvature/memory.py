"""How much memory there is, and how much one gradient takes."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from normscope.curvature.risk import Risk, gradient


def available_bytes(device: torch.device) -> float:
    """Memory that can still be had on `device`: what the driver, the kernel and the control group say, whichever is
    least; infinite where none says.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(free + unused)
    return min(_kernel_bytes(), _group_bytes())


def graph_bytes(risk: Risk) -> int:
    """Memory of what the graph of one gradient of `risk` saves for its backward pass, each storage counted once."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        gradient(risk)
    return sum(storages.values())


def _kernel_bytes() -> float:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return float(found[0]) if found else math.inf


def _group_bytes() -> float:
    """What is left of the limit of this process's control group (version 2, as containers have it)."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return math.inf
    return float(max(limit - used, 0))
