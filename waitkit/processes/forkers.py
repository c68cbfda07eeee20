"""Threads that may be in the middle of a fork."""

from __future__ import annotations

import os
import threading

from waitkit.engine.clock import SystemClock
from waitkit.ground.durations import MILLISECOND
from waitkit.processes import tree

__all__ = ["Forkers"]

_PATIENCE = 100 * MILLISECOND
#: For so long a fork has a processor, in nanoseconds: whatever it takes, and for each page of memory that it copies the table of
#: (measured: 100 to 210).
_LONGEST_FORK = MILLISECOND
_PER_PAGE = 500


class Forkers:
    """Threads that may still be in the middle of a fork that they began before they were added.

    A fork copies the limits at its beginning, and gives the child its number at its end. In between it copies the tables of the
    memory, and may have to wait for a processor. Who sleeps is in no fork; who runs is in that one no more when he has had a
    processor for longer than a fork takes.
    """

    def __init__(self) -> None:
        #: by the folder that tells of a thread: at how much processor time it is done
        self._until: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._until)

    def add(self, pid: int) -> None:
        """Add the threads of a process that do not sleep, but for this one."""
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
        except OSError:  # gone
            return
        me = str(threading.get_native_id())
        for task in tasks:
            folder = f"/proc/{pid}/task/{task}"
            if task != me and not _sleeps(folder):
                # Our own threads either hold the lock of the interpreter while they fork, or copy no memory.
                pages = 0 if pid == os.getpid() else int((tree.read(f"{folder}/statm") or b"0 0").split()[1])
                self._until[folder] = _processor_time_of(folder) + _LONGEST_FORK + _PER_PAGE * pages

    def let_finish(self) -> None:
        """Give up the processor until none of them can be in that fork any more; one who gets none is not waited for long."""
        until = SystemClock.now() + _PATIENCE
        while self._until:
            for folder, done in [*self._until.items()]:
                if _sleeps(folder) or _processor_time_of(folder) >= done:
                    del self._until[folder]
            if self._until and SystemClock.now() >= until:
                self._until.clear()
            os.sched_yield()


def _sleeps(folder: str) -> bool:
    """Whether a thread sleeps, has stopped, or is gone."""
    return tree.read(f"{folder}/stat").rpartition(b") ")[2][:1] not in (b"R", b"D")


def _processor_time_of(folder: str) -> int:
    """How long a thread has had a processor, in nanoseconds, as of the last tick; without end where that is not told."""
    text = tree.read(f"{folder}/schedstat").split()
    return int(text[0]) if text else 1 << 63
