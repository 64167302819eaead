"""Functions chosen by name, with their keyword arguments checked before they are called."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def look_up(kind: str, table: Mapping[str, Callable[..., T]], name: str) -> Callable[..., T]:
    """The function of that name; ValueError names the close ones, and all of them."""
    if name not in table:
        close = difflib.get_close_matches(name, table, n=2, cutoff=0.5)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"{kind} must be one of {', '.join(table)}, got {name!r}.{hint}")
    return table[name]


def check_options(
    kind: str, table: Mapping[str, Callable[..., Any]], name: str, options: Mapping[str, object], given: tuple[str, ...]
) -> None:
    """Refuse options that the function `name` does not take, or that are of another type, and say which are missing.

    Options are its keyword arguments but those `given` otherwise; what type one has, its annotation says.

    Raises:
        ValueError: an unknown, unsuitable or missing option.
    """
    known = _options(table[name], given)
    takes = f"It takes {', '.join(known)}." if known else "It takes none."
    for option, value in options.items():
        if option not in known:
            owners = [other for other, function in table.items() if option in _options(function, given)]
            close = difflib.get_close_matches(option, known, n=2, cutoff=0.5)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            hint += f" {' and '.join(owners)} {'has' if len(owners) == 1 else 'have'} it." if owners else ""
            raise ValueError(f"{kind} {name} has no option {option!r}.{hint} {takes}")
        rule, suits = _TYPES[str(known[option].annotation)]
        if not suits(value):
            raise ValueError(f"option {option} of {kind} {name} must be {rule}, got {value!r}.")
    missing = [option for option, known_as in known.items() if known_as.default is known_as.empty]
    if lacking := [option for option in missing if option not in options]:
        raise ValueError(f"{kind} {name} needs {' and '.join(lacking)}. {takes}")


def _options(function: Callable[..., Any], given: tuple[str, ...]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters.items()
    return {name: parameter for name, parameter in parameters if name not in given}


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_integer(value) or isinstance(value, float)


def _are(suits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda values: isinstance(values, tuple | list) and all(suits(value) for value in values)


_TYPES: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": ("an integer", _is_integer),
    "float": ("a number", _is_number),
    "Sequence[int]": ("a sequence of integers", _are(_is_integer)),
    "Sequence[float]": ("a sequence of numbers", _are(_is_number)),
}
