"""Where badges are checked: a device, the references, and a pair of processes that are started when first needed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch

from normscope.trust.references import Known
from normscope.trust.torch_layers import REFERENCES


@final
class Pair:
    """Two processes that run one function at the same time, each with its rank; kept until closed."""

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None

    def __call__(self, work: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Results of ``work(rank, store, *arguments)`` for ranks 0 and 1; `store` is the path of a file they share.

        The work must wait for its twin (a collective does), or one process might run both.
        """
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(2, context, initializer=_end_with_parent)
        with tempfile.TemporaryDirectory() as folder:
            store = str(Path(folder) / "store")
            futures = [self._executor.submit(work, rank, store, *arguments) for rank in (0, 1)]
            return [future.result() for future in futures]

    def close(self) -> None:
        """End the processes."""
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None


def _end_with_parent() -> None:
    """Let no process outlive a parent that was killed and could not end it."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@final
@dataclass(frozen=True, kw_only=True)
class Bench:
    """What a badge may use.

    Attributes:
        device: that sites are checked on.
        references: by a row's name, independent formulas of what it computes.
        pair: two processes.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    references: Mapping[str, Known] = field(default_factory=lambda: REFERENCES)
    pair: Pair = field(default_factory=Pair)


@contextlib.contextmanager
def bench(device: torch.device, *, pair: Pair | None = None, **options: Any) -> Iterator[Bench]:
    """A bench. Its processes end with the block, unless the `pair` is somebody else's."""
    own = Pair()
    try:
        yield Bench(device=device, pair=pair or own, **options)
    finally:
        own.close()
