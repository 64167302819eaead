"""What each row computes, written once more, from its paper. Shares no code with `nn`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from normscope.trust.references import Given, Known

_MOMENTUM = 0.1  # of every row's default but batchrenorm's
_GROUPS = 2  # default of four channels of images: at least two in a group, or 16 where it has no positions


def _mean(z: Tensor, axes: tuple[int, ...]) -> Tensor:
    return z.mean(axes, keepdim=True)


def _var(z: Tensor, axes: tuple[int, ...], correction: int = 0) -> Tensor:
    return torch.var(z, axes, correction=correction, keepdim=True)


def _running(given: Given, statistic: Callable[[Tensor], Tensor], start: float) -> Tensor:
    """Exponential average of a statistic of the affine layer's output over the batches seen."""
    value = torch.full_like(statistic(given.affine(given.x)), start)
    for x in given.seen:
        value = (1 - _MOMENTUM) * value + _MOMENTUM * statistic(given.affine(x))
    return value


def _none(given: Given) -> Tensor:
    return given.affine(given.x)


def _batchnorm(given: Given) -> Tensor:
    if given.training:
        return _batchnorm_train(given)
    mean = _running(given, lambda z: _mean(z, given.batch), 0.0)
    variance = _running(given, lambda z: _var(z, given.batch, correction=1), 1.0)
    return given.scaled((given.affine(given.x) - mean) / (variance + given.eps).sqrt())


def _batchnorm_train(given: Given) -> Tensor:
    z = given.affine(given.x)
    return given.scaled((z - _mean(z, given.batch)) / (_var(z, given.batch) + given.eps).sqrt())


def _layernorm(given: Given) -> Tensor:
    z = given.affine(given.x)
    return given.scaled((z - _mean(z, given.layer)) / (_var(z, given.layer) + given.eps).sqrt())


def _weightnorm(given: Given) -> Tensor:
    g, v = (given.state[f"affine.parametrizations.weight.original{i}"] for i in (0, 1))
    direction = F.normalize(v.flatten(1), dim=1, eps=0.0).reshape(v.shape)
    return given.affine(given.x, g * direction)


def _bmlv(given: Given) -> Tensor:
    z = given.affine(given.x)
    mean = _mean(z, given.batch) if given.training else _running(given, lambda z: _mean(z, given.batch), 0.0)
    d = z - mean
    return given.scaled(d / (_var(d, given.layer) + given.eps).sqrt())


def _lmbv(given: Given) -> Tensor:
    def centered(z: Tensor) -> Tensor:
        return z - _mean(z, given.layer)

    d = centered(given.affine(given.x))
    variance = _var(d, given.batch)
    if not given.training:
        variance = _running(given, lambda z: _var(centered(z), given.batch, correction=1), 1.0)
    return given.scaled(d / (variance + given.eps).sqrt())


def _prelayernorm(given: Given) -> Tensor:
    z = given.affine(given.x - _mean(given.x, given.layer))
    return given.scaled(z / (_var(z, given.layer) + given.eps).sqrt())


def _rms_of_layer(given: Given) -> Tensor:
    z = given.affine(given.x)
    return given.scaled(z / (_mean(z**2, given.layer) + given.eps).sqrt())


def _bnl2(given: Given) -> Tensor:
    z = given.affine(given.x)
    norm: Tensor = torch.linalg.vector_norm(z, 2, given.batch, keepdim=True)
    return z / norm


def _lpnorm(given: Given) -> Tensor:
    z = given.affine(given.x)
    d = z - _mean(z, given.batch)
    if given.options["p"] == 2:
        return given.scaled(d / (_var(z, given.batch) + given.eps).sqrt())
    largest: Tensor = d.abs().amax(given.batch, keepdim=True)
    magnitude = largest if given.options["p"] == "inf" else _mean(d.abs(), given.batch)
    return given.scaled(d / (magnitude + given.eps))


def _grouped(given: Given, z: Tensor) -> Tensor:
    """Every group of channels by itself, one after the other."""
    groups = []
    for part in z.chunk(
        given.options["num_groups"] or (_GROUPS if given.ndim == 4 else 1), dim=2 if given.ndim == 3 else 1
    ):
        mean, variance = _mean(part, given.layer), _var(part, given.layer)
        groups.append((part - mean) / (variance + given.eps).sqrt())
    return given.scaled(torch.cat(groups, dim=2 if given.ndim == 3 else 1))


def _groupnorm(given: Given) -> Tensor:
    return _grouped(given, given.affine(given.x))


def _instancenorm(given: Given) -> Tensor:
    z = given.affine(given.x)
    return given.scaled((z - _mean(z, given.positions)) / (_var(z, given.positions) + given.eps).sqrt())


