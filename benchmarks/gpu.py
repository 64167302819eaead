"""``python -m benchmarks.gpu``: on a CUDA device, the kernels against copy bandwidth and ResNet-50's training step.

The traffic of a forward and backward is what the kernels read and write: x twice and y; g and x twice and dx. No result
of it is in the repository yet: nothing is claimed about a GPU until this has run on one.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import normscope as ns
from benchmarks.normalizers import native

SHAPES = {"conv 128x64x56x56": (128, 64, 56, 56), "conv 128x256x14x14": (128, 256, 14, 14)}
ROWS = ("bmlv", "lmbv", "prelayernorm", "regnorm", "bnl2", "rmsnorm")
PASSES = 3 + 5
BANDWIDTH_TARGET, STEP_TARGET = 0.80, 1.05


def milliseconds(call: Callable[[], object], *, runs: int = 50, warmup: int = 10) -> float:
    """Median time on the device."""
    for _ in range(warmup):
        call()
    times = []
    for _ in range(runs):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def copy_bandwidth(x: Tensor) -> float:
    """Bytes a second of a copy of x, read and written."""
    y = torch.empty_like(x)
    return 2 * x.nbytes / (1e-3 * milliseconds(lambda: y.copy_(x)))


def kernel_rows() -> list[dict[str, object]]:
    rows = []
    for shape_name, shape in SHAPES.items():
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.randn(shape, device="cuda", dtype=dtype, requires_grad=True)
            cotangent = torch.randn_like(x)
            copied = copy_bandwidth(x.detach())
            for name in ROWS:
                row = ns.normalizer(name)
                site = row.site(shape[1], device="cuda")
                layer = native(row, shape)[0].cuda()

                def step(module: torch.nn.Module, x: Tensor = x, cotangent: Tensor = cotangent) -> object:
                    return torch.autograd.grad(module(x), [x, *module.parameters()], cotangent)

                mine, theirs = (milliseconds(lambda m=m: step(m)) for m in (site, layer))
                reached = PASSES * x.nbytes / (1e-3 * mine) / copied
                rows.append(
                    {"shape": shape_name, "dtype": str(dtype), "normalizer": name, "ms": mine, "native_ms": theirs}
                    | {"of_copy_bandwidth": reached, "target": BANDWIDTH_TARGET, "copy_bytes_per_s": copied}
                )
                print(f"{shape_name} {dtype} {name:14} {mine:.3f} ms, {reached:.0%} of copy, native {theirs:.3f} ms")
    return rows


def resnet50_step(name: str, *, batch: int) -> Callable[[], object]:
    row, generator = ns.normalizer(name), torch.Generator().manual_seed(0)
    model = ns.models.ResNet(3, 1000, depth=50, stem="imagenet", normalizer=row, generator=generator).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    images = torch.randn(batch, 3, 224, 224, device="cuda")
    targets = torch.randint(0, 1000, (batch,), device="cuda")

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(images), targets)
        loss.backward()
        optimizer.step()

    return step


def main() -> int:
    if not torch.cuda.is_available():
        print("benchmarks.gpu measures on a CUDA device, and there is none here; run it where there is one.")
        return 2
    kernels = kernel_rows()
    steps = {name: milliseconds(resnet50_step(name, batch=64), runs=30) for name in ("batchnorm", "prelayernorm")}
    ratio = steps["prelayernorm"] / steps["batchnorm"]
    print(f"ResNet-50 step: prelayernorm over batchnorm {ratio:.3f} (target {STEP_TARGET})")
    record = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "kernels": kernels,
        "resnet50_step_ms": steps,
        "resnet50_ratio": ratio,
    }
    (Path(__file__).parent / "results" / "gpu.json").write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
