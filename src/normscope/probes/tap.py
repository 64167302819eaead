"""Where a model is read: its sites, and a tap on their outputs."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

Select: TypeAlias = Callable[[str, nn.Module], bool] | Literal["last"] | None
Side: TypeAlias = Literal["output", "input"]
Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]

TORCH_NORMS: tuple[type[nn.Module], ...] = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
TORCH_AFFINES: tuple[type[nn.Module], ...] = (nn.Linear, _ConvNd)


def is_normalizer_site(module: nn.Module) -> bool:
    """Whether the module stands where a network normalizes: it says which row of the table it is."""
    return isinstance(getattr(module, "normalizer_site", None), str)


def check_select(select: Select) -> None:
    """Refuse anything but None, "last" or a function.

    Raises:
        ValueError: on anything else.
    """
    if select is not None and select != "last" and not callable(select):
        raise ValueError(
            f"`select` is None (every site), 'last' or a function of (name, module), but {select!r} arrived. "
            "For one module, pass lambda name, module: name == 'that.name'."
        )


def sites(model: nn.Module, select: Select = None) -> dict[str, nn.Module]:
    """The modules whose outputs a by-depth probe reads, by name.

    These are the model's normalizer sites (modules with an attribute `normalizer_site`); in a model without any,
    torch's norm modules; in a model without those either, its linear and convolution layers. A function
    `select(name, module)` takes the place of all this and chooses among all modules.

    Raises:
        ValueError: no module qualifies.
    """
    named = {name or type(module).__name__: module for name, module in model.named_modules()}
    if callable(select):
        chosen = {name: module for name, module in named.items() if select(name, module)}
        if not chosen:
            raise ValueError(
                "`select` chooses at least one module, but it returned True for none of "
                f"{len(named)} modules. Compare its condition with model.named_modules()."
            )
        return chosen
    kinds: tuple[Callable[[nn.Module], bool], ...] = (
        is_normalizer_site,
        lambda module: isinstance(module, TORCH_NORMS),
        lambda module: isinstance(module, TORCH_AFFINES),
    )
    for qualifies in kinds:
        chosen = {name: module for name, module in named.items() if qualifies(module)}
        if chosen:
            return chosen
    raise ValueError(
        f"A by-depth probe reads normalizer sites, norm layers or affine layers, but {type(model).__name__} has none "
        "that torch defines. Choose modules by select=lambda name, module: ..."
    )


def channel_axis(site: nn.Module, ndim: int) -> int:
    """The axis of the channels: as the site says or its class tells, else 1 of images and volumes, else the last.

    A layer norm over three or more axes is taken to be one of (C, H, W), over fewer of features.
    """
    declared = getattr(site, "channel_dim", None)
    if isinstance(declared, int):
        return declared % ndim
    if isinstance(site, nn.LayerNorm | nn.RMSNorm):
        axes = len(site.normalized_shape)
        return ndim - axes if axes > 2 else ndim - 1
    if ndim > 3 and not isinstance(site, nn.Linear):
        return 1
    return 1 if isinstance(site, _NormBase | nn.GroupNorm | _ConvNd) else ndim - 1


@contextlib.contextmanager
def tap(
    modules: Mapping[str, nn.Module], visit: Callable[[str, Tensor], Tensor | None], *, side: Side = "output"
) -> Iterator[None]:
    """Call `visit(label, output)` each time one of `modules` has run; a tensor it returns takes the output's place.

    Labels are the names; a module that runs again within the block is `name#2`, `name#3`, and so on. What `visit` sees
    may be overwritten in place by the next layer: keep a copy, not the tensor. With side "input" it sees the module's
    first argument, by position or, where there is none, by keyword, before the module runs, in the same way.

    Raises:
        TypeError: what it would see is not one floating-point tensor.
    """
    calls: Counter[str] = Counter()

    def see(name: str, value: Any) -> Tensor | None:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            arrived = value.dtype if isinstance(value, Tensor) else type(value).__name__
            verb = "returned" if side == "output" else "was given"
            raise TypeError(
                f"A site's {side} is one floating-point tensor, but {name!r} {verb} {arrived}. "
                "Leave it out by select=lambda name, module: ..."
            )
        calls[name] += 1
        return visit(name if calls[name] == 1 else f"{name}#{calls[name]}", value)

    def leave(name: str, _module: nn.Module, _args: Any, output: Any) -> Tensor | None:
        return see(name, output)

    def enter(name: str, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        keyword = None if args else next(iter(kwargs), None)
        instead = see(name, args[0] if args else kwargs.get(keyword) if keyword else None)
        if instead is None:
            return None
        return (args, {**kwargs, keyword: instead}) if keyword else ((instead, *args[1:]), kwargs)

    with contextlib.ExitStack() as stack:
        for name, module in modules.items():
            if side == "output":
                stack.callback(module.register_forward_hook(partial(leave, name)).remove)
            else:
                stack.callback(module.register_forward_pre_hook(partial(enter, name), with_kwargs=True).remove)
        yield


def unchanged_labels(expected: tuple[str, ...] | None, seen: Iterable[str]) -> tuple[str, ...]:
    """The labels `seen` in one pass, after checking them against those of an earlier pass (None: there was none).

    Raises:
        ValueError: no site ran, or other sites than in the earlier pass.
    """
    labels = tuple(seen)
    if not labels:
        raise ValueError(
            "A by-depth probe reads modules that run, but none of the sites did. "
            "Choose others by select=lambda name, module: ..., or run them in forward(model, inputs)."
        )
    if expected is not None and labels != expected:
        odd = sorted(set(labels) ^ set(expected)) or list(labels)
        raise ValueError(
            f"The same sites run for every minibatch, but {odd[0]!r} did not run alike in two passes. "
            "Choose sites outside the branch by select=lambda name, module: ..."
        )
    return labels
