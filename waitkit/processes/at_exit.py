"""The processes that run, so that none is left behind where the interpreter ends first."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waitkit.processes.managed import ManagedProcess

__all__ = ["is_running", "not_running", "running"]

_running: weakref.WeakSet[ManagedProcess] = weakref.WeakSet()


def running(process: ManagedProcess) -> None:
    """It has been started."""
    _running.add(process)
    # multiprocessing joins its children at exit: be before it.
    atexit.unregister(_kill_all)
    atexit.register(_kill_all)


def is_running(process: ManagedProcess) -> bool:
    """Whether it was started, and something may be left of it."""
    return process in _running


def not_running(process: ManagedProcess) -> None:
    """Nothing is left of it."""
    _running.discard(process)


def _kill_all() -> None:
    """A block still open when the interpreter ends (in a generator, in a daemon thread) leaves no process behind."""
    for process in list(_running):
        if process._supervision is not None:
            process._supervision.withdraw()
        life = process._life
        if life is not None and process._owner == os.getpid() and not life.over:
            life.kill()
