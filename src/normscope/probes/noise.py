"""A minibatch like another one: Gaussian noise on the inputs."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from normscope.subject import Inputs


def check_noise(noise: float) -> None:
    """Refuse a noise level that is negative or not finite.

    Raises:
        ValueError: on such a level.
    """
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(
            f"`noise` is a finite share of the inputs' standard deviation, at least 0, but {noise} arrived. Try 0.1."
        )


def complaint_about_inputs(inputs: Inputs) -> str | None:
    """Why noise cannot be added to `inputs`, or None: it needs floating-point tensors and no integers beside them."""
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
    unfit = next((t.dtype for t in tensors if not t.is_floating_point() and t.dtype != torch.bool), None)
    if unfit is None and any(t.is_floating_point() for t in tensors):
        return None
    arrived = f"a {unfit} tensor" if unfit is not None else "no tensor of that kind"
    return (
        f"Noise is added to real floating-point inputs, but {arrived} arrived. For tokens, make their embeddings the "
        "inputs and let forward=lambda model, embedded: ... take them on from there."
    )


def perturbed(inputs: Inputs, noise: float, *, generator: torch.Generator) -> Inputs:
    r"""A similar minibatch, leaf by leaf of the pytree.

    .. math:: \tilde x = x + s \, \mathrm{std}(x) \, \varepsilon, \qquad \varepsilon \sim N(0, I)

    with s = `noise` and the standard deviation over all entries of the leaf (the whole batch, mean removed). Masks
    (boolean leaves) and leaves that are no tensors stay as they are. The noise is drawn on the generator's device.

    Raises:
        ValueError: an input is an integer or complex tensor, or none is floating-point.
    """
    complaint = complaint_about_inputs(inputs)
    if complaint is not None:
        raise ValueError(complaint)

    def perturb(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        epsilon = torch.randn(x.shape, generator=generator, device=generator.device, dtype=exact.dtype).to(x.device)
        return (exact + noise * exact.std(correction=0) * epsilon).to(x.dtype)

    return pytree.tree_map_only(Tensor, perturb, inputs)
