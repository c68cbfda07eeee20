"""Python's signal handlers, held back for a few statements that must not be cut in two."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # CPython's own, and no library stub
import signal
import threading
from types import FrameType
from typing import Any

from waitkit.engine.forks import on_fork_in_child

__all__ = ["SignalsHeld"]


class SignalsHeld:
    """A block in which no signal handler of Python runs; those that would have, run when it is left.

    Between the start of a child and the note that it is ours, a ``KeyboardInterrupt`` would leave a process that nobody
    knows. Blocking signals by the mask of the thread is no way: a child inherits the mask. So each handler is replaced by
    one that takes a note. Handlers run in the main thread alone; elsewhere there is nothing to hold.

    The functions behind those of the module ``signal`` are called: with theirs, which make enums, this took 65 us, a twentieth
    of starting and ending a small program.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._noted: dict[int, FrameType | None] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        _held.append(self)
        # A signal that comes in this loop is handled, or held; either is right, as nothing has been started yet.
        for number in _handled():
            self._handlers[number] = _signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted.setdefault(number, frame)

    def __exit__(self, *exc: object) -> None:
        handlers, noted = self._handlers, self._noted
        self._noted = {}
        self.let_go()
        for number, frame in noted.items():
            # Called, not raised anew: an event loop has heard of the signal already, by its file descriptor.
            handlers[number](number, frame)

    def let_go(self) -> None:
        """Put the handlers back."""
        handlers, self._handlers = self._handlers, {}
        for number, handler in handlers.items():
            _signal.signal(number, handler)
        if self in _held:
            _held.remove(self)


_held: list[SignalsHeld] = []

# Not all that exist: to ask for each of the 64 takes longer than to start a small program.
_NUMBERS = [
    int(getattr(signal, name))
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
]


def _handled() -> list[int]:
    """Those of the signals by which people and programs are interrupted that have a handler in Python."""
    return [number for number in _NUMBERS if callable(_signal.getsignal(number))]


@on_fork_in_child
def _let_go() -> None:
    """What a fork inherited: its handlers are to be the real ones. A signal noted so far was sent to the parent."""
    for held in _held.copy():
        held.let_go()
