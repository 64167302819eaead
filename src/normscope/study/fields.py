"""Read a field of an item from the text of a command line, by the type of what the field holds otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import NoneType
from typing import Any

import msgspec

from normscope.study.experiment import Data, Norm
from normscope.study.recipe import parse_norm

_WORDS = {"true": True, "false": False}


def read(name: str, text: str, values: Sequence[Any]) -> Any:
    """The text as a value like `values`, those that the field `name` has at each scale, the scale at hand first.

    A whole number, a finite number, true or false, a text, a normalizer as in `recipe.parse_norm`, or several of one
    kind separated by commas; none where some scale leaves the field open. A field that every scale leaves open takes
    what the text looks like.

    Raises:
        ValueError: the text is none of that, or the field holds what no text can.
    """
    kinds = {type(value) for value in values}
    if NoneType in kinds and text == "none":
        return None
    if isinstance(values[0], Data):
        return msgspec.structs.replace(values[0], name=data_name(text))
    if tuple in kinds:
        held = {type(element) for value in values if isinstance(value, tuple) for element in value}
        return tuple(_one(name, part, held) for part in text.split(",")) if text else ()
    return _one(name, text, kinds - {NoneType})


def data_name(text: str) -> str:
    """The name or place of a data set; ValueError where the text is empty."""
    return str(_required("data", "not be empty", text, text or None))


def _one(name: str, text: str, kinds: set[type]) -> Any:
    if kinds == {bool}:
        return _required(name, "be true or false", text, _WORDS.get(text))
    if kinds == {int}:
        return _required(name, "be a whole number", text, _number(int, text))
    if kinds and kinds <= {int, float}:
        return _required(name, "be a finite number", text, _number(float, text))
    if kinds == {str}:
        return _required(name, "not be empty", text, text or None)
    if kinds == {Norm}:
        return msgspec.convert(parse_norm(text), Norm)
    if kinds:
        held = " or ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(f"{name} holds {held}, which cannot be written as name=value; leave it out.")
    looks_like = (_WORDS.get(text), _number(int, text), _number(float, text), text or None)
    return _required(name, "not be empty", text, next((value for value in looks_like if value is not None), None))


def _required(name: str, rule: str, text: str, found: Any) -> Any:
    if found is None:
        raise ValueError(f"{name} must {rule}, got {text!r}.")
    return found


def _number(kind: type[int] | type[float], text: str) -> int | float | None:
    try:
        number = kind(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
