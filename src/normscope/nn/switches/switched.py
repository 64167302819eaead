"""A normalizer with switches: whatever a model asks of a normalizer, with the changes built in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar, final, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from normscope.nn.affine import shared_copy
from normscope.nn.normalizer import Order
from normscope.nn.site import Site
from normscope.nn.sites import BatchRenorm, DynamicTanh, PowerNorm
from normscope.nn.switches.switch import Place, Stepped, Switch, per_channel

LayerT = TypeVar("LayerT", bound=nn.Module)
ActivationFactory: TypeAlias = Callable[[int, int], nn.Module]


@runtime_checkable
class Base(Protocol):
    """What switches are put on: a row of the table, or an adapted constructor."""

    @property
    def name(self) -> str:
        """What tables and figures call it."""

    @property
    def couples_batch(self) -> bool:
        """Whether, in train mode, an example's output depends on the other examples of its batch."""

    def site(
        self, num_features: int, ndim: int = 4, *, channel_dim: int | None = None, order: Order = "affine_norm"
    ) -> nn.Module:
        """The module for one place of normalization."""

    def affine(self, layer: LayerT, *, order: Order = "affine_norm") -> LayerT:
        """The Linear or Conv as this normalizer wants it."""


def apply(normalizer: Base, chosen: Sequence[Switch], *, generator: torch.Generator) -> Switched:
    """Put switches on a normalizer, for one network.

    Args:
        normalizer: a row of the table, or what `normscope.as_normalizer` makes.
        chosen: made by `switch`; of several at one place those before gain and shift come first, then in this order.
        generator: random signs and noise depend on its state. It is read and not advanced, so that a network whose
            weights are drawn from it next has the weights that it has without switches.

    Raises:
        TypeError: `normalizer` has no site() and affine(), `chosen` holds something other than a `Switch`, `generator`
            is not a `torch.Generator`.
        ValueError: a switch is there twice, or two replace the activation.
    """
    if not isinstance(normalizer, Base):
        raise TypeError(
            f"Switches are put on a normalizer with site() and affine(), got {normalizer!r}; pass "
            "normscope.normalizer(NAME) or normscope.as_normalizer(CONSTRUCTOR)."
        )
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"Switches draw from a torch.Generator, got a {type(generator).__name__}; pass "
            "torch.Generator().manual_seed(0)."
        )
    for one in chosen:
        if not isinstance(one, Switch):
            raise TypeError(f"apply takes switches, got {one!r}; make them by switches.switch(NAME, ...).")
    names = [one.name for one in chosen]
    if len(set(names)) < len(names):
        raise ValueError(f"A switch is there at most once, got {', '.join(names)}; leave one out.")
    activations = [one.name for one in chosen if one.at_activation is not None]
    if len(activations) > 1:
        raise ValueError(f"One switch replaces the activation, got {' and '.join(activations)}; choose one of them.")
    ordered = sorted(chosen, key=lambda one: not one.before_gain)
    return Switched(base=normalizer, chosen=tuple(ordered), seed=_seed(generator))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Switched:
    """A normalizer with switches, made by `apply` for one network: a normalizer itself, as every model here takes it.

    Give it to the model as `normalizer`, its `activation_factory` as the keyword of that name, the finished model to
    `around`, and call `at_step` before each step of training::

        switched = switches.apply(row, chosen, generator=generator)
        model = MLP(..., normalizer=switched, activation_factory=switched.activation_factory, generator=generator)
        model = switched.around(model, num_classes)

    Attributes:
        base: the normalizer without switches.
        chosen: the switches.
        seed: of everything they draw.
    """

    base: Base
    chosen: tuple[Switch, ...]
    seed: int
    _sites: Iterator[int] = field(default_factory=itertools.count, repr=False)
    _activations: Iterator[int] = field(default_factory=itertools.count, repr=False)

    @property
    def name(self) -> str:
        """The base's: with switches a site is still one of its sites."""
        return self.base.name

    @property
    def couples_batch(self) -> bool:
        """Whether an example's output depends on the others of its batch in train mode, by the base or by a switch."""
        return self.base.couples_batch or any(one.couples_batch for one in self.chosen)

    @property
    def penalized(self) -> bool:
        """Whether the base adds RegNorm's penalty to the loss."""
        return bool(getattr(self.base, "penalized", False))

    def site(
        self, num_features: int, ndim: int = 4, *, channel_dim: int | None = None, order: Order = "affine_norm"
    ) -> nn.Module:
        """Return the base's site with the switches behind it; the arguments are the base's.

        Where a switch acts at sites this is a module around the base's, and it is the one that carries
        `normalizer_site`: probes read what leaves it.
        """
        site = self.base.site(num_features, ndim, channel_dim=channel_dim, order=order)
        place = Place(
            num_features=num_features,
            channel_dim=(2 if ndim == 3 else 1) if channel_dim is None else channel_dim % ndim,
            index=next(self._sites),
            seed=self.seed,
            penalized=self.penalized,
        )
        behind = [one.at_site(place) for one in self.chosen if one.at_site is not None]
        return SwitchedSite(site, behind, name=self.name, place=place) if behind else site

    def affine(self, layer: LayerT, *, order: Order = "affine_norm") -> LayerT:
        """Return the layer as the base wants it, with the switches; `layer` is untouched and its Parameters shared."""
        new = self.base.affine(layer, order=order)
        changes = [one.at_affine for one in self.chosen if one.at_affine is not None]
        if changes and new is layer:
            new = shared_copy(layer)
        for change in changes:
            change(new)
        return new

    @property
    def activation_factory(self) -> ActivationFactory | None:
        """(num_features, channel_dim) -> the module in place of an activation; None where the model keeps its own."""
        make = next((one.at_activation for one in self.chosen if one.at_activation is not None), None)
        if make is None:
            return None

        def factory(num_features: int, channel_dim: int) -> nn.Module:
            index = next(self._activations)
            return make(Place(num_features=num_features, channel_dim=channel_dim, index=index, seed=self.seed))

        return factory

    def around(self, model: nn.Module, num_classes: int) -> nn.Module:
        """Return the finished network with the switches that act at its logits; the network itself if none does."""
        for one in self.chosen:
            if one.at_logits is not None:
                model = one.at_logits(model, num_classes)
        return model

    def at_step(self, model: nn.Module, step: int) -> None:
        """Tell every switch in `model` that this step of training comes next; steps count from 1."""
        for module in model.modules():
            if isinstance(module, Stepped):
                module.at_step(step)


