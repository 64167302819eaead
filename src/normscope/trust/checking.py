"""Badges of rows, one after the other."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from normscope.trust.bench import bench
from normscope.trust.compilation import COMPILE
from normscope.trust.derivatives import GRADCHECK, GRADGRADCHECK, HESSIAN
from normscope.trust.distribution import DDP
from normscope.trust.outcome import Badge, Outcome, Result, failed
from normscope.trust.precision import HALF
from normscope.trust.specimen import Row
from normscope.trust.values import CHANNELS_LAST, EVAL, REFERENCE, STATE_DICT

BADGES = (REFERENCE, GRADCHECK, GRADGRADCHECK, HESSIAN, HALF, CHANNELS_LAST, COMPILE, DDP, STATE_DICT, EVAL)


@final
@dataclass(frozen=True, slots=True)
class Environment:
    """What the outcomes hold for: versions and device."""

    torch: str
    python: str
    device: str


def environment(device: torch.device) -> Environment:
    """The environment of this process."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() or "unknown"
    return Environment(
        torch=torch.__version__, python=platform.python_version(), device=f"{device.type} ({platform.system()}, {name})"
    )


def check(
    rows: Sequence[Row],
    badges: Sequence[Badge] = BADGES,
    *,
    device: torch.device | str = "cpu",
    listen: Callable[[str, str], None] = lambda _row, _badge: None,
    **options: Any,
) -> tuple[Result, ...]:
    """Check badges of rows on this machine, row by row.

    Args:
        rows: those of `normscope.normalizers()`, or others with a name, couples_batch, site and affine.
        badges: which.
        device: that sites are checked on; DDP is checked on the CPU.
        listen: called with the names of the row and the badge before each.
        options: `references` and `pair` of the bench, in place of its own.

    Returns:
        One result for each row and badge. A badge that raises has failed, and the error is its reason.
    """
    results = []
    with bench(torch.device(device), **options) as made, torch.random.fork_rng(devices=[]):
        for row in rows:
            for badge in badges:
                listen(row.name, badge.name)
                began = time.monotonic()
                outcome = _outcome(lambda row=row, badge=badge: badge.check(row, made))  # type: ignore[misc]
                seconds = time.monotonic() - began
                results.append(Result(normalizer=row.name, badge=badge.name, outcome=outcome, seconds=seconds))
    return tuple(results)


def _outcome(run: Callable[[], Outcome]) -> Outcome:
    try:
        return run()
    except Exception as error:  # whatever a row raises is what its user would meet
        text = " ".join(str(error).split())
        return failed(f"{type(error).__name__}: {text[:200]}{'...' if len(text) > 200 else ''}")


def select(names: Sequence[str] | None = None) -> tuple[Badge, ...]:
    """Badges by name, in their own order; all of them for None.

    Raises:
        ValueError: a name that no badge has.
    """
    known = [badge.name for badge in BADGES]
    if names is None:
        return BADGES
    for name in names:
        if name not in known:
            raise ValueError(f"Unknown badge {name!r}; choose from {', '.join(known)}.")
    return tuple(badge for badge in BADGES if badge.name in names)
