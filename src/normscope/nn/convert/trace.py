"""One run of the example inputs, watched: which norm and affine modules ran, on what, and what took their outputs."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakIdKeyDictionary

from normscope.nn.convert.graph import Graph, Node
from normscope.nn.convert.operations import AFFINES, NORMS, PRODUCTS, STAYS
from normscope.nn.convert.running import arguments, isolated, one_line
from normscope.nn.convert.snapshot import Snapshot


class Watch(TorchFunctionMode):
    """Builds the graph of the calls made while it is active."""

    def __init__(self, model: nn.Module, kinds: Mapping[nn.Module, str]) -> None:
        super().__init__()
        self.nodes: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.kinds = kinds
        self.names = {module: name for name, module in model.named_modules()}
        self.stack: list[str] = []
        self.inside = ""  # of which kind the last of them is
        self.count = 0  # of the nodes
        self.whole = 0  # inside how many modules that count as one call
        self.calls: list[Node] = []
        self.products: list[Node] = []
        self.functions: dict[tuple[str, str], None] = {}
        self.bypassed: dict[nn.Module, str] = {}
        self.masks: dict[tuple[str, str], None] = {}
        self.called: set[nn.Module] = set()
        self.parameters = {id(p) for p in model.parameters()}
        self.features: WeakIdKeyDictionary = WeakIdKeyDictionary()  # tensor -> affine call, and which feature is where
        self.owners = {
            id(p): module
            for module, kind in kinds.items()
            if kind == "affine"
            for p in module.parameters(recurse=False)
        }

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if getattr(func, "__name__", "") == "__iter__":
            output = iter(parts := tuple(output))
            self.note(torch.unbind, (args, kwargs), parts)
            return output
        if self.whole == 0:
            self.note(func, (args, kwargs), output)
        elif self.inside == "affine" and (name := _name(func)) in NORMS:
            self.functions.setdefault((self.stack[-1], name))
        return output

    def note(self, func: Callable[..., Any], inputs: Any, output: Any) -> None:
        """Add one function call to the graph."""
        tensors = _tensors(output)
        if not tensors:
            return
        name = _name(func)
        given = _tensors(inputs)
        within = self.stack[-1] if self.stack else ""
        bare = [t for t in given if id(t) in self.parameters]
        kind = "operation"
        if name in NORMS or (name in AFFINES and bare):
            kind = "function"
            self.functions.setdefault((within, name))
            for t in bare:
                if id(t) in self.owners:
                    self.bypassed.setdefault(self.owners[id(t)], name)
        node = self.node(kind, name, given, tensors)
        for t in bare:
            if kind == "function" and id(t) in self.owners:
                node.module = self.owners[id(t)]
                self.calls.append(node)
        if name in PRODUCTS:
            self.products.append(node)
        if node.moves:
            self.follow(func, inputs, given, tensors)
        else:
            for t in given:
                if t in self.features:
                    self.features[t][0].used_whole = True

    def follow(self, func: Callable[..., Any], inputs: Any, given: Sequence[Tensor], made: Sequence[Tensor]) -> None:
        """Keep track of which feature of an affine call's output stands where, and of the subsets it is cut into."""
        known = next((t for t in given if t in self.features), None)
        if known is None:
            return
        call, where = self.features[known]
        if len(made) == 1 and made[0].shape == known.shape and _name(func) in STAYS:
            self.features[made[0]] = (call, where)
            return
        args, kwargs = pytree.tree_map(lambda leaf: where if leaf is known else leaf, inputs)
        try:
            moved = _tensors(func(*args, **kwargs))
        except Exception:
            return
        for tensor, places in zip(made, moved, strict=False):
            kept = tuple(torch.unique(places).tolist())
            if len(kept) < call.shape[-1]:
                part = self.node("operation", "select", [tensor], [tensor])
                call.parts.append((kept, part))
            elif places.dtype == torch.int64:
                self.features[tensor] = (call, places)

    def node(self, kind: Any, name: str, given: Sequence[Tensor], made: Sequence[Tensor], module: Any = None) -> Node:
        """A node that takes `given` and is where the tensors `made` come from."""
        parents = tuple(dict.fromkeys(self.nodes[t] for t in given if t in self.nodes))
        shape = tuple(made[0].shape) if made else ()
        node = Node(kind, name, parents, shape, module, tuple(given[0].shape) if given else ())
        self.count += 1
        node.number = self.count
        for parent in parents:
            parent.children.append(node)
        for t in made:
            self.nodes[t] = node
        return node

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A module is called."""
        self.called.add(module)
        if self.whole == 0:
            self.note_masks(module, args, kwargs)
        self.stack.append(self.names[module])
        if module in self.kinds:
            self.whole += 1
            self.inside = self.kinds[module]

    def leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """A module's call ends; a norm or affine module becomes one node."""
        self.stack.pop()
        if module not in self.kinds:
            return
        self.whole -= 1
        if self.whole == 0:
            if isinstance(module, nn.MultiheadAttention):  # its masks are no activations
                args, kwargs = args[:3], {k: v for k, v in kwargs.items() if k in ("query", "key", "value")}
            given, made = _tensors((args, kwargs)), _tensors(output)
            call = self.node(self.kinds[module], type(module).__name__, given, made, module)
            self.calls.append(call)
            if call.kind == "affine" and len(made) == 1 and len(call.shape) > 1:
                shape = call.shape
                self.features[made[0]] = (call, torch.arange(shape[-1]).expand(shape).contiguous())

    def note_masks(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Remember arguments that mask padding: (N, T), named as a mask."""
        try:
            bound = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
        except (TypeError, ValueError):
            bound = kwargs
        for name, value in (bound | bound.get("kwargs", {})).items():
            if "mask" in name and isinstance(value, Tensor) and value.ndim == 2 and "pos" not in name:
                square = value.shape[0] == value.shape[1]
                if "padding" in name or name == "attention_mask" or not square:
                    self.masks.setdefault((self.names[module], name))

    def graph(self) -> Graph:
        """What was seen."""
        return Graph(
            calls=tuple(self.calls),
            products=tuple(self.products),
            functions=tuple(self.functions),
            bypassed=dict(self.bypassed),
            masks=tuple(self.masks),
            called=frozenset(self.called),
        )


def trace(model: nn.Module, example_inputs: Any, kinds: Mapping[nn.Module, str], snapshot: Snapshot) -> Graph:
    """Run the model on the example inputs, in eval mode, and return what happened; the model is then as it was.

    Modules that run in train mode alone (auxiliary heads) are looked for in a second run, if that one works.

    Raises:
        ValueError: the model does not run on them.
    """
    watch = Watch(model, kinds)
    try:
        _run(model, example_inputs, watch, snapshot, training=False)
    except Exception as error:
        raise ValueError(
            f"convert_norm runs the model on example_inputs (a tensor, a tuple of positional arguments or a mapping of "
            f"keyword arguments), but that raised {type(error).__name__}: {one_line(error)}; give inputs that it takes."
        ) from error
    if any(module not in watch.called for module in kinds):
        with contextlib.suppress(Exception):  # a single example, for instance, which batch norm refuses in train mode
            _run(model, example_inputs, watch, snapshot, training=True)
    return watch.graph()


def _run(model: nn.Module, inputs: Any, watch: Watch, snapshot: Snapshot, *, training: bool) -> None:
    args, kwargs = arguments(inputs)
    watch.stack.clear()
    watch.whole = 0
    try:
        with isolated(model, training=training), _hooks(model, watch), watch:
            for tensor in _tensors((args, kwargs)):
                watch.nodes[tensor] = Node("input", "input", (), tuple(tensor.shape))
            output = model(*args, **kwargs)
            for tensor in _tensors(output):
                if tensor in watch.nodes:
                    watch.nodes[tensor].root_output = True
    finally:
        snapshot.restore(everything=True)


@contextlib.contextmanager
def _hooks(model: nn.Module, watch: Watch) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks; it counts as operations
            stack.callback(module.register_forward_pre_hook(watch.enter, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(watch.leave, with_kwargs=True).remove)
        yield


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(_opened(tree)) if isinstance(leaf, Tensor)]


def _opened(tree: Any) -> Any:
    """Dataclass outputs (Hugging Face's) are mappings that the pytree may not know."""
    return dict(tree) if isinstance(tree, Mapping) and type(tree) is not dict else tree


def _name(func: Callable[..., Any]) -> str:
    name = getattr(func, "__name__", "")
    if name in ("__get__", "__set__"):
        name = (resolve_name(func) or "").removesuffix(".__get__").rpartition(".")[2] or name
    return name.rstrip("_") if name in ("transpose_", "t_") else name
