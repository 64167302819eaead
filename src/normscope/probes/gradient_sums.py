"""What the gradient of a weight is a sum of, and how much the parts cancel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from normscope.isolation import Mode, StandIn, copy, draw_seed
from normscope.probes.by_site import by_site
from normscope.probes.gradients import differentiable, recorded
from normscope.probes.probe import Probe, check_mode
from normscope.probes.reading import Reading
from normscope.probes.tap import TORCH_AFFINES, unchanged_labels
from normscope.subject import Batch, Subject

T = TypeVar("T")
SelectLayers: TypeAlias = Callable[[str, nn.Module], bool] | None
Affine: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


@final
@dataclass(frozen=True, kw_only=True)
class GradientSums(Probe):
    r"""Sizes of the parts of a weight's gradient and of their sum, by layer.

    With I what enters a convolution and O what leaves it, the gradient of the weight K is a sum over examples b and
    positions x, y,

    .. math:: \frac{\partial L}{\partial K_{o,i,s,t}} = \sum_{b,x,y} d^{bxy}_{oist}, \qquad
              d^{bxy}_{oist} = \frac{\partial L}{\partial O_{b,o,x,y}} \, I_{b,i,x+s,y+t}

    and, averaged over all entries of the weight,

    .. math:: a = \Big\langle \sum_{b,x,y} |d^{bxy}| \Big\rangle, \qquad
              b = \Big\langle \Big| \sum_{b,x,y} d^{bxy} \Big| \Big\rangle.

    a/b is 1 where all parts pull the same way and large where they cancel. Since :math:`|g I| = |g| |I|`, a is exactly
    the ordinary gradient of a weight computed from \|∂L/∂O\| and \|I\|. I and O are those of the layer's own product,
    behind what a normalizer does to its input and before what it does to its output; a layer that runs more than once
    has the parts of all its calls. Without positions (a linear layer on (N, F)) the sum is over examples.

    Args:
        select: chooses among all modules by (name, module); None for all linear and convolution layers.
        mode: "train" or "eval".

    Returns:
        Reading "gradient_sums", axes ("quantity", "layer") with quantities "a", "b" and "a/b", layers in the order in
        which they run, standard errors over batches. a/b is NaN where all parts are zero, and infinite where they
        cancel to the last digit. One forward and backward pass per batch, and two weight gradients of each layer.

    Raises:
        ValueError: a chosen layer is neither linear nor an ordinary convolution; there is none.

    Source: Bjorck et al., "Understanding batch normalization", arXiv:1806.02375, table 1.
    """

    select: SelectLayers = None
    mode: Mode = "train"

    def __post_init__(self) -> None:
        check_select_layers(self.select)
        check_mode(self.mode)

    @property
    def requires(self) -> frozenset[str]:
        """Weights that have a gradient."""
        return frozenset({"layer_weights"})

    def measure(self, subject: Subject, *, generator: torch.Generator) -> Reading:
        """See the class."""
        stand_in = StandIn.of(subject)
        layers = _affine_layers(subject.model, self.select)
        batches = (_gradient_sums(stand_in, layers, batch, seed=draw_seed(generator)) for batch in subject.batches())
        return by_site("gradient_sums", batches, quantities=("a", "b", "a/b"))


def check_select_layers(select: SelectLayers) -> None:
    """Refuse anything but None or a function.

    Raises:
        ValueError: on anything else.
    """
    if select is not None and not callable(select):
        raise ValueError(
            f"`select` is None (every layer) or a function of (name, module), but {select!r} arrived. "
            "For one layer, pass lambda name, module: name == 'that.name'."
        )


def some_layers(chosen: dict[str, T], *, of: int) -> dict[str, T]:
    """The layers chosen, after checking that there are any.

    Raises:
        ValueError: there is none.
    """
    if not chosen:
        raise ValueError(
            f"At least one layer is read, but none of {of} modules is one that is chosen. "
            "Compare `select` with model.named_modules()."
        )
    return chosen


def _affine_layers(model: nn.Module, select: SelectLayers) -> dict[str, Affine]:
    """The layers to be read, by name."""
    named = {name or type(model).__name__: module for name, module in model.named_modules()}
    chosen = {
        name: module
        for name, module in named.items()
        if (isinstance(module, TORCH_AFFINES) if select is None else select(name, module))
    }
    for name, module in chosen.items():
        if not isinstance(module, Affine):
            raise ValueError(
                "The parts of a gradient are read at linear and ordinary convolution layers, but "
                f"{name!r} is a {type(module).__name__}. Leave it out by select=lambda name, module: ..."
            )
    return some_layers(chosen, of=len(named))


@dataclass(frozen=True)
class _Call:
    """One call of a layer: what entered it, and where the gradient by what left it can be asked for."""

    layer: str
    entered: Tensor
    edge: GradientEdge


def _gradient_sums(stand_in: StandIn, layers: Mapping[str, Affine], batch: Batch, *, seed: int) -> dict[str, Tensor]:
    """The sizes a and b, and a/b, of every layer that runs, in that order: (3,)."""

    def work(model: nn.Module) -> dict[str, Tensor]:
        with _recording(layers) as recording:
            loss = differentiable(stand_in.loss(model, batch))
            calls = list(recording)  # checkpointed modules run again in the backward pass, and are recorded again
            unchanged_labels(None, [call.layer for call in calls])
            found = torch.autograd.grad(loss, [call.edge for call in calls], allow_unused=True)
        sums: dict[str, tuple[Tensor, Tensor]] = {}
        for call, gradient in zip(calls, found, strict=True):
            absolute, signed = _weight_gradients(layers[call.layer], call.entered, gradient)
            before = sums.get(call.layer, (0, 0))
            sums[call.layer] = (before[0] + absolute, before[1] + signed)
        sizes = {layer: (absolute.mean(), signed.abs().mean()) for layer, (absolute, signed) in sums.items()}
        return {layer: torch.stack([a, b, a / b]) for layer, (a, b) in sizes.items()}

    return stand_in.run(work, seed=seed)


def _weight_gradients(layer: Affine, entered: Tensor, gradient: Tensor | None) -> tuple[Tensor, Tensor]:
    """The weight's gradient from the magnitudes of input and output gradient, and from themselves; float64."""
    shape = layer.weight.shape
    if gradient is None:  # the loss does not see the layer
        zeros = torch.zeros(shape, dtype=torch.float64, device=entered.device)
        return zeros, zeros
    wide = torch.promote_types(gradient.dtype, torch.float32)
    x, g = entered.to(wide), gradient.to(wide)

    def by_weight(x: Tensor, g: Tensor) -> Tensor:
        weight = torch.zeros(shape, dtype=wide, device=x.device, requires_grad=True)
        product = F.linear(x, weight) if isinstance(layer, nn.Linear) else layer._conv_forward(x, weight, None)
        return torch.autograd.grad(product, weight, g)[0].double()

    return by_weight(x.abs(), g.abs()), by_weight(x, g)


@contextlib.contextmanager
def _recording(layers: Mapping[str, nn.Module]) -> Iterator[list[_Call]]:
    """Record each call of the layers: the input behind all other hooks, the output before them."""
    entered: dict[str, Tensor] = {}
    calls: list[_Call] = []

    def enter(name: str, _layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        entered[name] = copy(args[0] if args else kwargs["input"])

    def leave(name: str, _layer: nn.Module, _args: Any, output: Tensor) -> Tensor:
        fresh = recorded(name, output)
        calls.append(_Call(name, entered.pop(name), get_gradient_edge(fresh)))
        return fresh

    with contextlib.ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(partial(enter, name), with_kwargs=True).remove)
            stack.callback(layer.register_forward_hook(partial(leave, name), prepend=True).remove)
        yield calls
