"""The one way a file is written here: whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Write beside the place, sync, then rename into it; what was begun and failed is removed.

    Raises:
        OSError: the disk is full, or the folder cannot be written to; what stood at `path` still stands.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:  # also when the process is told to stop
        beside.unlink(missing_ok=True)
        raise
