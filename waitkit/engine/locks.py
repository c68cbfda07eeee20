"""A lock that neither a fork nor Ctrl-C can leave locked for ever."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from waitkit.engine.forks import on_fork_in_child

if TYPE_CHECKING:
    from threading import _RLock as RLock
else:
    RLock = type(threading.RLock())

__all__ = ["ForkSafeLock"]


class ForkSafeLock(RLock):  # type: ignore[misc]  # final in typeshed, not in CPython
    """A re-entrant lock that starts afresh in a forked child, where the thread that held it does not exist.

    For locks held for a few statements, with no call of user code inside; so no thread forks while it holds one. Entering and
    leaving are the C code of ``RLock``: in Python code Ctrl-C could come between taking the lock and the ``with`` block, or
    between the block and giving it up.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        _locks.add(self)


_locks: Final[WeakSet[ForkSafeLock]] = WeakSet()


@on_fork_in_child
def _start_afresh() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # type: ignore[attr-defined]
