"""Threads of waitkit's own: started when first needed, few, daemonic, and gone when idle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from waitkit.ground.durations import SECOND

__all__ = ["LINGER", "REAL", "CannotStart", "start_thread"]

#: How long an idle thread stays for the next piece of work. A process that is done waiting has no thread of ours,
#: so a later fork finds none.
LINGER: Final = 2 * SECOND


class CannotStart(RuntimeError):
    """No thread can be started: the interpreter is shutting down, or the system refuses. Callers look instead of listening."""


#: An attribute of threads that wait for what is outside of the program: virtual time does not concern them.
REAL: Final = "_waitkit_real"


def start_thread(name: str, run: Callable[[], None], *, real: bool = False) -> threading.Thread:
    """Start a daemon thread named ``waitkit-<name>``; *real* marks it as one that virtual time does not concern.

    Raises:
        CannotStart: the interpreter is going down (3.12 and later refuse new threads then) or the limit is reached.
    """
    thread = threading.Thread(target=run, name=f"waitkit-{name}", daemon=True)
    setattr(thread, REAL, real)
    try:
        thread.start()
    except RuntimeError as error:
        raise CannotStart(str(error)) from error
    return thread
