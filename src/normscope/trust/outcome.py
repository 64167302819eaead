"""What a badge is and what it says of a row: data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, final

if TYPE_CHECKING:
    from normscope.trust.bench import Bench
    from normscope.trust.specimen import Row

State = Literal["passed", "failed", "does not apply", "not run here"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was found.

    Attributes:
        state: passed, failed, does not apply (to the row, by its definition), or not run here (on this machine).
        measured: the worst number found, in the badge's unit; None where nothing was measured.
        bound: what `measured` must not exceed.
        reason: why it does not apply or was not run, what went wrong, or where `measured` was found.
    """

    state: State
    measured: float | None = None
    bound: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        number = "" if self.measured is None else f"{self.measured:.2g}"
        if self.bound is not None:
            number += f" of at most {self.bound:.2g}"
        return ", ".join(part for part in (self.state, number, self.reason) if part)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """One thing that a row can be trusted with.

    Attributes:
        name: a short word, the head of its column.
        says: what a pass means, in one line.
        check: looks at a row on a bench.
        slow: whether it takes tens of seconds rather than one.
    """

    name: str
    says: str
    check: Callable[[Row, Bench], Outcome]
    slow: bool = False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One badge of one row, and how long it took."""

    normalizer: str
    badge: str
    outcome: Outcome
    seconds: float


class Finding(NamedTuple):
    """A number and where it was found."""

    value: float
    where: str


def judged(findings: Iterable[Finding], bound: float, *, note: str = "") -> Outcome:
    """Pass if the worst of the findings is within the bound; not a number is worse than any number."""
    worst = max(findings, key=lambda finding: math.inf if math.isnan(finding.value) else finding.value)
    passed = worst.value <= bound
    reason = "; ".join(part for part in (note, "" if passed else f"worst at {worst.where}") if part)
    return Outcome(state="passed" if passed else "failed", measured=worst.value, bound=bound, reason=reason)


def failed(reason: str) -> Outcome:
    """Say what went wrong where there is no number for it."""
    return Outcome(state="failed", reason=reason)


def inapplicable(reason: str, *, measured: float | None = None) -> Outcome:
    """Say why there is nothing for the row to pass or fail, and what was measured all the same."""
    return Outcome(state="does not apply", measured=measured, reason=reason)


def not_run(reason: str) -> Outcome:
    """Say what this machine lacks."""
    return Outcome(state="not run here", reason=reason)
