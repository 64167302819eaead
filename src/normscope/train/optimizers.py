"""Optimizers as the papers set them: one function a row, and how a row is found by its name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from normscope.train.table import check_options, look_up


def optimizer(model: nn.Module, name: str, lr: float, **options: object) -> torch.optim.Optimizer:
    """An optimizer of the model's parameters by its name, with the options of that row.

    Args:
        model: its parameters are trained.
        name: "sgd", "adam" or "adamw".
        lr: learning rate, per step; a schedule multiplies it.
        **options: the keyword arguments of the function of that name in this module, without `model` and `lr`.

    Raises:
        ValueError: an unknown name or option, which names the close ones; a number out of range; the model has
            nothing to train.
    """
    row = look_up("optimizer", _TABLE, name)
    check_options("optimizer", _TABLE, name, options, given=("model", "lr"))
    return row(model, lr=lr, **options)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on parameters of more than one dimension only: kernels, and not biases or normalizers' gains.

    What decay does is the optimizer's: SGD adds ``weight_decay * p`` to the gradient, as from a loss term
    ``weight_decay / 2 * sum(p^2)``; AdamW takes ``lr * weight_decay * p`` off the parameter, apart from the gradient.
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
    _check_rate(lr)
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"momentum must lie in [0, 1), got {momentum}.")
    groups = parameter_groups(model, weight_decay)
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0.0)


def adam(
    model: nn.Module, *, lr: float, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
) -> torch.optim.Adam:
    r"""Adam, without weight decay: added to its gradient it would be rescaled with it, so `adamw` has it instead.

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
        p \leftarrow p - \mathrm{lr} \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    Reference: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.

    Args:
        model: its parameters are trained.
        lr: learning rate, per step.
        beta1: of the mean of gradients; in [0, 1).
        beta2: of the mean of squared gradients; in [0, 1).
        eps: positive.

    Raises:
        ValueError: a number out of range; the model has nothing to train.
    """
    _check_adam(lr, beta1, beta2, eps)
    return torch.optim.Adam(parameter_groups(model, 0.0), lr=lr, betas=(beta1, beta2), eps=eps)


def adamw(
    model: nn.Module,
    *,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> torch.optim.AdamW:
    r"""Adam with decoupled weight decay over `parameter_groups`.

    .. math:: p \leftarrow p - \mathrm{lr} \, \lambda p, \text{ then as Adam}

    with the rate of the step, schedule included, so that decay follows the schedule too.
    Reference: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2. Flax's lm1b example of 2020 has beta2 0.98,
    eps 1e-9 and a decay of 0.1, which there reached biases and gains too.

    Args:
        model: its parameters are trained.
        lr: learning rate, per step.
        beta1: of the mean of gradients; in [0, 1).
        beta2: of the mean of squared gradients; in [0, 1).
        eps: positive.
        weight_decay: lambda, of parameters of more than one dimension.

    Raises:
        ValueError: a number out of range; the model has nothing to train.
    """
    _check_adam(lr, beta1, beta2, eps)
    return torch.optim.AdamW(parameter_groups(model, weight_decay), lr=lr, betas=(beta1, beta2), eps=eps)


_TABLE: dict[str, Callable[..., torch.optim.Optimizer]] = {"sgd": sgd, "adam": adam, "adamw": adamw}


def _check_rate(lr: float) -> None:
    if not 0.0 < lr < math.inf:
        raise ValueError(f"The learning rate must be positive and finite, got {lr}.")


def _check_adam(lr: float, beta1: float, beta2: float, eps: float) -> None:
    _check_rate(lr)
    for name, beta in (("beta1", beta1), ("beta2", beta2)):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"{name} must lie in [0, 1), got {beta}.")
    if not 0.0 < eps < math.inf:
        raise ValueError(f"eps must be positive and finite, got {eps}.")
