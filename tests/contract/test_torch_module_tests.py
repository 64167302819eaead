"""PyTorch's own module and operator tests as judges of the rows that are layers of torch.

`torch.testing` ships with torch: the inputs and constructor arguments of its module tests (ModuleInfo), the samples of
its operator tests (OpInfo), and reference functions for some. Every case that fits a site's layout runs against one.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import types
import unittest
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import normscope as ns

TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5}


class DoesNotFitError(Exception):
    """The case is none of the row's; the reason."""


@dataclass(frozen=True)
class Fitted:
    """A site that must do what torch's layer does, and how the layer's input becomes its own."""

    site: nn.Module
    view: Callable[[Tensor], Tensor] = lambda x: x


@pytest.fixture(scope="module")
def torch_tests() -> types.ModuleType:
    """The databases. They need `expecttest` for nothing but the name of a base class."""
    if importlib.util.find_spec("expecttest") is None:
        stand_in = types.ModuleType("expecttest")
        stand_in.TestCase = unittest.TestCase
        sys.modules["expecttest"] = stand_in
    frozen = torch.backends.flags_frozen()
    try:
        from torch.testing._internal import common_modules
    except ImportError as error:
        pytest.skip(f"this torch ships without its tests, or they need more: {error}")
    finally:  # importing them forbids this process to set any backend's flags, which the tests after these do
        torch.backends.disable_global_flags.__globals__["__allow_nonbracketed_mutation_flag"] = not frozen
    return common_modules


def row(name: str, *, bias: bool = True, **options: Any) -> ns.Normalizer:
    """The row, if the table has it and its options mean what torch's arguments do."""
    if name not in {row.name for row in ns.normalizers()}:
        pytest.skip(f"the table has no {name} yet")
    if not options["eps"] >= 0 or not 0 <= (options.get("momentum", 0) or 0) <= 1:
        raise DoesNotFitError("eps or momentum out of the row's range")
    made = ns.normalizer(name, **options)
    return made if bias else dataclasses.replace(made, elementwise_bias=False)


def batchnorm(x: Tensor, features: int, eps=1e-5, momentum=0.1, affine=True, tracked=True, *, bias=True) -> Fitted:
    evaluation = "running" if tracked else "batch"
    made = row("batchnorm", eps=eps, momentum=momentum, affine=affine, evaluation=evaluation, bias=bias)
    return Fitted(made.site(features, x.ndim, channel_dim=1, dtype=x.dtype))


def layer(name: str, x: Tensor, shape: list[int], eps: float, affine: bool, *, bias: bool) -> Fitted:
    """Layer and RMS norm over the trailing axes: tokens, or all of an image."""
    made = row(name, eps=eps, affine=affine, bias=bias)
    if len(shape) == 1:
        if x.ndim == 1:
            return Fitted(made.site(shape[0], 2, dtype=x.dtype), lambda x: x[None])
        return Fitted(made.site(shape[0], x.ndim, dtype=x.dtype))
    if len(shape) != x.ndim - 1:
        raise DoesNotFitError("normalizes the batch too, or several axes of several")
    return Fitted(made.site(shape[0], 4, dtype=x.dtype), lambda x: x.reshape(*x.shape, *[1] * (4 - x.ndim)))


def layernorm(x: Tensor, shape: list[int], eps=1e-5, elementwise_affine=True, *, bias=True) -> Fitted:
    return layer("layernorm", x, shape, eps, elementwise_affine, bias=bias)


def rmsnorm(x: Tensor, shape: list[int], eps=None, elementwise_affine=True) -> Fitted:
    return layer("rmsnorm", x, shape, torch.finfo(x.dtype).eps if eps is None else eps, elementwise_affine, bias=False)


def groupnorm(x: Tensor, groups: int, features: int, eps=1e-5, affine=True, *, bias=True) -> Fitted:
    made = row("groupnorm", num_groups=groups, eps=eps, affine=affine, bias=bias)
    if x.ndim == 3:  # positions on one axis; a site of three axes would take each as a token
        return Fitted(made.site(features, 4, dtype=x.dtype), lambda x: x.unsqueeze(-1))
    return Fitted(made.site(features, x.ndim, dtype=x.dtype))


