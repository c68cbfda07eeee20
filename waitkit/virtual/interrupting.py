"""How the main thread is got out of foreign code that it blocks in: by a signal of our own, whose handler raises."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["Interrupter"]

#: Signals that hardly anybody uses; of these, the first that is free. Not SIGINT: others have their own idea of it. pytest ends
#: the whole run, and a runner of asyncio cancels its task and goes on waiting for that.
_CANDIDATES: Final = [
    *(range(signal.SIGRTMAX - 1, signal.SIGRTMIN, -1) if hasattr(signal, "SIGRTMAX") else ()),
    *(getattr(signal, name) for name in ("SIGUSR2", "SIGUSR1") if hasattr(signal, name)),
]


class Interrupter:
    """Nothing but a signal ends what the main thread blocks in; here is one, from the beginning of a block to its end.

    Args:
        still_blocked: asked in the main thread, which may have come out of it meanwhile.
    """

    def __init__(self, still_blocked: Callable[[], bool]) -> None:
        self._still_blocked = still_blocked
        self._signal: int | None = None
        self._error: Exception | None = None

    def install(self) -> None:
        """Take a signal. Only the main thread can; where another one enters the block there is none."""
        if threading.current_thread() is threading.main_thread():
            free = next((number for number in _CANDIDATES if signal.getsignal(number) is signal.SIG_DFL), None)
            if free is not None:
                self._signal = free
                signal.signal(free, self._raise)

    def remove(self) -> None:
        """Give it back. It may be called again."""
        if self._signal is not None:
            signal.signal(self._signal, signal.SIG_DFL)
            self._signal = None

    def _raise(self, *_: object) -> None:
        error, self._error = self._error, None
        if error is not None and self._still_blocked():
            raise error

    def interrupt(self, error: Exception) -> None:
        """Have *error* raised in the main thread, wherever it is.

        Without a signal of our own it is Ctrl-C, and whoever catches that has to find the error.
        """
        main = threading.main_thread().ident
        assert main is not None
        self._error = error
        signal.pthread_kill(main, signal.SIGINT if self._signal is None else self._signal)
