"""The output of a process, handed on as it comes: to a file, or line by line to a logger."""

from __future__ import annotations

import io
import os
from collections import deque
from typing import IO, TYPE_CHECKING, Final, TypeAlias

from waitkit.conditions.own import Event
from waitkit.engine.background import CannotStart, start_thread
from waitkit.engine.locks import ForkSafeLock
from waitkit.processes.tee_writers import writer_to

if TYPE_CHECKING:
    import logging

__all__ = ["Tee", "TeeTarget", "check_tee"]

TeeTarget: TypeAlias = "str | os.PathLike[str] | IO[str] | IO[bytes] | logging.Logger"

_END: Final = "the end"  # in the place of a stream: nothing more will come
_MOST_WAITING: Final = 16 * 1024 * 1024


class Tee:
    """Takes what was read, and writes it in a thread of its own: a slow logger holds nobody up.

    ``_lock`` guards the queue and ``_running``. The thread ends when there is nothing to write. What waits is bounded by
    16 MiB; beyond that the oldest is dropped, and the gap is told.
    """

    def __init__(self, name: str, target: TeeTarget) -> None:
        self._name = name
        self._writer = writer_to(target, name)
        self._lock = ForkSafeLock()
        self._queue: deque[tuple[str, bytes]] = deque()
        self._waiting = 0
        self._dropped = 0
        self._running = False
        #: set when all that the process wrote has been handed on
        self.handed_on = Event(f"the output of {name} to be handed on")

    def __call__(self, stream: str, chunk: bytes) -> None:
        with self._lock:
            self._queue.append((stream, chunk))
            self._waiting += len(chunk)
            while self._waiting > _MOST_WAITING:
                _, dropped = self._queue.popleft()
                self._waiting -= len(dropped)
                self._dropped += len(dropped)
            if self._running:
                return
            self._running = True
        try:
            start_thread("tee", self._run, otherwise=self._not_running)
        except CannotStart:  # the interpreter is going down: then here
            self._running = True
            self._run()

    def _not_running(self) -> None:
        self._running = False

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._running = False
                    return
                stream, chunk = self._queue.popleft()
                self._waiting -= len(chunk)
                dropped, self._dropped = self._dropped, 0
            try:
                if dropped:
                    self._write(stream, f"[{dropped} bytes were lost here]\n".encode())
                self._write(stream, chunk)
            except Exception:  # noqa: BLE001 - of the user's file or logger; the process goes on
                self._complain()

    def _write(self, stream: str, chunk: bytes) -> None:
        if stream != _END:
            self._writer.write(stream, chunk)
            return
        try:
            self._writer.finish()
        finally:
            self.handed_on.set()

    def _complain(self) -> None:
        import logging

        logging.getLogger("waitkit").exception("the output of %s could not be handed on", self._name)

    def finish(self) -> None:
        """The process is gone: hand on the last line, though no line break ended it."""
        self(_END, b"")


def check_tee(tee: TeeTarget | None) -> TeeTarget | None:
    """What ``tee=`` says. Whether a path can be written to shows when the process is started.

    Raises:
        TypeError: it is nothing that can be written to.
        ValueError: it is a file that was closed, or opened for reading alone.
    """
    if tee is None or isinstance(tee, str | os.PathLike):
        return tee
    if callable(getattr(tee, "write", None)):
        if getattr(tee, "closed", False) is True:
            raise ValueError(f"tee={tee!r} is a file that was closed")
        if isinstance(tee, io.IOBase) and not tee.writable():
            raise ValueError(f"tee={tee!r} was opened for reading: give one opened by 'w' or 'a'")
        return tee
    if callable(getattr(tee, "log", None)) and hasattr(tee, "handlers"):
        return tee
    raise TypeError(f"tee={tee!r} cannot be written to: give a path, a file, or a logging.Logger")
