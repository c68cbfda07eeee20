"""Just one process and its tree, whoever may get its number later."""

from __future__ import annotations

import os
import signal
import time

from waitkit.engine.locks import ForkSafeLock
from waitkit.engine.owned import OwnedDescriptor
from waitkit.processes import tree
from waitkit.processes.guardian import Guarded

__all__ = ["KILL", "Identity"]

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)

#: In so many seconds no machine gives away all numbers there are (32,768 at least) and begins anew.
_YOUNG = 0.5
_FEW = 100

_HAS_PROC = os.path.isdir("/proc/self")


class Identity:
    """Just this process and its tree, whoever may get its number later."""

    __slots__ = ("_born", "_lock", "_pidfd", "guarded", "pid")

    def __init__(self, pid: int, guarded: Guarded) -> None:
        self.pid = pid
        self.guarded = guarded
        self._born = time.monotonic()
        # Guards the pidfd: closed by one thread, its number could be another process's when the next one sends.
        self._lock = ForkSafeLock()
        self._pidfd: OwnedDescriptor | None = None
        if hasattr(os, "pidfd_open"):
            try:
                self._pidfd = OwnedDescriptor(os.pidfd_open(pid))
            except OSError:  # an old kernel, or somebody has reaped it already
                pass
        guarded.started(pid)

    def send(self, number: int) -> None:
        """Send it a signal; nothing happens where it has just ended."""
        with self._lock:
            try:
                if self._pidfd is not None:
                    signal.pidfd_send_signal(self._pidfd.fileno(), number)
                elif not hasattr(os, "pidfd_open"):
                    os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def members(self) -> dict[int, tree.Facts]:
        """The living processes of its tree."""
        return tree.members(self.guarded.root, self._candidates())

    def _candidates(self) -> list[int] | None:
        """Who can be a descendant of a young process: those who got their number after it. ``None``: anybody."""
        if time.monotonic() - self._born <= _YOUNG:
            last = tree.last_pid()
            if self.pid <= last <= self.pid + _FEW:
                return list(range(self.pid + 1, last + 1))
        self._note_start()
        return None

    def _note_start(self) -> None:
        """Know the root by its start from now on: it may have lost its mark, and its number may become another's."""
        root = self.guarded.root
        with self._lock:
            if root.start or self._pidfd is None:
                return
            facts = tree.facts_of(self.pid)
            try:
                signal.pidfd_send_signal(self._pidfd.fileno(), 0)
            except ProcessLookupError:  # it was reaped, so this may be somebody else
                return
            except PermissionError:  # it became another user's
                pass
            root.start = 0 if facts is None else facts.start

    def kill_tree(self) -> dict[int, tree.Facts]:
        """Kill it and all of its tree. Returns whom; they may take a moment to be gone."""
        if not _HAS_PROC:
            self.send(KILL)
            _kill_session(self.pid)
            return {}
        return tree.kill_members(self.guarded.root, self._candidates)

    def close(self) -> None:
        """Its tree is gone."""
        self.guarded.gone()
        with self._lock:
            pidfd, self._pidfd = self._pidfd, None
            if pidfd is not None:
                pidfd.close()


def _kill_session(session: int) -> None:
    """Where there is no ``/proc``: kill what stayed in the session, until nobody is new."""
    import psutil

    before: set[int] = set()
    while True:
        members = set()
        for pid in psutil.pids():
            try:
                if pid != session and os.getsid(pid) == session:
                    members.add(pid)
                    os.kill(pid, KILL)
            except (ProcessLookupError, PermissionError):
                pass
        if members <= before:
            return
        before |= members