def instancenorm(x: Tensor, features: int, eps=1e-5, _momentum=0.1, affine=False, _tracked=False, *, bias=True):
    made = row("instancenorm", eps=eps, affine=affine, bias=bias)
    batched = (lambda x: x) if x.shape[1] == features and x.ndim >= 3 else (lambda x: x[None])
    return Fitted(made.site(features, batched(x).ndim, channel_dim=1, dtype=x.dtype), batched)


FIT: dict[str, Callable[..., Fitted]] = {
    "BatchNorm1d": batchnorm,
    "BatchNorm2d": batchnorm,
    "LayerNorm": layernorm,
    "GroupNorm": groupnorm,
    "InstanceNorm1d": instancenorm,
    "InstanceNorm2d": instancenorm,
    "RMSNorm": rmsnorm,
}


def draw(like: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.dtype)


def assert_same(got: Tensor, want: Tensor) -> None:
    tolerance = TOLERANCE[want.dtype]
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def share_parameters(site: nn.Module, module: nn.Module) -> None:
    """Draw the site's parameters; give torch's layer the same, where it has one per element the channel's."""
    parameters = dict(module.named_parameters())
    assert parameters.keys() == dict(site.named_parameters()).keys()
    with torch.no_grad():
        for seed, (name, own) in enumerate(site.named_parameters()):
            own.add_(0.5 * draw(own, seed))
            theirs = parameters[name]
            theirs.copy_(own.reshape(-1, *[1] * (theirs.ndim - 1)))


def compare(site: nn.Module, fitted: Fitted, module: nn.Module, reference: Callable | None, x: Tensor) -> None:
    """Value, gradients by input and parameters, and running statistics."""
    leaves = [x.detach().clone().requires_grad_() for _ in range(2)]
    if reference is not None:
        got, want = site(fitted.view(x)).reshape(x.shape), reference(module, x)
        assert_same(got.float(), want.float())  # torch's reference of RMS norm computes in float32
    y, want = site(fitted.view(leaves[0])).reshape(x.shape), module(leaves[1])
    assert_same(y, want)
    cotangent = draw(want, 9)
    own = torch.autograd.grad(y, [leaves[0], *site.parameters()], cotangent)
    theirs = torch.autograd.grad(want, [leaves[1], *module.parameters()], cotangent)
    for got, expected in zip(own, theirs, strict=True):
        assert_same(got, expected if got.shape == expected.shape else expected.sum(tuple(range(1, expected.ndim))))
    if x.numel() > 0:  # of no example the site takes no statistics
        buffers = dict(site.named_buffers())
        for name, expected in module.named_buffers():
            if name in buffers:
                torch.testing.assert_close(buffers[name], expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", FIT)
def test_module_tests_of_torch_pass_with_a_site(name, dtype, torch_tests):
    (info,) = [info for info in torch_tests.module_db if info.name == f"nn.{name}"]
    ran, left_out = 0, []
    for training in (True, False):
        cases = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=training)
        for case in cases:
            arguments, options = case.constructor_input.args, dict(case.constructor_input.kwargs)
            (x,) = (x.detach() for x in case.forward_input.args)
            module = info.module_cls(*arguments, **options).to(dtype).train(training)
            tracked = name.startswith("Instance") and module.track_running_stats
            try:
                if tracked and not training:
                    raise DoesNotFitError("instancenorm keeps no running statistics")
                options.pop("elementwise_affine", None)
                fitted = FIT[name](x, *arguments, **options)
            except DoesNotFitError as reason:
                left_out.append(f"{case.desc}: {reason}")
                continue
            site = fitted.site.train(training)
            share_parameters(site, module)
            # Torch's reference functions are of a single example here, made for layers without running statistics.
            reference = None if name.startswith("Instance") else case.reference_fn
            compare(site, fitted, module, reference, x)
            ran += 1
    print(f"{name}: {ran} cases ran; left out: {left_out}")
    assert ran > len(left_out), left_out


