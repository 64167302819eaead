"""What happened in one run of a model, as a graph: which call's output another call took."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from normscope.nn.convert.operations import JOINS, MOVES, POOLS

Kind = Literal["input", "operation", "norm", "affine", "function"]


@dataclass(eq=False, slots=True)
class Node:
    """One call: of a torch function, or of a norm or affine module as a whole."""

    kind: Kind
    name: str  # of the function
    parents: tuple[Node, ...]
    shape: tuple[int, ...]  # of the output
    module: nn.Module | None = None  # the norm or affine module
    given: tuple[int, ...] = ()  # the shape of the first tensor it took
    children: list[Node] = field(default_factory=list)
    root_output: bool = False  # it is among the outputs of the model
    parts: list[tuple[tuple[int, ...], Node]] = field(default_factory=list)  # subsets of its features, and their way on
    used_whole: bool = False  # an operation that is no move took all its features
    number: int = 0  # in the order of the calls

    @property
    def moves(self) -> bool:
        """Whether it only hands values on."""
        return self.kind == "operation" and self.name in MOVES


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Graph:
    """The calls of one or more runs, in order."""

    calls: tuple[Node, ...]  # of norm and affine modules
    products: tuple[Node, ...]
    functions: tuple[tuple[str, str], ...]  # (module that made it, function): normalizing or affine without a module
    bypassed: dict[nn.Module, str]  # affine modules whose weight was used without calling them, and by which function
    masks: tuple[tuple[str, str], ...]  # (module, argument) that got a padding mask
    called: frozenset[nn.Module]

    def of(self, module: nn.Module) -> tuple[Node, ...]:
        """The calls of one module."""
        return tuple(call for call in self.calls if call.module is module)


def sources(node: Node) -> tuple[Node, ...]:
    """Where the inputs of `node` were computed, looking through what only moves values."""
    return tuple(dict.fromkeys(_walk(node.parents, lambda n: n.parents)))


def consumers(node: Node) -> tuple[Node, ...]:
    """The calls that take the output of `node`, looking through what only moves values."""
    return tuple(dict.fromkeys(_walk(node.children, lambda n: n.children)))


def reaches_output(node: Node) -> bool:
    """Whether the output of `node` leaves the model as it is, or moved."""
    pending, seen = [node], {node}
    while pending:
        current = pending.pop()
        if current.root_output:
            return True
        for child in current.children:
            if child.moves and child not in seen:
                seen.add(child)
                pending.append(child)
    return False


def is_readout(node: Node) -> bool:
    """Whether no norm and no affine layer follows: its outputs leave the model, squashed or averaged or as they are."""
    return all(following.kind == "operation" for following in _onward(node))


def _walk(start: Iterable[Node], onward: Callable[[Node], Iterable[Node]]) -> Iterable[Node]:
    pending, seen = list(start), set(start)
    while pending:
        node = pending.pop(0)
        if not node.moves:
            yield node
            continue
        for following in onward(node):
            if following not in seen:
                seen.add(following)
                pending.append(following)


def projections(node: Node, size: int) -> tuple[tuple[int, ...], ...]:
    """The projections that one affine call holds side by side: how its `size` features are taken apart; () if not."""
    parts = dict(node.parts)
    features = sorted(feature for group in parts for feature in group)
    if node.used_whole or len(parts) < 2 or features != list(range(size)):
        return ()
    onward = [_onward(part) for part in parts.values()]
    for index, one in enumerate(onward):
        for other in onward[:index]:
            meeting = min((n for n in one & other), key=lambda n: n.number, default=None)
            if meeting is not None and meeting.name in JOINS:
                return ()  # halves of a rotary embedding, which are one projection again
    return tuple(parts)


def _onward(node: Node) -> set[Node]:
    """What is computed from `node` before the next norm or affine layer."""
    pending, seen = [node], {node}
    while pending:
        for child in pending.pop().children:
            if child not in seen:
                seen.add(child)
                if child.kind == "operation":
                    pending.append(child)
    return seen - {node}


def gates(graph: Graph) -> frozenset[nn.Module]:
    """Affine modules of squeeze-and-excite gates: a globally pooled tensor goes in, and multiplies what it came from.

    Reference: Hu, Shen and Sun 2018, arXiv:1709.01507.
    """
    found: set[nn.Module] = set()
    for product in graph.products:
        if len(product.parents) == 2:
            for gate, gated in (product.parents, product.parents[::-1]):
                found |= _gate(gate, gated)
    return frozenset(found)


def _gate(gate: Node, gated: Node) -> set[nn.Module]:
    """Affine modules between the pool and `gate`, where the pool reads `gated`, or what `gated` was moved from."""
    origin = _origin(gated)
    modules: set[nn.Module] = set()
    node = gate
    for _ in range(40):
        if node.kind == "operation" and node.name in POOLS and node.parents and _pools_positions(node):
            return modules if _origin(node.parents[0]) is origin else set()
        if node.kind == "affine" and node.module is not None:
            modules.add(node.module)
        if len(node.parents) != 1:
            break
        node = node.parents[0]
    return set()


def _origin(node: Node) -> Node:
    while node.moves and node.parents:
        node = node.parents[0]
    return node


def _pools_positions(node: Node) -> bool:
    shape, size = node.parents[0].shape, 1
    for length in node.shape:
        size *= length
    return len(shape) > 2 and size in (shape[0] * shape[1], shape[0] * shape[-1])
