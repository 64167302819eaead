"""What batch norm takes off a gradient on its way back, at every site: a theorem as printed, and the exact one."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from normscope.isolation import StandIn, draw_seed, isolated
from normscope.nn.site import Site
from normscope.probes.gradients import recorded
from normscope.probes.step import differentiable_stand_in
from normscope.study.measuring import Scene

_ROUNDING = 1e-3  # relative: of sums of float32 numbers, and of eps beside the variance


@dataclass(frozen=True)
class _Call:
    """What entered a site, what left it, and the copy that the network went on with."""

    site: Site
    entered: Tensor
    left: Tensor
    onward: Tensor


def backward_identity(scene: Scene, model: nn.Module, step: int) -> None:
    r"""Theorem 4.1 of Santurkar et al. at each batch norm site, with both of its last terms.

    For the m values y of a channel, normalized to ŷ, and the gradient g by the site's output,

    .. math:: \Big\|\frac{\partial L}{\partial y}\Big\|^2 = \frac{\gamma^2}{\sigma^2} \Big( \|g\|^2
              - \frac1m \langle 1, g \rangle^2 - \frac1m \langle g, \hat y \rangle^2 \Big),

    while the theorem bounds the left side by the right one with :math:`1 / \sqrt m` in the last term. Written are, by
    site, "error", the mean of the identity's relative error over channels that have a gradient, and "violated", the
    share of all channels whose left side exceeds the printed bound by more than a thousandth.

    Raises:
        ValueError: the network has no such site.

    Source: Santurkar et al., "How does batch normalization help optimization?", arXiv:1805.11604, theorem 4.1.
    """
    subject = scene.subject(model, 1, "probe")
    seed = draw_seed(scene.generator(step))
    with isolated(subject, mode="train", seed=seed):
        stand_in = differentiable_stand_in(subject)
        found = stand_in.run(lambda network: _compared(stand_in, network), seed=seed)
    for depth, (name, values) in enumerate(found.items(), start=1):
        for quantity, value in values.items():
            scene.rows.add("backward_identity", quantity, value, step=step, layer=name, depth=depth)


def _compared(stand_in: StandIn, network: nn.Module) -> dict[str, dict[str, float]]:
    calls: dict[str, _Call] = {}
    sites = {
        name: module
        for name, module in stand_in.subject.model.named_modules()
        if isinstance(module, Site) and module.normalizer_site == "batchnorm"
    }
    if not sites:
        raise ValueError(
            f"what batch norm takes off a gradient is measured at its sites, and {type(network).__name__} has none; "
            "choose the normalizer batchnorm."
        )
    with contextlib.ExitStack() as stack:
        for name, site in sites.items():
            stack.callback(site.register_forward_hook(partial(_note, calls, name)).remove)
        loss = stand_in.loss(network, stand_in.subject.batch)
        gradients = torch.autograd.grad(loss, [call.onward for call in calls.values()], retain_graph=True)
    return {name: _sides(call, gradient) for (name, call), gradient in zip(calls.items(), gradients, strict=True)}


def _note(calls: dict[str, _Call], name: str, site: Site, args: tuple[Any, ...], output: Tensor) -> Tensor:
    onward = recorded(name, output)
    calls[name] = _Call(site, args[0], output, onward)
    return onward


def _sides(call: _Call, gradient: Tensor) -> dict[str, float]:
    """The identity's mean relative error, and the share of channels beyond the printed bound."""
    (by_input,) = torch.autograd.grad(call.left, call.entered, gradient, retain_graph=True)
    axis = call.site.channel_dim
    y, g, left = (t.detach().movedim(axis, 0).flatten(1).double() for t in (call.entered, gradient, by_input))
    count = y.shape[1]
    variance, mean = torch.var_mean(y, 1, correction=0, keepdim=True)
    normalized = (y - mean) / (variance + call.site.row.eps).sqrt()
    gain = torch.ones(len(y)) if call.site.weight is None else call.site.weight.detach()
    factor = gain.to(y).square() / (variance.squeeze(1) + call.site.row.eps)
    squares, ones, along = g.square().sum(1), g.sum(1).square(), (g * normalized).sum(1).square()
    measured = left.square().sum(1)
    exact = factor * (squares - ones / count - along / count)
    printed = factor * (squares - ones / count - along / math.sqrt(count))
    alive = measured > 0  # a ReLU that is off for the whole batch sends nothing back
    return {
        "error": ((measured - exact).abs() / measured)[alive].mean().item(),
        "violated": (measured > printed + _ROUNDING * measured).double().mean().item(),
    }
