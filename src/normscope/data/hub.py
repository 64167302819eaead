"""Data sets that Hugging Face `datasets` reads: a local directory or a hub id."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from normscope.data.source import require

_TIMEOUT = 10.0  # seconds to ask the hub whether it has the data set


def fetch(name: str, *, streaming: bool = False) -> Any:
    """Return the `DatasetDict` of a local directory or of a hub id, downloading what is not cached.

    Args:
        name: a directory's path, or a hub id, with ``:name`` after it where the data set has several configurations.
        streaming: return an `IterableDatasetDict`, which reads what is iterated over and stores nothing.

    Raises:
        ValueError: it cannot be found, reached or read; one line that says why and what to do.
    """
    datasets = require("datasets")
    path = Path(name).expanduser()
    identity, _, configuration = (str(path), "", "") if path.is_dir() else name.partition(":")
    with _quietly(datasets):
        if not path.is_dir():
            _check_hub(identity)
        try:
            return datasets.load_dataset(identity, configuration or None, streaming=streaming)
        except Exception as error:  # every file format has its own; all of them mean the data are not readable
            raise ValueError(
                f"it cannot be read ({_one_line(error)}). Check that no file is empty and that "
                "datasets.load_dataset reads it by itself."
            ) from error


def _check_hub(name: str) -> None:
    """Ask the hub once. `load_dataset` alone would retry for half a minute before it says that it is offline."""
    hub = require("huggingface_hub")
    if hub.constants.HF_HUB_OFFLINE:
        return  # the cache is asked instead
    try:
        hub.HfApi().dataset_info(name, timeout=_TIMEOUT)
    except (hub.errors.RepositoryNotFoundError, hub.errors.HFValidationError) as error:
        raise ValueError(
            "it is neither a directory here nor public on the Hugging Face hub. Check the spelling: data come from a "
            "local directory by its path, or over the network by a hub id (a private one after `hf auth login`)."
        ) from error
    except Exception as error:  # no network, proxies, certificates, outages: a different class for each client library
        raise ValueError(
            f"it is not a directory here, and the Hugging Face hub cannot be asked ({_one_line(error)}). "
            "Use a local directory, or set HF_HUB_OFFLINE=1 if it was downloaded before; a hub id needs the network."
        ) from error


@contextlib.contextmanager
def _quietly(datasets: Any) -> Iterator[None]:
    """Without the progress bars and the log lines of the two libraries, which would tear a live table."""
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _one_line(error: BaseException) -> str:
    """The first cause, which says more than "an error occurred", by its first and last line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ... ".join(dict.fromkeys([lines[0], lines[-1]])).rstrip(".")
