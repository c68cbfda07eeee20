"""The end of a process as a condition, by pidfd: one descriptor, no signal handler, no polling, any process."""

from __future__ import annotations

import os
import signal
from typing import Any, NamedTuple

from waitkit.conditions.condition import Condition
from waitkit.conditions.descriptors import DescriptorWatch
from waitkit.ground.durations import Nanoseconds
from waitkit.waits.watching import NOT_YET, Context, Verdict, Watch

__all__ = ["ProcessExit", "ProcessExited", "process_exited"]


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

    A zombie has ended. A child of ours is reaped by the look that finds it ended, as ``poll()`` would. For a bare pid
    the process is identified when the condition is made, so that a later one of the same pid is not mistaken for it.
    """

    def __init__(self, process: Any) -> None:
        self._process = _from_pid(process) if isinstance(process, int) else process
        if self._process is not None and _pid(self._process) is None and not hasattr(self._process, "sentinel"):
            raise TypeError(
                f"{process!r} is no process: give a Popen, a multiprocessing.Process, a psutil.Process or a pid"
            )
        self._given_pid = process if isinstance(process, int) else None

    @property
    def pid(self) -> int | None:
        """The process id; ``None`` where it has not been started."""
        return self._given_pid if self._process is None else _pid(self._process)

    @property
    def what(self) -> str:
        return f"process {self.pid} to exit"

    def ended(self) -> ProcessExit | None:
        """How it ended, or ``None`` while it runs."""
        process = self._process
        if process is None:
            return ProcessExit(self._given_pid or 0, None)
        if hasattr(process, "poll"):  # Popen
            code = process.poll()
            return None if code is None else ProcessExit(process.pid, code)
        if hasattr(process, "exitcode"):  # multiprocessing
            if process.pid is None or process.is_alive():
                return None
            return ProcessExit(process.pid, process.exitcode)
        return _psutil_ended(process)

    def watch(self, context: Context) -> Watch:
        return _ProcessWatch(self, context)


class _ProcessWatch(DescriptorWatch):
    __slots__ = ("_condition", "_ended", "_pidfd")

    def __init__(self, condition: ProcessExited, context: Context) -> None:
        super().__init__(context)
        self._condition = condition
        self._pidfd: int | None = None
        self._ended: ProcessExit | None = None

    def look(self, now: Nanoseconds) -> Verdict:
        if self._wake is not None and self._pidfd is None:
            # Not the sentinel of multiprocessing: it is a pipe, which grandchildren hold open after the process is gone.
            self._pidfd = _open_pidfd(self._condition.pid)
        listening = self._pidfd is not None and self.listen(self._pidfd)
        self._ended = self._condition.ended()
        if self._ended is not None:
            return Verdict(True, self._ended)
        return NOT_YET if listening else Verdict(False, None, self._context.next_look(now))

    def close(self) -> None:
        super().close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def seen(self) -> str:
        if self._ended is not None:
            return str(self._ended)
        return "not started" if self._condition.pid is None else "still running"


def _open_pidfd(pid: int | None) -> int | None:
    if pid is None or not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # gone, or a kernel before 5.3, or no descriptor left: look instead
        return None


def _pid(process: Any) -> int | None:
    pid = getattr(process, "pid", None)
    return pid if isinstance(pid, int) else None


def _from_pid(pid: int) -> Any:
    if isinstance(pid, bool) or pid <= 0:
        raise ValueError(f"pid={pid!r} is not the id of a process: give a number above 0")
    import psutil

    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None  # it has ended already


def _psutil_ended(process: Any) -> ProcessExit | None:
    import psutil

    try:
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        pass
    return ProcessExit(process.pid, None)


def process_exited(process: Any) -> Condition[ProcessExit]:
    """Holds when a process has ended; its value is a :class:`ProcessExit` with the pid and the exit code.

    Where the kernel offers pidfds (Linux 5.3) a wait is woken by the exit itself; elsewhere it looks at growing gaps.

    Args:
        process: a ``subprocess.Popen``, a ``multiprocessing.Process``, a ``psutil.Process``, or a pid. A pid that does
            not exist counts as ended. The exit code is known only for children.

    Raises:
        TypeError: *process* is nothing of these.
        ValueError: a pid is not above 0.
    """
    return ProcessExited(process)
