"""Badges on values in float64: the reference, the memory format, the state dict, and evaluation."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from normscope.nn import normalizer, normalizers
from normscope.trust.bench import Bench
from normscope.trust.outcome import Badge, Finding, Outcome, failed, inapplicable, judged, not_run
from normscope.trust.references import Given, Reference
from normscope.trust.specimen import Layout, Row, block, draw, layouts_taken

_BOUND = 1e-12  # sums of a few dozen float64 numbers, in another order
# Another memory format is another order of sums; a gradient amplifies their rounding by up to 1 / sqrt(eps of the row).
_ROUNDINGS = 1e4
_BATCHES_SEEN = 2


def distance(got: Tensor, want: Tensor) -> float:
    """The largest difference, relative to the largest magnitude where that is above 1."""
    if got.numel() == 0 or torch.equal(got, want):
        return 0.0
    return float((got - want).abs().max() / want.abs().max().clamp(min=1.0))


def trained(row: Row, layout: Layout, bench: Bench) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A block after some train-mode forward passes, and what it has seen."""
    module = block(row, layout, device=bench.device)
    seen = tuple(
        draw(layout.into, seed, device=bench.device, spread=1.5, mean=0.3) for seed in range(1, 1 + _BATCHES_SEEN)
    )
    with torch.no_grad():
        for x in seen:
            module(x)
    return module, seen


def _equals_reference(row: Row, bench: Bench) -> Outcome:
    known = bench.references.get(row.name)
    if known is None:
        return not_run(f"no independent formula of {row.name} is known here")
    own = getattr(row, "options", {})
    default: Any = next((other for other in normalizers() if other.name == row.name), row)
    if changed := [name for name in own if name not in known.reads and own[name] != default.options.get(name)]:
        return not_run(f"the formula known here is of the row's default options, not of another {', '.join(changed)}")
    variants = [normalizer(row.name, **options) for options in known.variants] if row == default and own else []

    def findings() -> Iterator[Finding]:
        for variant in (row, *variants):
            for layout in layouts_taken(variant, device=bench.device):
                for training in (True, False):
                    for formula in known.formulas:
                        yield _beside(formula, variant, layout, bench, training=training)

    return judged(findings(), _BOUND)


def _beside(formula: Reference, row: Row, layout: Layout, bench: Bench, *, training: bool) -> Finding:
    module, seen = trained(row, layout, bench)
    x = draw(layout.into, 7, device=bench.device)
    options = {"eps": getattr(row, "eps", 0.0)} | dict(getattr(row, "options", {}))
    state = {name: value.detach() for name, value in module.state_dict().items()}
    given = Given(state=state, seen=seen, x=x, training=training, options=options)
    with torch.no_grad():
        value = distance(module.train(training)(x), formula(given))
    return Finding(value, f"{layout.name}, {'train' if training else 'eval'} mode")


def _keeps_channels_last(row: Row, bench: Bench) -> Outcome:
    layout = next((layout for layout in layouts_taken(row, device=bench.device) if layout.ndim == 4), None)
    if layout is None:
        return inapplicable("it takes no (N, C, H, W)")

    def findings() -> Iterator[Finding]:
        for dtype in (torch.float64, torch.float32):
            x = draw(layout.into, 7, device=bench.device, dtype=dtype)
            results = []
            for memory_format in (torch.contiguous_format, torch.channels_last):
                module = block(row, layout, device=bench.device, dtype=dtype)
                leaf = x.clone(memory_format=memory_format).requires_grad_()
                y = module(leaf)
                results.append((y.detach(), *torch.autograd.grad(y.sin().sum(), leaf)))
            if not results[1][0].is_contiguous(memory_format=torch.channels_last):
                raise _FormatLostError
            for what, got, want in zip(("value", "gradient"), results[1], results[0], strict=True):
                # In units of the dtype's own rounding, so that one bound serves both.
                yield Finding(distance(got, want) / torch.finfo(dtype).eps, f"{what}, {dtype}")

    try:
        return judged(findings(), _ROUNDINGS)
    except _FormatLostError:
        return failed("a channels_last input gives an output in another memory format")


class _FormatLostError(Exception):
    """The output is not channels_last."""


def _state_dict_round_trip(row: Row, bench: Bench) -> Outcome:
    def findings() -> Iterator[Finding]:
        for layout in layouts_taken(row, device=bench.device):
            module, _ = trained(row, layout, bench)
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.mul_(1.25)  # no longer what a new block starts with
            file = io.BytesIO()
            torch.save(module.state_dict(), file)
            file.seek(0)
            other = block(row, layout, device=bench.device)
            other.load_state_dict(torch.load(file, weights_only=True), strict=True)
            x = draw(layout.into, 7, device=bench.device)
            with torch.no_grad():
                for training in (False, True, False):  # eval again, after both have taken the same step
                    value = distance(other.train(training)(x), module.train(training)(x))
                    yield Finding(value, f"{layout.name}, {'train' if training else 'eval'} mode")

    return judged(findings(), 0.0)


def _train_equals_eval(row: Row, bench: Bench) -> Outcome:
    if getattr(row, "evaluation", "running" if row.couples_batch else "batch") == "running":
        return inapplicable("its evaluation uses running statistics")

    def findings() -> Iterator[Finding]:
        for layout in layouts_taken(row, device=bench.device):
            module, _ = trained(row, layout, bench)
            x = draw(layout.into, 7, device=bench.device)
            with torch.no_grad():
                yield Finding(distance(copy.deepcopy(module)(x), module.eval()(x)), layout.name)

    return judged(findings(), _BOUND)


REFERENCE = Badge(
    name="reference",
    says="equals an independent formula in float64, in train and in eval mode after training, largest difference",
    check=_equals_reference,
)
CHANNELS_LAST = Badge(
    name="channels_last",
    says="keeps channels_last and gives the values and gradients of a contiguous input, in units of rounding",
    check=_keeps_channels_last,
)
STATE_DICT = Badge(
    name="state_dict",
    says="a block loaded from a saved state dict goes on bit for bit as the one saved",
    check=_state_dict_round_trip,
)
EVAL = Badge(
    name="train=eval",
    says="the same in train and eval mode, for rows that have no running statistics, largest difference",
    check=_train_equals_eval,
)