@final
class SwitchedSite(nn.Module):
    """A normalizer site and what switches do behind it. Shape: that of the site, in and out.

    Attributes:
        site: the normalizer's own.
        behind: the switches' modules, in order.
        normalizer_site: the normalizer's name, by which probes find this module (and not `site`).
        channel_dim: axis of the channels.
    """

    def __init__(self, site: nn.Module, behind: Sequence[nn.Module], *, name: str, place: Place) -> None:
        super().__init__()
        self.site = _unmarked(site)
        self.behind = nn.ModuleList(behind)
        self.normalizer_site = name
        self.num_features = place.num_features
        self.channel_dim = place.channel_dim

    def forward(self, x: Tensor) -> Tensor:
        """Run the site, then the switches."""
        y: Tensor = self.site(x)
        affine = self._per_channel("weight", y), self._per_channel("bias", y)
        for switch in self.behind:
            y = switch(y, x, affine)
        return y

    @property
    def weight(self) -> Any:
        """The site's own gain, for whoever initializes it; None where there is none."""
        return getattr(self.site, "weight", None)

    @property
    def bias(self) -> Any:
        """The site's own shift; None where there is none."""
        return getattr(self.site, "bias", None)

    def _per_channel(self, name: str, y: Tensor) -> Tensor | None:
        """The site's gain or shift, where it is known to be one number per channel."""
        known = _has_channel_affine(self.site, self.channel_dim, y.ndim)
        value: Any = getattr(self, name) if known else None
        fits = isinstance(value, Tensor) and value.shape == (self.num_features,)
        return per_channel(value, y, self.channel_dim) if fits else None


def _has_channel_affine(site: nn.Module, channel_dim: int, ndim: int) -> bool:
    if isinstance(site, nn.LayerNorm | nn.RMSNorm):
        return channel_dim == ndim - 1
    own = isinstance(site, Site | BatchRenorm | PowerNorm | DynamicTanh)  # y = weight * z + bias, to the end
    return own or (isinstance(site, _NormBase | nn.GroupNorm) and channel_dim == 1)


def _unmarked(site: nn.Module) -> nn.Module:
    """The site, just made for this network, without the mark by which probes find sites."""
    vars(site).pop("normalizer_site", None)
    if hasattr(site, "normalizer_site"):  # its class says so
        site.normalizer_site = None  # type: ignore[assignment]
    return site


def _seed(generator: torch.Generator) -> int:
    """A seed that depends on the generator's state, which stays as it is."""
    twin = torch.Generator(generator.device)
    twin.set_state(generator.get_state())
    return int(torch.randint(2**63 - 1, (), generator=twin, device=twin.device))
