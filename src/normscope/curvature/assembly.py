"""From a model, a loss and batches to the parts an operator sums over, and the report of how."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final, get_args

import torch
from torch import Tensor, nn

from normscope.curvature.batches import Weight, chunks, listed, num_examples
from normscope.curvature.check import Check
from normscope.curvature.choice import QUICK_SECONDS, Exactness, seconds_of
from normscope.curvature.coupling import coupling_layers, surrogate_layers
from normscope.curvature.distributed import Group, unwrapped
from normscope.curvature.machinery import MACHINERIES, Kind, Machinery, MachineryName
from normscope.curvature.memory import available_bytes
from normscope.curvature.parameters import Layout, Selection
from normscope.curvature.products import Product
from normscope.curvature.risk import Regularizer, Risk, gradient, loss
from normscope.isolation import Mode, copies
from normscope.subject import Batch, Subject

MachineryChoice: TypeAlias = Literal["auto"] | MachineryName

_SHARE_OF_FREE_MEMORY = 0.8


@final
@dataclass(frozen=True, kw_only=True)
class Options:
    """How the curvature is taken.

    Attributes:
        mode: "train" (normalization by the batch's statistics) or "eval" (by running ones).
        weight: of a batch; None for its number of examples. Of use where not all count, as under a masked loss.
        chunking: compute batches in parts of at most this many examples; refused where the model couples examples.
        dtype: of products, torch.float32 or torch.float64; None for the parameters' own, at least float32.
        regularizer: added to the loss, a function of the model; None for the loss alone.
        forward: `forward(model, inputs)`, where the model is not called on its inputs as they are.
        machinery: "auto", or a row of `MACHINERIES`.
        memory_limit: bytes that preparing and products may take; None for most of what is free.

    Raises:
        ValueError: a value is not one of these.
    """

    mode: Mode = "train"
    weight: Weight | None = None
    chunking: int | None = None
    dtype: torch.dtype | None = None
    regularizer: Regularizer | None = None
    forward: Callable[[nn.Module, Any], Any] | None = None
    machinery: MachineryChoice = "auto"
    memory_limit: int | None = None

    def __post_init__(self) -> None:
        _one_of("mode", self.mode, get_args(Mode))
        _one_of("machinery", self.machinery, ("auto", *MACHINERIES))
        _one_of("dtype", self.dtype, (None, torch.float32, torch.float64))
        for name in ("chunking", "memory_limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is at least 1, but {value} arrived. Leave it out for no limit.")

    @property
    def candidates(self) -> list[Machinery]:
        """The machineries that may be used, in the order of preference."""
        return [row for row in MACHINERIES.values() if self.machinery in ("auto", row.name)]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorReport:
    """What an operator is the curvature of, and how its products are computed.

    Attributes:
        kind: "hessian" or "ggn".
        mode: whether normalization used the batch's statistics ("train") or running ones ("eval").
        machinery: how products are computed; `check` says how exact that was found to be, `refused` why others were
            not taken.
        num_examples, num_batches, chunking: what the loss is a mean over; batches after chunking, on this process.
        num_transient: batches whose products compute the gradient anew each time, because memory did not suffice.
        regularized: whether a regularizer was added to the loss.
        seconds: time of a product of the first batch, times the number of batches.
        nbytes: memory held between products, for machinery "linearized".
    """

    kind: str
    mode: Mode
    machinery: MachineryName
    num_parameters: int
    num_examples: int
    num_batches: int
    num_transient: int
    chunking: int | None
    dtype: torch.dtype
    regularized: bool
    seconds: float
    nbytes: int
    check: Check
    refused: dict[MachineryName, str]


@final
@dataclass(frozen=True, slots=True)
class Part:
    """The product of one batch and its share of the mean."""

    share: float
    product: Product


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """All an operator needs."""

    layout: Layout
    dtype: torch.dtype
    device: torch.device
    parts: tuple[Part, ...]
    group: Group
    report: OperatorReport


@torch.inference_mode(mode=False)  # which turns gradients on, too
def assemble(
    kind: Kind,
    model: nn.Module,
    loss_fn: Callable[[Any, Any], Tensor],
    batches: Iterable[Batch] | Batch,
    params: Selection,
    options: Options,
) -> Assembled:
    """Check everything, choose the machinery, and prepare it for every batch. See `CurvatureOperator`."""
    model, group = unwrapped(model)
    layout = Layout.of(model, params)
    whole = copies(listed(batches))
    first = next(p for name, p in model.named_parameters() if name == layout.names[0])
    dtype = options.dtype or torch.promote_types(first.dtype, torch.float32)
    subject = Subject(model, loss_fn, whole[0], forward=options.forward)
    risk = Risk.of(subject, layout, mode=options.mode, dtype=dtype, regularizer=options.regularizer)
    _refuse_surrogates(risk)
    risks = _chunked(risk, whole, options.chunking)
    exact = Exactness(kind, risks[0], options.candidates)
    budget = options.memory_limit or _SHARE_OF_FREE_MEMORY * available_bytes(first.device)
    _refuse_what_does_not_fit(risks, exact, options.candidates, budget)
    for each in risks:
        gradient(each)
    chosen, products, seconds = _prepare(kind, risks, exact, options.candidates, budget)
    check = exact.check(chosen)
    assert check is not None  # it would not have been chosen
    weigh = options.weight or num_examples
    weights = [float(weigh(each.batch)) for each in risks]
    total = group.total(sum(weights))
    report = OperatorReport(
        kind=kind.name,
        mode=options.mode,
        machinery=chosen.name,
        num_parameters=layout.size,
        num_examples=sum(num_examples(each.batch) for each in risks),
        num_batches=len(risks),
        num_transient=sum(not kept for kept, _ in products) if chosen.held else 0,
        chunking=options.chunking,
        dtype=dtype,
        regularized=options.regularizer is not None,
        seconds=seconds * len(risks),
        nbytes=sum(getattr(product, "nbytes", 0) for _, product in products),
        check=check,
        refused=exact.refused,
    )
    return Assembled(
        layout=layout,
        dtype=dtype,
        device=first.device,
        parts=tuple(Part(weight / total, product) for weight, (_, product) in zip(weights, products, strict=True)),
        group=group,
        report=report,
    )


def _refuse_surrogates(risk: Risk) -> None:
    layers = surrogate_layers(risk)
    if layers:
        more = f" and {len(layers) - 5} more" if len(layers) > 5 else ""
        named = ", ".join(f"{name or 'the model itself'} ({title})" for name, title in list(layers.items())[:5])
        raise ValueError(
            f"Second-order products differentiate the forward pass, but the backward pass of {named}{more} is a "
            "surrogate for its derivative; make the normalizer with derivative='true', or use mode='eval'."
        )


def _chunked(risk: Risk, whole: list[Batch], chunking: int | None) -> list[Risk]:
    """A risk for each batch, or for each chunk of each batch where that is the same function."""
    if chunking is None:
        return [risk.at(batch) for batch in whole]
    layers = coupling_layers(risk)
    if layers:
        more = f" and {len(layers) - 5} more" if len(layers) > 5 else ""
        named = ", ".join(name or "the model itself" for name in layers[:5])
        raise ValueError(
            f"chunking needs examples that do not depend on each other, but {named}{more} couples the batch: split, it "
            "would be another function. Leave chunking out, pass fewer examples, or use mode='eval'."
        )
    found = [[risk.at(part) for part in chunks(batch, chunking)] for batch in whole]
    for batch, risks in zip(whole, found, strict=True):
        _check_mean(risk.at(batch), risks)
    return [each for risks in found for each in risks]


def _check_mean(whole: Risk, risks: list[Risk]) -> None:
    count = num_examples(whole.batch)
    expected, mean = loss(whole), sum(num_examples(each.batch) / count * loss(each) for each in risks)
    if abs(expected - mean) > 1e-4 * max(abs(expected), abs(mean)):
        raise ValueError(
            f"chunking needs a loss that is a mean over examples, but it is {expected:.6g} on the batch and {mean:.6g} "
            "as the mean over chunks. Use a mean over examples, or leave chunking out."
        )


def _refuse_what_does_not_fit(risks: list[Risk], exact: Exactness, candidates: list[Machinery], budget: float) -> None:
    way = exact.first().way
    least = min(machinery.peak for machinery in candidates if machinery.way == way)
    largest = max(risks, key=lambda each: num_examples(each.batch))
    count = num_examples(largest.batch)
    needed = least * exact.graph_bytes * count
    if needed <= budget:
        return
    fits = int(budget / (least * exact.graph_bytes))
    rule = f"A product on {count} examples takes about {needed / 1e9:.1f} GB, but {budget / 1e9:.1f} GB can be had."
    if fits < 1:
        raise ValueError(f"{rule} Not one example fits: use a machine with more memory, or smaller inputs.")
    remedy = f"pass {fits} examples" if coupling_layers(largest) else f"use chunking={fits}"
    raise ValueError(f"{rule} To fit, {remedy}.")


def _prepare(
    kind: Kind, risks: list[Risk], exact: Exactness, candidates: list[Machinery], budget: float
) -> tuple[Machinery, list[tuple[bool, Product]], float]:
    """The chosen machinery, for each batch whether its product keeps memory, and the product, and the seconds."""
    graphs = [exact.graph_bytes * num_examples(each.batch) for each in risks]
    fitting = [machinery for machinery in candidates if machinery.peak * graphs[0] <= budget]
    chosen, product, seconds = _fastest(kind, risks[0], exact, fitting)
    transient = next((m for m in MACHINERIES.values() if m.way == chosen.way and not m.held), chosen)
    products, held = [(True, product)], chosen.held * graphs[0]
    for each, graph in zip(risks[1:], graphs[1:], strict=True):
        keep = held + chosen.peak * graph <= budget
        products.append((keep, (chosen if keep else transient).prepare(kind, each)))
        held += chosen.held * graph if keep else 0.0
    return chosen, products, seconds


def _fastest(kind: Kind, risk: Risk, exact: Exactness, fitting: list[Machinery]) -> tuple[Machinery, Product, float]:
    """The first of the right machineries that fit, or where products are quick the quickest of all."""
    best: tuple[Machinery, Product, float] | None = None
    for machinery in fitting:
        if exact.check(machinery) is None:
            continue
        product = machinery.prepare(kind, risk)
        seconds = seconds_of(product, risk)
        if best is None or seconds < best[2]:
            best = machinery, product, seconds
        if best[2] > QUICK_SECONDS:
            break
    assert best is not None  # what does not fit was refused
    return best


def _one_of(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is one of {', '.join(map(str, choices))}, but {value!r} arrived. Pick one of these.")
