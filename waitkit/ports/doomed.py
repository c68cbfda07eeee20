"""The processes that are to be ended, with all they have started: found, signalled and awaited, never a stranger."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from waitkit.conditions.condition import Condition, all_of, as_condition
from waitkit.conditions.processes import ProcessExited
from waitkit.engine.clock import now
from waitkit.ground.durations import SECOND, Nanoseconds
from waitkit.ground.errors import WaitTimeout
from waitkit.ground.settings import scaled
from waitkit.ports.owners import owns_one_of
from waitkit.ports.sockets import sockets_at
from waitkit.waits.drivers import block
from waitkit.waits.wait import Wait

if TYPE_CHECKING:
    import psutil

__all__ = ["AFTER_KILL", "Doomed", "ancestors"]

_KILL: Final = getattr(signal, "SIGKILL", signal.SIGTERM)
_STOP: Final = getattr(signal, "SIGSTOP", None)
#: How long the end of a process that was killed may take.
AFTER_KILL: Final = 10 * SECOND


class _Target(NamedTuple):
    """One process that is to go. By its pidfd no signal goes to a later process of the same pid."""

    process: psutil.Process
    pidfd: int | None

    def send(self, number: int) -> None:
        """``PermissionError``: the system does not let us."""
        try:
            if self.pidfd is not None:
                signal.pidfd_send_signal(self.pidfd, number)
            elif self.process.is_running():
                os.kill(self.process.pid, number)
        except ProcessLookupError:
            pass  # it has ended


class Doomed:
    """The processes that hold a port, and what they have started, for the length of a block.

    Who descends from them is known only while they are there: so it is looked for before the first signal.
    """

    def __init__(self, port: int, pids: Iterable[int]) -> None:
        self._port = port
        self._pids = sorted(pids)
        self._stack = ExitStack()
        self._sessions: set[int] = set()
        self._spared = {1, os.getpid(), *ancestors(os.getpid())}
        self.holders: dict[int, _Target] = {}
        self.started: dict[int, _Target] = {}
        #: who has started the holders, and could do so again
        self.parents: list[psutil.Process] = []

    def __enter__(self) -> Self:
        import psutil

        for pid in self._pids:
            target = self._identified(pid)
            # Between the list and the pidfd it may have ended: then this is another one, and has nothing of the port.
            if target is not None and owns_one_of([pid], sockets_at(self._port)) is not False:
                self.holders[pid] = target
                if _session_of(pid) == pid != os.getsid(0):
                    self._sessions.add(pid)
        self._look_for_more()
        for target in self.holders.values():
            try:
                parent = target.process.parent()
            except psutil.Error:
                continue  # it has ended meanwhile
            if parent is not None and parent.pid not in {os.getpid(), *self.holders, *self.started}:
                self.parents.append(parent)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _identified(self, pid: int) -> _Target | None:
        import psutil

        try:
            process = psutil.Process(pid)
            pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        except (psutil.Error, ProcessLookupError):
            return None
        if pidfd is not None:
            self._stack.callback(os.close, pidfd)
        return _Target(process, pidfd) if process.is_running() else None

    def _look_for_more(self) -> bool:
        """Look for what they have started, and what that has. Returns whether any of it is new."""
        import psutil

        found = {pid for pid in psutil.pids() if _session_of(pid) in self._sessions} if self._sessions else set()
        for target in (*self.holders.values(), *self.started.values()):
            try:
                found.update(child.pid for child in target.process.children(recursive=True))
            except psutil.Error:
                continue  # it has ended
        new = [self._identified(pid) for pid in found - self.holders.keys() - self.started.keys() - self._spared]
        self.started |= {target.process.pid: target for target in new if target is not None}
        return any(new)

    def check(self, *, force: bool) -> None:
        """Raise ``PermissionError`` where the system lets us end a holder, or unless by *force* something it has started, not."""
        for pid, target in (*self.holders.items(), *self.started.items()):
            try:
                target.send(0)
            except PermissionError as error:
                if pid in self.holders or not force:
                    whose = "holds" if pid in self.holders else "was started by who holds"
                    raise PermissionError(
                        f"pid {pid}, which {whose} port {self._port}, cannot be ended: {error.strerror or error}"
                    ) from None

    def end(self, number: int, grace: Nanoseconds) -> None:
        """The ladder: the signal to the holders, then to what they leave; after the grace ``SIGKILL`` to all; the end."""
        deadline = now() + grace
        if number != _KILL:
            self._send(self.holders, number)
            if self._gone(self.holders, deadline):
                self._look_for_more()
                self._send(self.started, number)
                if self._gone(self.started, deadline) and not self._look_for_more():
                    return
        try:
            while True:
                if _STOP is not None:  # who is stopped starts nobody on whom we have not looked
                    self._send(self.started | self.holders, _STOP)
                if not self._look_for_more():
                    break
        finally:
            self._send(self.started | self.holders, _KILL)
        pids = ", ".join(map(str, sorted(self.holders)))
        everybody = _ended(self.started | self.holders)
        what = f"pid {pids} to let go of port {self._port}, with what it has started"
        block(Wait(everybody.described(what), scaled(AFTER_KILL)))

    def _send(self, targets: dict[int, _Target], number: int) -> None:
        for target in targets.values():
            with suppress(PermissionError):  # which force puts up with
                target.send(number)

    def _gone(self, targets: dict[int, _Target], deadline: Nanoseconds) -> bool:
        try:
            block(Wait(_ended(targets), max(deadline - now(), 0), explained=False))
        except WaitTimeout:
            return False
        return True


def _ended(targets: dict[int, _Target]) -> Condition[Any]:
    ended = [ProcessExited(target.process) for target in targets.values()]
    return all_of(*ended) if ended else as_condition(lambda: True)


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:  # gone
        return -1


def ancestors(pid: int) -> set[int]:
    """The processes that a process descends from; none where it has ended."""
    import psutil

    try:
        return {parent.pid for parent in psutil.Process(pid).parents()}
    except psutil.Error:
        return set()
