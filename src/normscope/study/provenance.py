"""With what a run was made: versions, machine, source."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import normscope

# Whatever computes, reads or stores a number.
_LIBRARIES = (
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "datasets",
    "tokenizers",
    "scikit-learn",
    "pillow",
    "matplotlib",
    "safetensors",
    "lightning-fabric",
)
_PACKAGE = Path(normscope.__file__).parent


def describe(*, command: str, device: str, engine: dict[str, Any]) -> dict[str, Any]:
    """Provenance of a session that starts now, as `provenance.json` holds it."""
    return {
        "command": command,
        "normscope": normscope.__version__,
        "source_sha256": source_sha256(),
        "git": _git_revision(),
        "libraries": {name: version for name in _LIBRARIES if (version := _version(name))},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "device": device,
        **engine,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def source_sha256() -> str:
    """SHA-256 over the package's Python files, in order of their paths."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(_PACKAGE).as_posix()}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> dict[str, Any] | None:
    """Commit of the checkout this package is run from; None where it is installed, or git is not there."""
    tracked = _git("ls-files", "--error-unmatch", "__init__.py")
    revision = _git("rev-parse", "HEAD") if tracked is not None else None
    if revision is None:
        return None
    return {"revision": revision, "dirty": bool(_git("status", "--porcelain", "--", "."))}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(_PACKAGE), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
