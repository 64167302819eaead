"""What a model asks of a normalizer, and the adapter that lets any constructor answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Order: TypeAlias = Literal["affine_norm", "norm_affine"]
Layer = TypeVar("Layer", bound=nn.Module)

# Divisible by every customary number of groups, so that most factories accept it.
_SPECIMEN_FEATURES = 64


@runtime_checkable
class NormalizerLike(Protocol):
    """The two places where a normalizer enters a network, and the one fact a study needs about it.

    A model builds each affine layer, draws its weights and passes it through `affine`; it puts a `site` wherever it
    normalizes. The rows of `normscope.nn` are such objects; `as_normalizer` makes one of any other constructor.
    """

    @property
    def name(self) -> str:
        """What tables and figures call it."""

    @property
    def couples_batch(self) -> bool:
        """Whether, in train mode, an example's output depends on the other examples of its batch."""

    def site(
        self, num_features: int, ndim: int = 4, *, channel_dim: int | None = None, order: Order = "affine_norm"
    ) -> nn.Module:
        """The module for one place of normalization, marked with ``normalizer_site = self.name``.

        Its input has `ndim` dimensions: 2 (N, C), 3 (N, T, C) or 4 (N, C, H, W unless `channel_dim` says otherwise),
        with C = `num_features`. `order` says whether the site stands after or before its affine layer.
        """

    def affine(self, layer: Layer, *, order: Order = "affine_norm") -> Layer:
        """The Linear or Conv as this normalizer wants it, holding the same Parameters; `layer` is left untouched."""


def as_normalizer(
    factory: Callable[[int], nn.Module], *, name: str | None = None, couples_batch: bool | None = None
) -> NormalizerLike:
    """Adapt a constructor of one argument, the number of features, so that every model here accepts it.

    Args:
        factory: for instance ``nn.BatchNorm2d`` or ``lambda c: nn.GroupNorm(4, c)``; called once per site. It must
            suit the model's layout ((N, C) in `MLP`, (N, C, H, W) in `WideResNet`).
        name: by default the class name of what the factory builds.
        couples_batch: by default what the module itself declares in an attribute `couples_batch`, else True for
            torch's batch norms and False for everything else. Say it for a batch normalizer of your own.

    Raises:
        TypeError: the factory is not callable, or builds something other than a module.
        ValueError: a default is needed and the factory cannot build 64 features to find it.
    """
    if not callable(factory):
        raise TypeError(
            f"as_normalizer takes a constructor of one argument, got {factory!r}. Pass for instance nn.BatchNorm2d."
        )
    if name is None or couples_batch is None:
        specimen = _specimen(factory)
        name = type(specimen).__name__ if name is None else name
        couples_batch = _couples_batch(specimen) if couples_batch is None else couples_batch
    return _Adapted(factory, name, couples_batch)


def require_normalizer(normalizer: object) -> None:
    """Refuse, with the remedy, what a model cannot use as a normalizer (a name is the common mistake)."""
    if not isinstance(normalizer, NormalizerLike):
        raise TypeError(
            f"A model takes a normalizer with site() and affine(), got {normalizer!r}. "
            "Use normscope.normalizer(NAME) or normscope.as_normalizer(CONSTRUCTOR)."
        )


@dataclass(frozen=True)
class _Adapted:
    """A plain constructor seen through `NormalizerLike`; it asks nothing of the affine layers."""

    factory: Callable[[int], nn.Module]
    name: str
    couples_batch: bool

    def site(
        self,
        num_features: int,
        ndim: int = 4,  # noqa: ARG002  # the factory was chosen for its layout
        *,
        channel_dim: int | None = None,
        order: Order = "affine_norm",  # noqa: ARG002  # the same module on either side of the affine layer
    ) -> nn.Module:
        if channel_dim is not None:
            raise ValueError(
                f"An adapted constructor is told the number of features only, got channel_dim={channel_dim}. "
                "Give as_normalizer a factory made for that layout and leave channel_dim out."
            )
        module = _build(self.factory, num_features)
        module.normalizer_site = self.name  # type: ignore[assignment]  # a plain string, which nn.Module stores as is
        return module

    def affine(self, layer: Layer, *, order: Order = "affine_norm") -> Layer:  # noqa: ARG002
        return layer


def _build(factory: Callable[[int], nn.Module], num_features: int) -> nn.Module:
    module = factory(num_features)
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"The factory given to as_normalizer must build an nn.Module, got {type(module).__name__}. "
            "Wrap a function in a module first."
        )
    return module


def _specimen(factory: Callable[[int], nn.Module]) -> nn.Module:
    # On the meta device nothing is allocated and the global random state is not touched.
    with torch.device("meta"):
        try:
            return _build(factory, _SPECIMEN_FEATURES)
        except TypeError:
            raise
        except Exception as error:
            raise ValueError(
                f"as_normalizer could not build {_SPECIMEN_FEATURES} features to see what it adapts ({error}). "
                "Pass name= and couples_batch= to do without."
            ) from error


def _couples_batch(specimen: nn.Module) -> bool:
    declared = getattr(specimen, "couples_batch", None)
    if declared is not None:
        return bool(declared)
    return any(isinstance(module, _BatchNorm) for module in specimen.modules())
