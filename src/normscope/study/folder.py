"""The run folder: where its files lie, how they are written, sealed and checked.

    OUT/compare-<id>/
        recipe.json  provenance.json  data.json  figures/  report.html  COMPLETED
        trials/<trial id>/  trial.json  rows.jsonl (live)  rows.parquet (at rest)  COMPLETED

Every file but the live rows is written beside its place, synced and renamed, so that what is there is whole.
`COMPLETED` comes last and holds the SHA-256 of what it seals; a folder without one is unfinished, never wrong.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from normscope import files

RECIPE = "recipe.json"
PROVENANCE = "provenance.json"
DATA = "data.json"
REPORT = "report.html"
TRIALS = "trials"
TRIAL = "trial.json"
LIVE_ROWS = "rows.jsonl"
ROWS = "rows.parquet"
COMPLETED = "COMPLETED"
ERROR = "error.txt"
CHECKPOINT = "checkpoint.safetensors"
REFUSED = "checkpoint.refused.txt"
_DRIVER_LOCK = ".driver.lock"
_WORKER_LOCK = ".workers.lock"
_GLANCE_SECONDS = 0.5  # somebody who asks `is_driven` holds the lock for an instant
_ORPHAN_SECONDS = 10.0  # a worker sees within a second that its parent is gone


class _Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of COMPLETED."""

    sha256: dict[str, str]
    seconds: float


def write_json(path: Path, content: Any) -> None:
    """Write a plain value as indented JSON."""
    files.write(path, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; ValueError with the remedy where the file is missing or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; {_REMEDY_RUN}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ValueError(f"{path} is damaged: it is not a JSON object; {_REMEDY_RUN}") from None


_REMEDY_RUN = "put it back, or move the run folder away and run the comparison again."


def seal(folder: Path, names: Iterable[str], *, seconds: float = 0.0) -> None:
    """Declare the folder finished: write COMPLETED with the SHA-256 of the named files."""
    sums = {name: _sha256(folder / name) for name in names}
    write_json(folder / COMPLETED, msgspec.to_builtins(_Seal(sums, seconds)))


def is_sealed(folder: Path) -> bool:
    """Whether the folder was finished (its files are not looked at)."""
    return (folder / COMPLETED).is_file()


def check_seal(folder: Path, *, remedy: str) -> float:
    """Compare the files of a finished folder with COMPLETED; return the seconds its work took.

    Raises ValueError naming the file and the remedy where one was changed or is gone.
    """
    try:
        sealed = msgspec.json.decode((folder / COMPLETED).read_bytes(), type=_Seal)
    except msgspec.DecodeError:
        raise ValueError(f"{folder / COMPLETED} is damaged: it holds no checksums; {remedy}") from None
    for name, expected in sealed.sha256.items():
        try:
            found = _sha256(folder / name)
        except FileNotFoundError:
            raise ValueError(f"{folder / name} is missing; {remedy}") from None
        if found != expected:
            raise ValueError(f"{folder / name} is damaged: its SHA-256 is not the one in COMPLETED; {remedy}")
    return sealed.seconds


def check_trial(folder: Path) -> float:
    """`check_seal` for a trial's folder."""
    return check_seal(folder, remedy=f"remove the folder {folder} and run the comparison again to redo this trial.")


def check_run(folder: Path) -> None:
    """`check_seal` for a run folder: the recipe, the provenance and the description of the data."""
    check_seal(folder, remedy=_REMEDY_RUN)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_run_folder(path: Path) -> bool:
    """Whether a recipe lies in it."""
    return (path / RECIPE).is_file()


def run_folders(path: Path) -> list[Path]:
    """Every run folder at or below `path`, sorted; ValueError where there is none."""
    if not path.exists():
        raise ValueError(f"there is no folder {path}; name a run folder, or a folder of runs such as runs/.")
    found = [path] if is_run_folder(path) else sorted(file.parent for file in path.rglob(RECIPE))
    if not found:
        raise ValueError(f"no run lies in or below {path}; `normscope compare --out {path}` would make one.")
    return found


@contextlib.contextmanager
def driving(folder: Path) -> Iterator[None]:
    """Make the run folder where it is missing and hold it as its only driver, until the block ends or the process dies.

    Workers that outlived a killed driver are waited for, so that nobody writes into a trial that is begun again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _DRIVER_LOCK).open("ab") as driver, (folder / _WORKER_LOCK).open("ab") as workers:
        if not _lock(driver.fileno(), patience=_GLANCE_SECONDS):
            raise ValueError(_driven(folder))
        if not _lock(workers.fileno(), patience=_ORPHAN_SECONDS):
            raise ValueError(f"workers of an earlier run still write into {folder}; stop them first.")
        fcntl.flock(workers.fileno(), fcntl.LOCK_UN)
        yield


def is_driven(folder: Path) -> bool:
    """Whether a living process holds the run folder."""
    lock = folder / _DRIVER_LOCK
    if not lock.exists():
        return False
    with lock.open("rb") as file:
        return not _lock(file.fileno(), patience=0.0)


def refuse_driven(folder: Path) -> None:
    """ValueError where a living process holds the run folder."""
    if is_driven(folder):
        raise ValueError(_driven(folder))


def _driven(folder: Path) -> str:
    return f"another process is running the comparison in {folder}; wait for it, or stop it first."


@contextlib.contextmanager
def working(folder: Path) -> Iterator[None]:
    """Declare this process a worker of the run folder, until the block ends or the process dies."""
    with (folder / _WORKER_LOCK).open("ab") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_SH)
        yield


def _lock(descriptor: int, *, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        else:
            return True
