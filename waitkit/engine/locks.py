"""A lock that a fork cannot leave locked for ever."""

from __future__ import annotations

import threading

from waitkit.engine.forks import generation

__all__ = ["ForkSafeLock"]


class ForkSafeLock:
    """A re-entrant lock that starts afresh in a forked child, where the thread that held it does not exist.

    For locks held for a few statements, with no call of user code inside; so no thread forks while it holds one.
    """

    __slots__ = ("_generation", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._generation = generation()

    def __enter__(self) -> None:
        if self._generation != generation():
            self._lock = threading.RLock()
            self._generation = generation()
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()
