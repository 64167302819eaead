"""``python -m benchmarks.replicas``: gradients of several networks as one batched computation and one by one.

Networks of the family deep_mlp with batch normalization, in float64 on one thread. Batched, the weights of R networks
are one stack (R, d, d), a layer is one batched product, and one site normalizes all R * d features.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor

import normscope as ns
from benchmarks.timing import compare
from normscope.models import DeepMLP

DEPTH, SAMPLES, FEATURES, CLASSES = 200, 100, 3072, 10


def draw(replicas: int, width: int, row: ns.Normalizer) -> list[DeepMLP]:
    return [
        DeepMLP(
            FEATURES,
            CLASSES,
            depth=DEPTH,
            width=width,
            normalizer=row,
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in range(replicas)
    ]


def one_after_another(networks: list[DeepMLP], inputs: Tensor, targets: Tensor) -> Tensor:
    """Norms of the gradients by the hidden weights: (R, depth)."""
    norms = []
    for network, x, y in zip(networks, inputs, targets, strict=True):
        loss = F.cross_entropy(network(x), y)
        gradients = torch.autograd.grad(loss, [layer.weight for layer in network.affines])
        norms.append(torch.stack([gradient.norm() for gradient in gradients]))
    return torch.stack(norms)


def batched(networks: list[DeepMLP], row: ns.Normalizer, inputs: Tensor, targets: Tensor) -> Tensor:
    """The same, with features in front: (R, d, n) after each layer."""
    replicas, width = len(networks), networks[0].affines[0].out_features
    stacks = [
        torch.stack([network.affines[layer].weight.detach() for network in networks]).requires_grad_()
        for layer in range(DEPTH)
    ]
    site = row.site(replicas * width, ndim=3, channel_dim=1)  # without buffers or gains: one serves all layers
    x = inputs.mT
    for weight in stacks:
        x = site(torch.bmm(weight, x).view(1, replicas * width, -1)).view(replicas, width, -1)
    readout = torch.stack([network.readout.weight for network in networks])
    outputs = torch.bmm(readout.detach(), x).mT  # its bias is zero
    loss = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="sum") / targets.shape[1]
    gradients = torch.autograd.grad(loss, stacks)
    return torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients], dim=1)


def main() -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    row = ns.normalizer("bnl2", moment="rms")
    print("replicas width | drawing (s) | plain / batched, gradients (middle half) | plain / batched, with drawing")
    for replicas, width in ((10, 100), (3, 100), (10, 32)):
        start = time.process_time()
        networks = draw(replicas, width, row)
        drawing = time.process_time() - start
        inputs = torch.randn(replicas, SAMPLES, FEATURES)
        targets = torch.randint(0, CLASSES, (replicas, SAMPLES))
        plain, together = one_after_another(networks, inputs, targets), batched(networks, row, inputs, targets)
        torch.testing.assert_close(together, plain, rtol=1e-9, atol=0)
        found = compare(
            lambda: one_after_another(networks, inputs, targets),  # noqa: B023  (called at once)
            lambda: batched(networks, row, inputs, targets),  # noqa: B023
            pairs=9,
            warmup=1,
        )
        with_drawing = (found.ours_ms + 1e3 * drawing) / (found.theirs_ms + 1e3 * drawing)
        ratio = f"{found.ratio:.2f} ({found.low:.2f} to {found.high:.2f})"
        print(f"{replicas:8} {width:5} | {drawing:11.2f} | {ratio:>40} | {with_drawing:.2f}", flush=True)


if __name__ == "__main__":
    main()
