"""What every site makes of its input before its gain and shift."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call

from normscope.isolation import StandIn, copies
from normscope.probes.tap import (
    TORCH_AFFINES,
    TORCH_NORMS,
    Select,
    channel_axis,
    is_normalizer_site,
    sites,
    tap,
)
from normscope.subject import Inputs

# Of normalized values, the axis of their channels, and whether nothing has normalized them.
Measure: TypeAlias = Callable[[Tensor, int, bool], Tensor]


def measured_before_gain(
    stand_in: StandIn, inputs: Inputs, measure: Measure, *, select: Select, seed: int
) -> dict[str, Tensor]:
    """What `measure` says of the normalized values of every site, by label in order of execution.

    Gain and shift are the parameters `weight` and `bias` of the site, and of the modules that it is made of, affine
    layers among them excepted. A site that has them under other names is read behind them, and whatever else `select`
    chooses as it is. Nothing has normalized what a site leaves as it is (the row "none"), or an affine layer gives.

    One forward pass, in which every site is computed twice.
    """
    chosen = sites(stand_in.subject.model, select)
    # Sites that have not returned yet, with what is said of them where that is known.
    entered: list[tuple[nn.Module, Tensor | None]] = []
    found: dict[str, Tensor] = {}

    def enter(site: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Now and not when it returns: the site may write to its input.
        normalizes = is_normalizer_site(site) or isinstance(site, TORCH_NORMS)
        entered.append((site, _of_call(site, args, kwargs, measure) if normalizes else None))

    def leave(label: str, output: Tensor) -> None:
        if select == "last":
            found.clear()
        site, said = entered.pop()
        raw = isinstance(site, TORCH_AFFINES)
        found[label] = measure(output, channel_axis(site, output.ndim), raw) if said is None else said

    with _entering(chosen, enter), tap(chosen, leave):
        stand_in.forward(inputs, seed=seed)
    return found


def layer_axes(ndim: int, channels: int) -> tuple[int, ...]:
    """The axes of one example's layer statistics: (C, H, W) of images, the channels of each token or feature vector."""
    return (1, 2, 3) if ndim == 4 else (channels,)


def _of_call(site: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], measure: Measure) -> Tensor | None:
    z = _normalized(site, copies(args), copies(kwargs))
    if not isinstance(z, Tensor) or not z.is_floating_point():
        return None  # the tap refuses the output, and names the site
    return measure(z, channel_axis(site, z.ndim), bool(args) and _same(z, args[0]))


def _normalized(site: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What the site makes of a call without gain and shift, its hooks and running statistics left alone."""
    tensors = {name: buffer.detach().clone() for name, buffer in site.named_buffers()}
    for prefix, module in site.named_modules():
        if not isinstance(module, TORCH_AFFINES):
            for name, neutral in (("weight", torch.ones_like), ("bias", torch.zeros_like)):
                parameter = module._parameters.get(name)
                if parameter is not None:
                    tensors[f"{prefix}.{name}" if prefix else name] = neutral(parameter, requires_grad=False)
    swapped = {f"site.{name}": tensor for name, tensor in tensors.items()}
    return functional_call(_Unhooked(site), swapped, args, dict(kwargs))


class _Unhooked(nn.Module):
    """Calls a module's forward without its hooks, of which the taps are one."""

    def __init__(self, site: nn.Module) -> None:
        super().__init__()
        self.site = site

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.site.forward(*args, **kwargs)


@contextlib.contextmanager
def _entering(modules: Mapping[str, nn.Module], visit: Callable[..., None]) -> Iterator[None]:
    """Call `visit(module, args, kwargs)` each time one of `modules` is about to run."""
    with contextlib.ExitStack() as stack:
        for module in modules.values():
            stack.callback(module.register_forward_pre_hook(visit, with_kwargs=True).remove)
        yield


def _same(z: Tensor, x: Any) -> bool:
    return isinstance(x, Tensor) and z.shape == x.shape and z.dtype == x.dtype and torch.equal(z, x)
