"""Parsing for the command line: lists written with commas, unset options, and errors in one line."""

from __future__ import annotations

import contextlib
import io
import re
import types
from collections.abc import Sequence
from typing import Any, Union, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

_REGISTRY = ConstructorRegistry()
_NUMBERS = {int: "a whole number", float: "a number"}


def parse(commands: Any, arguments: Sequence[str]) -> Any:
    """Make one of the `commands` from the arguments; ValueError in one line, or SystemExit after --help."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                commands,
                prog="normscope",
                description="Swap the normalizer in a network; see what that does to signal, gradients and training.",
                args=list(arguments),
                registry=_REGISTRY,
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise ValueError(_one_line(errors.getvalue())) from None


def _one_line(box: str) -> str:
    """The message of tyro's box: without frame, title and help texts, but with the options it suggests."""
    lines = [re.sub(r"[─-╿]", " ", line) for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]]
    text = " ".join(" ".join(lines).split())
    message, *rest = re.split(r"\s*(?:Argument helptext|For full helptext|Perhaps you meant)", text)
    suggested = [flag for flag in re.findall(r"--[a-z][a-z-]+", rest[0] if rest else "") if flag != "--help"]
    hint = f"; did you mean {' or '.join(dict.fromkeys(suggested))}" if "Perhaps you meant" in text else ""
    return f"{message.rstrip('.')}{hint}; see normscope --help."


@_REGISTRY.primitive_rule
def _comma_separated_or_unset(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """`int | None`, `tuple[float, ...] | None` and the like: None says "left out" and is not an argument."""
    if get_origin(info.type) not in (Union, types.UnionType):
        return None
    inner = [member for member in get_args(info.type) if member is not type(None)]
    if len(inner) != 1:
        return None
    many = get_origin(inner[0]) is tuple
    item = get_args(inner[0])[0] if many else inner[0]
    if item not in (int, float, str):
        return None
    name = item.__name__.upper()

    def read(arguments: list[str]) -> Any:
        try:
            values = tuple(item(text) for text in arguments[0].split(",")) if many else item(arguments[0])
        except ValueError:
            several = " or several separated by commas" if many else ""
            raise ValueError(f"expected {_NUMBERS[item]}{several}, got {arguments[0]!r}") from None
        return values

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{name},..." if many else name,
        instance_from_str=read,
        is_instance=lambda value: value is None or isinstance(value, tuple if many else item),
        str_from_instance=lambda value: ["unset"] if value is None else [str(value)],
    )