def as_batchnorm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    if x.ndim < 2 or (running_mean is None and not training):
        raise DoesNotFitError("no channels, or no statistics")
    # In eval mode the momentum has no meaning, and torch's samples have some that no row takes.
    fitted = batchnorm(x, x.shape[1], eps, momentum if training else 0.1, weight is not None, running_mean is not None)
    with torch.no_grad():
        if running_mean is not None:
            fitted.site.running_mean.copy_(running_mean)
            fitted.site.running_var.copy_(running_var)
    fitted.site.train(training)
    return fitted, {"weight": weight, "bias": bias}, (1, -1)


def as_layernorm(x, shape, weight=None, bias=None, eps=1e-5):
    return layernorm(x, shape, eps, False), {"weight": weight, "bias": bias}, shape


def as_rmsnorm(x, shape, weight=None, eps=None):
    return rmsnorm(x, shape, eps, False), {"weight": weight, "bias": None}, shape


def as_groupnorm(x, groups, weight=None, bias=None, eps=1e-5):
    return groupnorm(x, groups, x.shape[1], eps, False), {"weight": weight, "bias": bias}, (1, -1)


def as_instancenorm(x, weight=None, bias=None, eps=1e-5, use_input_stats=True, **_running):
    if not use_input_stats:
        raise DoesNotFitError("instancenorm keeps no running statistics")
    return instancenorm(x, x.shape[1], eps), {"weight": weight, "bias": bias}, (1, -1)


FIT_SAMPLES = {
    "batch_norm": as_batchnorm,
    "layer_norm": as_layernorm,
    "rms_norm": as_rmsnorm,
    "group_norm": as_groupnorm,
    "instance_norm": as_instancenorm,
}


def affine(y: Tensor, parameters: dict[str, Tensor | None], shape: Any) -> Tensor:
    """The sample's weight and bias, which torch may have per element where a site has them per channel."""
    view = [*shape, *[1] * (y.ndim - 2)] if tuple(shape) == (1, -1) else list(shape)
    weight, bias = parameters["weight"], parameters["bias"]
    y = y if weight is None else y * weight.reshape(view)
    return y if bias is None else y + bias.reshape(view)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", FIT_SAMPLES)
def test_operator_tests_of_torch_pass_with_a_site(name, dtype, torch_tests):
    from torch.testing._internal.common_methods_invocations import op_db

    info = next(op for op in op_db if op.name == f"nn.functional.{name}")
    ran, left_out = 0, []
    for sample in info.sample_inputs("cpu", dtype, requires_grad=True):
        x = sample.input.detach()
        try:
            fitted, parameters, shape = FIT_SAMPLES[name](x, *sample.args, **sample.kwargs)
        except DoesNotFitError as reason:
            left_out.append(f"{tuple(x.shape)}: {reason}")
            continue
        if name == "batch_norm" and parameters["weight"] is not None:
            with torch.no_grad():
                fitted.site.weight.fill_(1.0)  # torch's own are applied below
        leaf = x.clone().requires_grad_()
        y = affine(fitted.site(fitted.view(leaf)).reshape(x.shape), parameters, shape)
        running = {key: value.detach().clone() for key, value in sample.kwargs.items() if key.startswith("running")}
        arguments = [
            value.detach().clone() if name == "batch_norm" and i < 2 and value is not None else value
            for i, value in enumerate(sample.args)
        ]
        want = info.op(sample.input, *arguments, **(sample.kwargs | running))
        assert_same(y, want)
        if info.ref is not None:
            plain = sample.numpy()
            assert_same(y, torch.as_tensor(info.ref(plain.input, *plain.args, **plain.kwargs), dtype=dtype))
        cotangent = draw(want, 9)
        leaves = [p for p in parameters.values() if p is not None and p.requires_grad]
        own = torch.autograd.grad(y, [leaf, *leaves], cotangent)
        for got, expected in zip(own, torch.autograd.grad(want, [sample.input, *leaves], cotangent), strict=True):
            assert_same(got, expected)
        ran += 1
    print(f"{name}: {ran} samples ran; left out: {left_out}")
    assert ran > 0, left_out
