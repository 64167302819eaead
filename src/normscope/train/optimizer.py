"""Optimizers as the papers set them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on parameters of more than one dimension only: kernels, and not biases or normalizers' gains.

    Decay is torch's: ``weight_decay * p`` joins the gradient, as from a loss term ``weight_decay / 2 * sum(p^2)``.
    Frozen parameters are left out, shared ones counted once.
    Reference: the protocol of Rao and Sohl-Dickstein 2020, arXiv:2010.10687 (from Flax's examples of that year).

    Raises:
        ValueError: weight_decay is negative or not finite; the model has nothing to train.
    """
    if not 0.0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay must be zero or positive, got {weight_decay}.")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError(f"{type(model).__name__} has no parameter to train. Unfreeze some with requires_grad_(True).")
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def sgd(
    model: nn.Module, *, lr: float, momentum: float = 0.9, nesterov: bool = True, weight_decay: float = 0.0
) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum over `parameter_groups`.

    Args:
        model: its parameters are trained.
        lr: learning rate, per step.
        momentum: in [0, 1).
        nesterov: Nesterov's form; without momentum there is no difference.
        weight_decay: of parameters of more than one dimension.

    Raises:
        ValueError: a number out of range; the model has nothing to train.
    """
    if not 0.0 < lr < math.inf:
        raise ValueError(f"The learning rate must be positive and finite, got {lr}.")
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"momentum must lie in [0, 1), got {momentum}.")
    groups = parameter_groups(model, weight_decay)
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0.0)
