"""Where a row's two parts go: before or after its affine layers (the order), and which row each affine layer gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from torch import nn

from normscope.nn.convert.choice import RowLike, places
from normscope.nn.convert.graph import Graph, Node, consumers, is_readout, reaches_output, sources

Order = Literal["affine_norm", "norm_affine"]


def norms_before_affine(
    graph: Graph, norms: Iterable[nn.Module], affines: frozenset[nn.Module]
) -> frozenset[nn.Module]:
    """Norms that stand before their affine layers, as in pre-norm transformers: order "norm_affine".

    Such a norm reads no affine layer's output directly, all that takes its output are affine layers (`affines`), none
    of them the readout, and those layers read such norms alone. "Directly" looks through what only moves values.
    The readout keeps both operations before the logits, as the source has it.
    Source: "Is Batch Norm unique?", section 5.4.
    """
    found = {norm for norm in norms if _stands_before(graph, norm, affines)}
    while True:  # a layer that also reads something else has one form for all its inputs
        wrong = {norm for norm in found if not all(_reads_only(graph, layer, found) for layer in _fed(graph, norm))}
        if not wrong:
            return frozenset(found)
        found -= wrong


def _stands_before(graph: Graph, norm: nn.Module, affines: frozenset[nn.Module]) -> bool:
    calls = graph.of(norm)
    for call in calls:
        taken = consumers(call)
        if not taken or reaches_output(call) or any(source.kind == "affine" for source in sources(call)):
            return False
        if any(c.kind != "affine" or c.module not in affines or is_readout(c) for c in taken):
            return False
    return bool(calls)


def _fed(graph: Graph, norm: nn.Module) -> set[nn.Module]:
    return {c.module for call in graph.of(norm) for c in consumers(call) if c.module is not None}


def _reads_only(graph: Graph, layer: nn.Module, norms: set[nn.Module]) -> bool:
    return all(source.module in norms for call in graph.of(layer) for source in sources(call))


def row_of_affine(
    graph: Graph, layer: nn.Module, rows: Mapping[nn.Module, RowLike | None], before: frozenset[nn.Module]
) -> tuple[RowLike | None, Order]:
    """The row that an affine layer is given, and its order.

    That of a norm which stands before it (order "norm_affine"); else of a norm that its output feeds directly; else of
    the nearest norm upstream, or downstream. None where that norm is left as it is, or its row leaves layers alone.
    """
    calls = graph.of(layer)
    for call in calls:
        for source in sources(call):
            if source.module in before:
                return rows[source.module], "norm_affine"
    direct = [c for call in calls for c in consumers(call)]
    searches: tuple[Callable[[], list[Node]], ...] = (
        lambda: direct,
        lambda: _nearest(calls, lambda n: n.parents),
        lambda: _nearest(calls, lambda n: n.children),
    )
    for search in searches:
        met = [node.module for node in search() if node.kind == "norm" and node.module in rows]
        if met:
            row = next((rows[m] for m in met if m is not None and rows[m] is not None), None)
            return (row, "affine_norm") if row is not None and places(row) else (None, "affine_norm")
    everywhere = list(rows.values())
    row = everywhere[0] if everywhere and all(other == everywhere[0] for other in everywhere) else None
    return (row, "affine_norm") if row is not None and places(row) else (None, "affine_norm")


def _nearest(calls: Iterable[Node], onward: Callable[[Node], Iterable[Node]]) -> list[Node]:
    """The first norms met on every way from the calls."""
    pending = [n for call in calls for n in onward(call)]
    seen, found = set(pending), []
    while pending:
        node = pending.pop(0)
        if node.kind == "norm":
            found.append(node)
            continue
        for following in onward(node):
            if following not in seen:
                seen.add(following)
                pending.append(following)
    return found
