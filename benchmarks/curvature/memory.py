"""Peak memory of this process."""

from __future__ import annotations

import re
import resource
from pathlib import Path

_PROCESS = Path("/proc/self")


def peak_bytes() -> int:
    """The largest resident set since `reset_peak`, or since the start where the system has no /proc.

    Not `ru_maxrss` where that can be avoided: a process inherits it from its parent, which may be larger.
    """
    status = _PROCESS / "status"
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak() -> None:
    """Let the peak start at what is resident now."""
    clear = _PROCESS / "clear_refs"
    if clear.exists():
        clear.write_text("5")