def _batchrenorm(given: Given) -> Tensor:
    """Ioffe 2017, algorithm 1, batch by batch."""
    o, rate = given.options, given.options["momentum"]
    mu, sigma = torch.zeros_like(given.affine(given.x)[:1]), torch.ones_like(given.affine(given.x)[:1])
    mu, sigma = _mean(mu, given.batch), _mean(sigma, given.batch)
    y = given.x
    for t, x in enumerate((*given.seen, given.x)):
        z = given.affine(x)
        mean, std = _mean(z, given.batch), (_var(z, given.batch) + given.eps).sqrt()
        r_share, d_share = (_ramp(t, o["start"], o[ramp]) for ramp in ("r_ramp", "d_ramp"))
        r_max, d_max = 1 + (o["r_max"] - 1) * r_share, o["d_max"] * d_share
        r, d = (std / sigma).clip(1 / r_max, r_max), ((mean - mu) / sigma).clip(-d_max, d_max)
        y = (z - mean) / std * r + d if given.training else (z - mu) / sigma
        mu, sigma = mu + rate * (mean - mu), sigma + rate * (std - sigma)
    return given.scaled(y)


def _ramp(t: int, start: int, length: int) -> float:
    return float(t >= start) if length == 0 else min(max((t - start) / length, 0.0), 1.0)


def _powernorm(given: Given) -> Tensor:
    """Shen et al. 2020, algorithm 2, forward: the running quadratic mean of the batches before."""
    quadratic = _running(given, lambda z: _mean(z**2, given.batch), 1.0)
    return given.scaled(given.affine(given.x) / (quadratic + given.eps).sqrt())


def _normprop(given: Given) -> Tensor:
    """Arpit et al. 2016: unit filters; what a ReLU does to the mean and the variance of unit Gaussians is undone."""
    v = given.state["affine.parametrizations.weight.original"]
    variance = (1 - 1 / math.pi) / 2
    mean = 1 / math.sqrt(2 * math.pi) / math.sqrt(variance)  # of ReLU(u / std), which is what the block before gives
    length = ((v**2).sum(tuple(range(1, v.ndim)), keepdim=True) + given.eps).sqrt()
    z = given.affine(given.x - mean, v / length)
    return given.scaled(z) / math.sqrt(variance)


def _frn(given: Given) -> Tensor:
    """Singh and Krishnan 2019, equations 1 to 3 and 9."""
    z = given.affine(given.x)
    quadratic = _mean(z**2, given.positions) if given.positions else z**2
    eps = given.eps + given.state.get("site.learned_eps", torch.zeros_like(z[:0].sum())).abs()
    y = given.scaled(z / (quadratic + eps).sqrt())
    return torch.maximum(y, given.per_channel("threshold", -math.inf))


def _dyt(given: Given) -> Tensor:
    return given.scaled(torch.tanh(given.state["site.alpha"] * given.affine(given.x)))


def _weightstandard(given: Given) -> Tensor:
    """Qiao et al. 2019: filters of mean 0 and variance 1 over their fan-in, then group norm."""
    v = given.state["affine.parametrizations.weight.original"]
    over = tuple(range(1, v.ndim))
    w = (v - _mean(v, over)) / (_var(v, over) + given.options["weight_eps"]).sqrt()
    if given.options["fan_in_scale"]:
        w = w / math.sqrt(v[0].numel())
    return _grouped(given, given.affine(given.x, w))


_READS = Known(()).reads
FORMULAS: Mapping[str, Known] = {
    "none": Known((_none,)),
    "batchnorm": Known((_batchnorm,)),
    "batchnorm_train": Known((_batchnorm_train,)),
    "layernorm": Known((_layernorm,)),
    "weightnorm": Known((_weightnorm,)),
    "bmlv": Known((_bmlv,)),
    "lmbv": Known((_lmbv,)),
    "prelayernorm": Known((_prelayernorm,)),
    "regnorm": Known((_rms_of_layer,)),
    "preregnorm": Known((_prelayernorm,)),
    "bnl2": Known((_bnl2,)),
    "lpnorm": Known((_lpnorm,), _READS | {"p"}, ({"p": 2}, {"p": "inf"})),
    "groupnorm": Known((_groupnorm,), _READS | {"num_groups"}, ({"num_groups": 1},)),
    "instancenorm": Known((_instancenorm,)),
    "rmsnorm": Known((_rms_of_layer,)),
    "batchrenorm": Known(
        (_batchrenorm,),
        _READS | {"derivative", "r_max", "d_max", "start", "r_ramp", "d_ramp", "momentum"},
        # Past its start, within what it may correct and beyond.
        ({"start": 0, "r_ramp": 0, "d_ramp": 0}, {"start": 1, "r_ramp": 9, "d_ramp": 9, "r_max": 1.5, "d_max": 0.5}),
    ),
    "powernorm": Known((_powernorm,), _READS | {"derivative", "backward_momentum"}),
    "normprop": Known((_normprop,), _READS | {"initial_gain"}),
    "frn": Known((_frn,), _READS | {"tlu", "learned_eps"}, ({"tlu": False}, {"learned_eps": True})),
    "dyt": Known((_dyt,), _READS | {"alpha"}),
    "weightstandard": Known(
        (_weightstandard,), _READS | {"weight_eps", "fan_in_scale", "num_groups"}, ({"fan_in_scale": True},)
    ),
}
