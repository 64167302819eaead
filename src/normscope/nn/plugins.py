"""Rows from outside: other packages register normalizers under the entry point group `normscope.normalizers`."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import warnings
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, final

import torch
from torch import nn

from normscope.nn.normalizer import Normalizer

GROUP = "normscope.normalizers"
_PARTS = ("name", "couples_batch", "site", "affine")
LayerT = TypeVar("LayerT", bound=nn.Module)


@final
@dataclass(frozen=True, kw_only=True)
class External:
    """A normalizer of another package as a row of the table; `base` does the work.

    Attributes:
        base: what the package gives: an object with `name`, `couples_batch`, `site` and `affine`.
        formula, reference: the base's attributes of these names, or where it comes from.
        options: what `make` takes, with the values that made this base.
        make: the function that makes a base of options; None where the package gives one object.
    """

    base: Any
    formula: str
    reference: str
    options: Mapping[str, Any] = field(default_factory=dict)
    make: Callable[..., Any] | None = None

    @property
    def name(self) -> str:
        """The base's."""
        return str(self.base.name)

    @property
    def couples_batch(self) -> bool:
        """Whether y[i] depends on x[j] in train mode, as the base says."""
        return bool(self.base.couples_batch)

    @property
    def penalized(self) -> bool:
        """Whether the base adds RegNorm's penalty to the loss."""
        return bool(getattr(self.base, "penalized", False))

    def site(
        self,
        num_features: int,
        ndim: int = 4,
        *,
        channel_dim: int | None = None,
        order: Literal["affine_norm", "norm_affine"] = "affine_norm",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> nn.Module:
        """The base's site, marked as one, on the device and in the dtype asked for."""
        site: nn.Module = self.base.site(num_features, ndim, channel_dim=channel_dim, order=order)
        if getattr(site, "normalizer_site", None) is None:
            site.normalizer_site = self.name  # type: ignore[assignment]  # a plain string, which nn.Module keeps
        return site.to(device=device, dtype=dtype)

    def affine(self, layer: LayerT, *, order: Literal["affine_norm", "norm_affine"] = "affine_norm") -> LayerT:
        """The layer as the base wants it."""
        new: LayerT = self.base.affine(layer, order=order)
        return new

    def remade(self, options: Mapping[str, Any]) -> External:
        """The same row with options; what the package raises is what the caller sees."""
        if not options or self.make is None:
            return self
        base = self.make(**{**self.options, **options})
        return External(
            base=base,
            formula=getattr(base, "formula", self.formula),
            reference=getattr(base, "reference", self.reference),
            options={**self.options, **options},
            make=self.make,
        )


def rows(*, taken: Set[str]) -> tuple[Normalizer | External, ...]:
    """The rows of all other packages, by name; each that cannot be had is warned of once, in one line."""
    found, problems = _discovered(frozenset(taken))
    for line in problems.values():
        _warn_once(line)
    return tuple(found[name] for name in sorted(found))


def find(name: str, *, taken: Set[str]) -> Normalizer | External | None:
    """One of them, or None; ValueError for one that is registered and cannot be had."""
    found, problems = _discovered(frozenset(taken))
    if name not in found and name in problems:
        raise ValueError(problems[name])
    return found.get(name)


@functools.cache
def _warn_once(line: str) -> None:
    warnings.warn(line, RuntimeWarning, stacklevel=4)


@functools.cache
def _discovered(taken: frozenset[str]) -> tuple[dict[str, Normalizer | External], dict[str, str]]:
    """The rows by name, and for every other registration the line that says why it is none."""
    found: dict[str, Normalizer | External] = {}
    problems: dict[str, str] = {}
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda e: (e.name, _distribution(e))):
        if entry.name in taken or entry.name in found:
            problems.setdefault(
                f"{entry.name} of {_distribution(entry)}",
                f"The normalizer {entry.name!r} of {_distribution(entry)} is left out: the name is taken; it needs "
                "another one.",
            )
            continue
        try:
            found[entry.name] = _row(entry)
        except Exception as error:  # whatever a package does when it is imported or called
            problems[entry.name] = (
                f"The normalizer {entry.name!r} of {_distribution(entry)} ({entry.value}) cannot be had: "
                f"{type(error).__name__}: {' '.join(str(error).split())}; repair or remove that package."
            )
    return found, problems


def _row(entry: importlib.metadata.EntryPoint) -> Normalizer | External:
    loaded = entry.load()
    made, options = loaded, {}
    maker = None
    if isinstance(loaded, type) or not _is_normalizer(loaded):
        if not callable(loaded):
            raise TypeError(f"it must be a normalizer or a function that makes one, got {type(loaded).__name__}")
        maker, options = loaded, _options(loaded)
        made = loaded()
    if not _is_normalizer(made):
        lacking = ", ".join(part for part in _PARTS if not hasattr(made, part))
        raise TypeError(f"a normalizer has {', '.join(_PARTS)}, but {type(made).__name__} lacks {lacking}")
    if made.name != entry.name:
        raise ValueError(f"its name must be that of its entry point, {entry.name!r}, got {made.name!r}")
    if isinstance(made, Normalizer) and maker is None:
        return made
    source = f"{_distribution(entry)} ({entry.value})"
    return External(
        base=made,
        formula=str(getattr(made, "formula", "as its package has it")),
        reference=str(getattr(made, "reference", source)),
        options=options,
        make=maker,
    )


def _is_normalizer(value: Any) -> bool:
    return all(hasattr(value, part) for part in _PARTS)


def _options(maker: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of `maker` that can be given by name, with their defaults; every one needs a default."""
    parameters = inspect.signature(maker).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if bare := [p.name for p in named if p.default is p.empty]:
        raise TypeError(f"every option needs a default, but {', '.join(bare)} has none")
    return {p.name: p.default for p in named}


def _distribution(entry: importlib.metadata.EntryPoint) -> str:
    return "an unknown distribution" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
