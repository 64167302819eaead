"""What a data set may be called."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from normscope.data.source import declaration, digits

EXAMPLES = {"digits": digits}
TEXTS = {"declaration": declaration}
BUILT_IN = (*EXAMPLES, *TEXTS)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


def check_name(name: str) -> None:
    """Refuse what is no built-in data set, directory or hub id; ValueError names the close ones and the ways."""
    path = Path(name).expanduser()
    if name in BUILT_IN or path.is_dir() or _HUB_ID.fullmatch(name):
        return
    nearby = [*BUILT_IN, *(str(entry) for entry in path.parent.glob("[!.]*") if entry.is_dir())]
    close = difflib.get_close_matches(name, nearby, n=3)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    what = "a file, not a directory" if path.is_file() else "no built-in data set, directory or hub id"
    raise ValueError(
        f"Unknown data set: {name!r} is {what}.{hint} Use {', '.join(BUILT_IN)}, the path of a directory that "
        "datasets.load_dataset reads, or a hub id such as uoft-cs/cifar10."
    )


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Errors within begin with the data set's name."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"Data set {name!r}: {error}") from error


def check_options(
    *, image_size: int | None, sequence_length: int | None, vocabulary: int | None, **limits: int | None
) -> None:
    """Refuse sizes below 1, and options of images and of texts together; ValueError."""
    sizes = {**limits, "image_size": image_size, "sequence_length": sequence_length}
    for argument, value in sizes.items():
        if value is not None and value < 1:
            remedy = " Leave it out to use every example." if argument.startswith("max_") else ""
            raise ValueError(f"{argument} must be at least 1, got {value}.{remedy}")
    if vocabulary is not None and sequence_length is None:
        raise ValueError("vocabulary is for texts, which need a sequence_length too. Give one, or leave it out.")
    if image_size is not None and sequence_length is not None:
        raise ValueError("image_size is for images and sequence_length for texts. Leave one out.")
