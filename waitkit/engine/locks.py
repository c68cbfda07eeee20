"""What keeps threads apart, and neither a fork nor Ctrl-C can leave locked for ever: a lock, and a token."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from waitkit.engine.forks import reset_in_child

if TYPE_CHECKING:
    from threading import _RLock as RLock
else:
    RLock = type(threading.RLock())

__all__ = ["ForkSafeLock", "Token"]


class ForkSafeLock(RLock):  # type: ignore[misc]  # final in typeshed, not in CPython
    """A re-entrant lock that starts afresh in a forked child, where the thread that held it does not exist.

    For locks held for a few statements, with no call of user code inside; so no thread forks while it holds one. Entering and
    leaving are the C code of ``RLock``: in Python code Ctrl-C could come between taking the lock and the ``with`` block, or
    between the block and giving it up.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        reset_in_child(self, ForkSafeLock._at_fork_reinit)  # type: ignore[attr-defined]


class Token:
    """Something that one of all who want it may take. Nobody waits for it, and nothing of it can be left locked."""

    __slots__ = ("_there",)

    def __init__(self) -> None:
        self._there = [True]

    def take(self) -> bool:
        """Whether the caller has got it: one operation, of threads and signal handlers alike."""
        try:
            return self._there.pop()
        except IndexError:
            return False

    def give_back(self) -> None:
        """Let the next one have it."""
        self._there.append(True)
