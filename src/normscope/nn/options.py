"""What an option of a row may be, as data: a check of one value, and the words that a refusal uses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, final


class Domain(Protocol):
    """The values an option may take."""

    @property
    def words(self) -> str:
        """What they are, after "must be"."""

    def accepts(self, value: Any) -> bool:
        """Whether this is one of them."""


@final
@dataclass(frozen=True)
class Among:
    """One of a few names."""

    choices: tuple[str, ...]

    @property
    def words(self) -> str:
        """See `Domain`."""
        return f"one of {', '.join(self.choices)}"

    def accepts(self, value: Any) -> bool:
        """See `Domain`."""
        return value in self.choices


@final
@dataclass(frozen=True)
class Flag:
    """True or False; or None if `optional`."""

    optional: bool = False

    @property
    def words(self) -> str:
        """See `Domain`."""
        return "True, False or None" if self.optional else "True or False"

    def accepts(self, value: Any) -> bool:
        """See `Domain`."""
        return isinstance(value, bool) or (self.optional and value is None)


@final
@dataclass(frozen=True)
class Number:
    """A finite number from `low` on, up to `high` if that is given; a whole one if `whole`; or None if `optional`."""

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    optional: bool = False

    @property
    def words(self) -> str:
        """See `Domain`."""
        if self.high < math.inf:
            text = f"between {self.low:g} and {self.high:g}"
        else:
            kind = "a whole number" if self.whole else "a finite number"
            text = kind if self.low == -math.inf else f"{kind} of at least {self.low:g}"
        return f"{text}, or None" if self.optional else text

    def accepts(self, value: Any) -> bool:
        """See `Domain`."""
        if value is None:
            return self.optional
        kinds = int if self.whole else (int, float)
        number = isinstance(value, kinds) and not isinstance(value, bool)
        return number and math.isfinite(value) and self.low <= value <= self.high


@final
@dataclass(frozen=True)
class Power:
    """1, 2 or "inf"."""

    @property
    def words(self) -> str:
        """See `Domain`."""
        return "1, 2 or 'inf'"

    def accepts(self, value: Any) -> bool:
        """See `Domain`."""
        return not isinstance(value, bool) and value in (1, 2, "inf")


@final
@dataclass(frozen=True)
class Setting:
    """An option that one row has for itself: its name, its value, and the values it may take."""

    name: str
    value: Any
    domain: Domain
