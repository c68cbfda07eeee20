"""The end of a process as a condition, by pidfd: one descriptor, no signal handler, no polling, any process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final, NamedTuple

from waitkit.conditions.condition import Condition
from waitkit.conditions.descriptors import GREATEST_INT, DescriptorWatch, is_ready
from waitkit.engine.owned import OwnedDescriptor
from waitkit.ground.durations import MILLISECOND, Nanoseconds
from waitkit.waits.watching import NOT_YET, Context, Verdict, Watch

__all__ = ["ProcessExit", "ProcessExited", "popen_ended", "process_exited"]


class ProcessExit(NamedTuple):
    """A process that has ended.

    Attributes:
        pid: its process id.
        code: its exit code, or minus the signal that ended it; ``None`` where only its parent can know.
    """

    pid: int
    code: int | None

    def __str__(self) -> str:
        """``"exit code 3"``, ``"killed by SIGKILL"``."""
        if self.code is None:
            return "exit code unknown"
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"killed by signal {-self.code}"


ProcessExit.__module__ = "waitkit"


class ProcessExited(Condition[ProcessExit]):
    """A process that has ended: a ``Popen``, a ``multiprocessing.Process``, a ``psutil.Process`` or a pid.

    A zombie has ended. A ``Popen`` or ``multiprocessing.Process`` is reaped by the look that finds it ended. For a bare pid
    the process is identified when the condition is made, so that a later one of the same pid is not mistaken for it.
    """

    def __init__(self, process: Any) -> None:
        self._given_pid = process if isinstance(process, int) else None
        self._process = process if self._given_pid is None else _from_pid(self._given_pid)
        gone = self._given_pid is not None and self._process is None
        self._how_it_ended = None if gone else _way_to_ask(self._process)

    @property
    def pid(self) -> int | None:
        """The process id; ``None`` where it has not been started."""
        return self._given_pid if self._process is None else _pid(self._process)

    @property
    def what(self) -> str:
        return f"process {self.pid} to exit"

    def ended(self) -> ProcessExit | None:
        """How it ended, or ``None`` while it runs."""
        if self._how_it_ended is None:
            return ProcessExit(self._given_pid or 0, None)
        return self._how_it_ended(self._process)

    def watch(self, context: Context) -> Watch:
        return _ProcessWatch(self, context)


#: How long after the kernel has said that a process ended its exit code may take to become known: another thread may have
#: reaped it, or a fork server may be about to tell. After that nobody knows it.
_PATIENCE: Final = 100 * MILLISECOND


class _ProcessWatch(DescriptorWatch):
    __slots__ = ("_condition", "_ended", "_gone", "_gone_since", "_pidfd")

    def __init__(self, condition: ProcessExited, context: Context) -> None:
        super().__init__(context)
        self._condition = condition
        self._pidfd: OwnedDescriptor | None = None
        self._gone = False
        self._gone_since: Nanoseconds | None = None
        self._ended: ProcessExit | None = None

    def look(self, now: Nanoseconds) -> Verdict:
        if self._wake is not None and self._pidfd is None and not self._gone:
            self._open(self._condition.pid)
        if self.was_called:  # most likely of the end, of which it would call again at once
            self._ended = self._condition.ended()
            if self._ended is not None:
                return Verdict(True, self._ended)
        # Listen first: an end after that is heard. One that the kernel has told of already, it would tell again and again.
        listening = self._pidfd is not None and not self._gone and self.listen(self._pidfd.fileno())
        self._ended = self._condition.ended()
        if self._ended is None and listening and self._pidfd is not None and is_ready(self._pidfd.fileno()):
            self._gone = True
            self._ended = self._condition.ended()
        if self._ended is None and self._gone:
            self._ended = self._ended_unknown(now)
        if self._ended is not None:
            return Verdict(True, self._ended)
        return NOT_YET if listening and not self._gone else Verdict(False, None, self._context.next_look(now))

    def _open(self, pid: int | None) -> None:
        """Have the kernel tell of the end. Where it cannot (before Linux 5.3, or no descriptor is left), look instead."""
        if pid is not None and hasattr(os, "pidfd_open"):
            try:
                # Not the sentinel of multiprocessing: it is a pipe, which grandchildren hold open after the process is gone.
                (self._pidfd,) = map(OwnedDescriptor, map(os.pidfd_open, (pid,)))  # see OwnedDescriptor
            except ProcessLookupError:
                self._gone = True
            except OSError:
                pass

    def _ended_unknown(self, now: Nanoseconds) -> ProcessExit | None:
        """It has ended, and who should know the exit code does not: somebody else has reaped it (``SIGCHLD`` ignored)."""
        if self._gone_since is None:
            self._gone_since = now
        if now - self._gone_since < _PATIENCE:
            return None
        return ProcessExit(self._condition.pid or 0, None)

    def close(self) -> None:
        super().close()
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            pidfd.close()

    def seen(self) -> str:
        if self._ended is not None:
            return str(self._ended)
        if self._gone:
            return "ended, with an exit code that is not known yet"
        return "not started" if self._condition.pid is None else "still running"


def _pid(process: Any) -> int | None:
    pid = getattr(process, "pid", None)
    return pid if isinstance(pid, int) else None


def _from_pid(pid: int) -> Any:
    if isinstance(pid, bool) or not 0 < pid <= GREATEST_INT:
        raise ValueError(f"pid={pid!r} is not the id of a process: give a number from 1 to {GREATEST_INT}")
    import psutil

    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None  # it has ended already


def _way_to_ask(process: Any) -> Callable[[Any], ProcessExit | None]:
    """How to ask *process* whether it has ended: by what it can be asked for, not by its class, which may be another's."""
    if hasattr(process, "pid"):
        for name, ended in _WAYS.items():
            if hasattr(process, name):
                return ended
    raise TypeError(
        f"{process!r} is no process: give a ManagedProcess, a Popen, a multiprocessing.Process, a psutil.Process or a pid"
    )


