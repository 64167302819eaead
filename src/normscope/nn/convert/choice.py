"""Which row goes where: the argument `to` of a conversion, and what a row named alone takes from the old norm."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import nn

from normscope.nn.catalog import normalizer
from normscope.nn.convert.reading import NormReading
from normscope.nn.normalizer import Normalizer


@runtime_checkable
class RowLike(Protocol):
    """A row of the table, or anything else that makes sites and affine layers."""

    @property
    def name(self) -> str:
        """What the table calls it."""

    @property
    def couples_batch(self) -> bool:
        """Whether, in train mode, an example's output depends on other examples."""

    def site(self, num_features: int, ndim: int = 4, *, channel_dim: int | None = None, order: Any = ...) -> nn.Module:
        """The module for one place."""

    def affine(self, layer: Any, *, order: Any = ...) -> Any:
        """The affine layer as the row wants it."""


Choice: TypeAlias = RowLike | str | None
To: TypeAlias = Choice | Mapping[str | type[nn.Module], Choice] | Callable[[str, nn.Module], Choice]

_CARRIED = ("momentum", "num_groups")
_SHARED_EPS = 1e-5  # of the rows whose eps means what it means in other norms; a row with another has its own reason


def check_to(to: To, names: Mapping[nn.Module, tuple[str, ...]]) -> None:
    """Refuse what is no choice, and keys of a mapping that meet no norm.

    Raises:
        TypeError: neither a name, a row, a mapping nor a function.
        ValueError: unknown row; a key that is neither the name nor the class of a norm of the model.
    """
    if isinstance(to, str):
        normalizer(to)
    elif isinstance(to, Mapping):
        known = {name for all_names in names.values() for name in all_names}
        for key in to:
            met = any(isinstance(m, key) for m in names) if isinstance(key, type) else key in known
            if not met:
                close = difflib.get_close_matches(str(key), sorted(known), n=3, cutoff=0.5) or sorted(known)[:5]
                raise ValueError(
                    f"A mapping goes from names or classes of the model's norms to rows, but {_shown(key)} is none of "
                    f"them; did you mean {' or '.join(close) or 'another model'}?"
                )
            _checked(to[key])
    elif not isinstance(to, RowLike) and (not callable(to) or isinstance(to, type)):
        raise TypeError(
            f"convert_norm converts to a row or its name, by a mapping or a function (name, module) -> row, "
            f"got {to!r}; pass for instance 'layernorm'."
        )


def chosen(to: To, names: tuple[str, ...], module: nn.Module) -> Choice:
    """The choice for one norm: by the mapping's name first, then by its most derived class."""
    if isinstance(to, str | RowLike) or to is None:
        return to
    if isinstance(to, Mapping):
        keys: tuple[Any, ...] = (*names, *type(module).__mro__)
        return next((to[key] for key in keys if key in to), None)
    return _checked(to(names[0], module))


def row_for(choice: Choice, reading: NormReading, *, images: bool) -> RowLike | None:
    """The row itself. One that is given is used as it is; one that is named takes over what the old norm had.

    That is eps, momentum, the number of groups, whether there is a gain and shift at all, whether running statistics
    are kept, and, on images, that each position was normalized by itself.
    """
    if not isinstance(choice, str):
        return choice
    row = normalizer(choice)
    if not isinstance(row, Normalizer):
        return row
    options = row.options
    changes: dict[str, Any] = {
        name: value for name in _CARRIED if name in options and (value := getattr(reading, name)) is not None
    }
    if options.get("eps") == _SHARED_EPS and reading.eps is not None:
        changes["eps"] = reading.eps
    if options.get("affine") and not reading.affine:
        changes["affine"] = False
    if "evaluation" in options and reading.known.statistic == "batch" and reading.running_mean is None:
        changes["evaluation"] = "batch"
    if images and "over" in options and reading.known.statistic == "position":
        changes["over"] = "channels"
    return normalizer(choice, **changes) if changes else row


def places(row: RowLike) -> bool:
    """Whether the row does something to affine layers, so that it matters which they are."""
    layer = getattr(row, "layer", None)
    if isinstance(layer, str):
        return layer != "plain"
    specimen = nn.Linear(2, 2, device="meta")
    made = row.affine(specimen)
    plain = type(made) is nn.Linear and not made._forward_hooks and not made._forward_pre_hooks
    return made is not specimen and not plain


def is_identity(row: RowLike) -> bool:
    """Whether the row neither normalizes nor changes a layer: `none`."""
    return isinstance(row, Normalizer) and row.name == "none"


def shown_options(row: RowLike) -> str:
    """The row's name, with the options that are not its defaults."""
    if not isinstance(row, Normalizer) or not dataclasses.is_dataclass(row):
        return row.name
    try:
        plain = normalizer(row.name)
    except ValueError:
        return row.name
    if not isinstance(plain, Normalizer):
        return row.name
    changed = {k: v for k, v in row.options.items() if plain.options.get(k) != v}
    return row.name + "".join(f" {k}={v}" for k, v in changed.items())


def _checked(choice: Choice) -> Choice:
    if isinstance(choice, str):
        normalizer(choice)
    elif choice is not None and not isinstance(choice, RowLike):
        raise TypeError(
            f"A choice for one norm is a row, its name, or None to leave the norm as it is, got {choice!r}; "
            "pass for instance 'layernorm'."
        )
    return choice


def _shown(key: Any) -> str:
    return key.__name__ if isinstance(key, type) else repr(key)
