"""Worker processes on this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, TypeVar

from normscope.study import folder as folders
from normscope.study.engine import Advanced, Failed, Finished, Session, Started, TrialEvent
from normscope.study.plan import Trial

T = TypeVar("T")

_GRACE_SECONDS = 5.0  # for a worker to end by itself once it is told to; less than a new driver waits for it


@dataclass(frozen=True, kw_only=True)
class LocalEngine:
    """Worker processes on this machine, each running one trial at a time and reading the data once.

    With one thread per worker the numbers do not depend on how many workers there are.
    """

    workers: int
    threads_per_worker: int = 1

    def describe(self) -> dict[str, Any]:
        """See `Engine`."""
        return {"engine": "local", "workers": self.workers, "threads_per_worker": self.threads_per_worker}

    def run(self, folder: Path, trials: Sequence[Trial]) -> Generator[TrialEvent]:
        """Hand trials to idle workers; one that dies fails its trial and is replaced. See `Engine`."""
        waiting = deque(trials)
        with contextlib.ExitStack() as stack:
            busy: dict[Connection, _Worker] = {}
            for _ in range(min(self.workers, len(waiting))):
                worker = self._hire(folder, stack)
                busy[worker.connection] = worker
                yield worker.begin(waiting.popleft())
            while busy:
                for connection in wait(list(busy)):
                    assert isinstance(connection, Connection)
                    worker = busy[connection]
                    event = worker.outcome()
                    yield event
                    if isinstance(event, Advanced):
                        continue
                    del busy[connection]
                    if not waiting:
                        continue
                    if not worker.process.is_alive():
                        worker = self._hire(folder, stack)
                    busy[worker.connection] = worker
                    yield worker.begin(waiting.popleft())

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """See `Engine`; OSError where the process dies of it."""
        with contextlib.ExitStack() as stack:
            process, connection = _start(_answer, (self.threads_per_worker, function, arguments), stack)
            try:
                answer = connection.recv()
            except (EOFError, ConnectionResetError):
                process.join()
                raise OSError(f"a first product was tried out, and {_death(process.exitcode)}") from None
        if isinstance(answer, ValueError):
            raise answer
        result: T = answer
        return result

    def _hire(self, folder: Path, stack: contextlib.ExitStack) -> _Worker:
        """Start a worker that is dismissed when the stack unwinds."""
        return _Worker(*_start(_work, (folder, self.threads_per_worker, 1 / self.workers), stack))


@dataclass
class _Worker:
    """The parent's end of a worker process."""

    process: SpawnProcess
    connection: Connection
    trial: Trial | None = None

    def begin(self, trial: Trial) -> Started:
        self.trial = trial
        with contextlib.suppress(BrokenPipeError):  # it died; `outcome` finds out
            self.connection.send(trial.id)
        return Started(trial)

    def outcome(self) -> Advanced | Finished | Failed:
        """What the worker says next; its death is said for it."""
        assert self.trial is not None
        try:
            outcome: Advanced | Finished | Failed = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return Failed(self.trial, _death(self.process.exitcode), fatal=False)
        return outcome


def _start(
    target: Callable[..., None], arguments: tuple[Any, ...], stack: contextlib.ExitStack
) -> tuple[SpawnProcess, Connection]:
    """Start `target(connection, *arguments)` in a process that is dismissed when the stack unwinds."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    with _interrupts_ignored():  # Ctrl-C is the parent's to handle; a child inherits what is ignored
        process.start()
    theirs.close()
    stack.callback(_dismiss, process, ours)
    return process, ours


def _dismiss(process: SpawnProcess, connection: Connection) -> None:
    connection.close()
    process.terminate()
    process.join(_GRACE_SECONDS)
    process.kill()
    process.join()


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = "; the machine may be out of memory, so try fewer workers" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    return f"its process ended with exit code {exitcode}"


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _answer(connection: Connection, threads: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Life of a process that computes one thing: its result goes to the parent, or the user's error."""
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    try:
        answer = function(*arguments)
    except ValueError as error:
        answer = error
    connection.send(answer)


def _work(connection: Connection, folder: Path, threads: int, share: float) -> None:
    """Life of a worker process: trials in, outcomes out, until the parent hangs up or is gone."""
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    try:
        with folders.working(folder), contextlib.suppress(EOFError, BrokenPipeError):
            import torch

            torch.set_num_threads(threads)
            session = Session(folder, share=share)
            while True:
                connection.send(session.attempt(connection.recv(), connection.send))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is leaving


def _leave(number: int, _frame: object) -> None:
    """End by the way out that cleans up: libraries hold semaphores that outlive a process that is cut off.

    From here on the process is mute. The exit can surface in the middle of an import, which may turn it into an error
    of its own (numpy's extension refuses to load twice), and nobody who asked it to leave wants to read that.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    sys.exit(128 + number)


def _die_with(parent: int) -> None:
    """End this process when its parent has ended; a killed parent cannot say goodbye."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)