def popen_ended(process: Any) -> ProcessExit | None:
    """How a ``Popen`` ended, or ``None`` while it runs. Where somebody else has reaped it, ``poll()`` would say 0."""
    code = process.returncode
    if code is None:
        try:
            runs = hasattr(os, "waitid") and _told_of_child(process.pid) is None
        except ChildProcessError:
            with getattr(
                process, "_waitpid_lock", nullcontext()
            ):  # another thread may be about to note what it has reaped
                return ProcessExit(process.pid, process.returncode)
        code = None if runs else process.poll()
    return None if code is None else ProcessExit(process.pid, code)


def _multiprocessing_ended(process: Any) -> ProcessExit | None:
    if process.pid is None or process.is_alive():
        return None
    return ProcessExit(process.pid, process.exitcode)


def _psutil_ended(process: Any) -> ProcessExit | None:
    import psutil

    try:
        if not process.is_running():
            return ProcessExit(process.pid, None)
        if process.status() != psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return ProcessExit(process.pid, None)
    return ProcessExit(process.pid, _code_of_zombie(process.pid))


def _code_of_zombie(pid: int) -> int | None:
    """What a child of ours ended with that nobody has reaped yet; it stays for who does. ``None`` for a child of others."""
    try:
        told = _told_of_child(pid) if hasattr(os, "waitid") else None
    except ChildProcessError:
        return None
    if told is None:
        return None
    return int(told.si_status if told.si_code == os.CLD_EXITED else -told.si_status)


def _told_of_child(pid: int) -> Any:
    """What the system tells of the end of a child of ours, which stays to be reaped; ``None`` while it runs.

    Raises:
        ChildProcessError: it was reaped, or is none of ours.
    """
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)


#: Ways to ask, by what only those have who can be asked so; a ``psutil.Popen`` can in two ways, of which the first knows more.
_WAYS: Final = {
    "how_it_ended": lambda process: process.how_it_ended(),
    "poll": popen_ended,
    "exitcode": _multiprocessing_ended,
    "is_running": _psutil_ended,
}


def process_exited(process: Any) -> Condition[ProcessExit]:
    """Holds when a process has ended; its value is a :class:`ProcessExit` with the pid and the exit code.

    Where the kernel offers pidfds (Linux 5.3) a wait is woken by the exit itself; elsewhere it looks at growing gaps.

    Args:
        process: a ``subprocess.Popen``, a ``multiprocessing.Process``, a ``psutil.Process``, or a pid. A pid that does
            not exist counts as ended. The exit code is known only for children, and not where somebody else has reaped one.
            A child that is given by its pid, or as a ``psutil.Process``, is not reaped: who has forked it still can.
            Of a :class:`waitkit.ManagedProcess` it is the process that runs now, as in ``exited``.

    Raises:
        TypeError: *process* is nothing of these.
        ValueError: a pid is not above 0, or beyond all process ids.
        RuntimeError: a ``ManagedProcess`` has not been started.
    """
    # Who has such a condition of his own knows best; a ManagedProcess lives on a floor above this one.
    exited = getattr(process, "exited", None)
    return exited if isinstance(exited, Condition) else ProcessExited(process)
