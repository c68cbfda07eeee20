"""``managed_process``: a process for the length of a block, ready when the block begins, gone when it ends."""

from __future__ import annotations

import atexit
import os
import signal
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

from waitkit.conditions.condition import Condition, as_condition
from waitkit.conditions.processes import ProcessExit, ProcessExited
from waitkit.ground.durations import SECOND, Duration, to_nanoseconds, to_optional_nanoseconds
from waitkit.ground.errors import WaitTimeout
from waitkit.ground.settings import DEFAULT, DefaultTimeout, scaled
from waitkit.processes.children import CallableChild, Child, ProgramChild, kill_session, send
from waitkit.processes.output import Output
from waitkit.processes.readiness import Ready
from waitkit.waits.drivers import block
from waitkit.waits.scopes import outside_scopes
from waitkit.waits.wait import Wait

__all__ = ["ManagedProcess", "managed_process"]

StartMethod = Literal["spawn", "forkserver", "fork"]

_DEFAULT_PATIENCE = 10 * SECOND


class ManagedProcess:
    """A process that :func:`managed_process` describes; use it as a ``with`` block, or :meth:`start` and :meth:`stop` it."""

    def __init__(
        self,
        launch: Callable[[], Child],
        name: str,
        ready: Condition[Any] | Literal["event"] | None,
        ready_timeout: int | None,
        stop_timeout: int,
        stop_signal: signal.Signals,
    ) -> None:
        self._launch = launch
        self._name = name
        self._ready = ready
        self._ready_timeout = ready_timeout
        self._stop_timeout = stop_timeout
        self._stop_signal = stop_signal
        self._child: Child | None = None
        self._owner = 0

    def _started(self) -> Child:
        if self._child is None:
            raise RuntimeError(f"{self._name} has not been started: enter its block, or call start()")
        return self._child

    @property
    def pid(self) -> int:
        """Its process id, also after its end. ``RuntimeError`` before it is started; so in all that follows."""
        return self._started().pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, or minus the signal that ended it; ``None`` while it runs."""
        return self._started().exit_code()

    @property
    def output(self) -> Output:
        """What it has written so far."""
        return self._started().output

    @property
    def exited(self) -> Condition[ProcessExit]:
        """The condition that it has ended."""
        return ProcessExited(self._started().process).described(f"{self} to exit")

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing happens where it has ended."""
        child = self._started()
        if child.exit_code() is None:
            send(child.pid, number)

    def start(self) -> ManagedProcess:
        """Start it, and return when it is ready.

        Raises:
            WaitFailed: it ended before it was ready; the message has its exit code and the end of its output.
            WaitTimeout: it was not ready in time, and has been ended.
            Cancelled: a scope around was cancelled, and it has been ended.
            OSError: it could not be started.
            RuntimeError: it is running already.
        """
        if self._child is not None and self._child.exit_code() is None:
            raise RuntimeError(f"{self} is running already")
        if self._child is not None:
            self.stop()  # it ended by itself: what it left behind goes with it
        self._child = child = self._launch()
        self._owner = os.getpid()
        # multiprocessing joins its children at exit: be before it.
        atexit.unregister(_kill_at_exit)
        atexit.register(_kill_at_exit)
        _running.add(self)
        try:
            if self._ready is not None:
                ready = child.ready_signalled if self._ready == "event" else self._ready
                assert ready is not None
                awaited = Ready(ready, str(self), child.output)
                ended = ProcessExited(child.process).described("its exit")
                block(Wait(awaited, self._ready_timeout, unless=ended))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> int | None:
        """End it, and return when it is gone: the stop signal, then, after ``stop_timeout``, ``SIGKILL``.

        What stayed in its session is killed with it. Scopes around do not cut this short; an interrupt does not either, it
        only takes away the grace. Stopping again, or before the start, does nothing.

        Returns:
            Its exit code, or minus the signal that ended it; ``None`` where it was never started.

        Raises:
            WaitTimeout: it is still there 10 s after ``SIGKILL``, as a process in an uninterruptible call can be.
        """
        child = self._child
        if child is None or self._owner != os.getpid():
            return None
        if self in _running:
            with outside_scopes():
                try:
                    self._terminate(child)
                except BaseException:
                    self._kill(child)
                    raise
                finally:
                    if child.exit_code() is not None:
                        _running.discard(self)
                        child.release()
        return child.exit_code()

    def _terminate(self, child: Child) -> None:
        ended = self.exited
        if child.exit_code() is None:
            send(child.pid, self._stop_signal)
            try:
                block(Wait(ended, self._stop_timeout))
            except WaitTimeout:
                pass
        self._kill(child)

    def _kill(self, child: Child) -> None:
        kill_session(child)
        block(Wait(self.exited, scaled(_DEFAULT_PATIENCE)))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __del__(self) -> None:
        child = getattr(self, "_child", None)
        if child is not None and self._owner == os.getpid() and child.exit_code() is None:
            kill_session(child)  # before the warning: where warnings are errors, it is raised
            warnings.warn(f"{self} was never stopped", ResourceWarning, source=self, stacklevel=2)

    def __str__(self) -> str:
        return self._name if self._child is None else f"{self._name} (pid {self._child.pid})"

    def __repr__(self) -> str:
        return f"<ManagedProcess {self}>"


ManagedProcess.__module__ = "waitkit"

_running: weakref.WeakSet[ManagedProcess] = weakref.WeakSet()


def _kill_at_exit() -> None:
    """A block still open when the interpreter ends (in a generator, in a daemon thread) leaves no process behind."""
    for process in list(_running):
        child = process._child
        if child is not None and process._owner == os.getpid() and child.exit_code() is None:
            kill_session(child)


def managed_process(
    target: Sequence[str | os.PathLike[str]] | Callable[..., object],
    *args: object,
    ready: object = None,
    ready_timeout: Duration | DefaultTimeout | None = DEFAULT,
    stop_timeout: Duration | DefaultTimeout = DEFAULT,
    stop_signal: int = signal.SIGTERM,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    start_method: StartMethod = "spawn",
) -> ManagedProcess:
    """A process for the length of a block.

    ::

        with reserved_port() as port, managed_process(["redis-server", "--port", str(port)], ready=port_listening(port)) as p:
            ...

    The block begins when the process is ready, and is left when it is gone. Both output streams are read all the time,
    so the process never blocks on them, and their end is kept for errors. The process leads a session of its own.

    Args:
        target: the program and its arguments, or a Python callable for a process of its own.
        args: arguments of the callable.
        ready: anything that adapts to a condition; or ``"event"``: the callable gets a ``ready_event=`` argument and
            calls its ``set()``. ``None``: ready as soon as it is started.
        ready_timeout: how long that may take; left out: 10 s, stretched by ``WAITKIT_TIMEOUT_SCALE``. ``None``: no limit.
        stop_timeout: how long the process may take to end after the stop signal, before it is killed; left out: 5 s,
            stretched likewise.
        stop_signal: what asks it to end.
        env: its whole environment; ``None``: ours. For programs only.
        cwd: its working directory; ``None``: ours. For programs only.
        start_method: how ``multiprocessing`` starts a callable.

    Returns:
        The process, not started yet.

    Raises:
        TypeError, ValueError: an argument cannot be what it should be.
    """
    patience = (
        scaled(_DEFAULT_PATIENCE)
        if ready_timeout is DEFAULT
        else to_optional_nanoseconds(ready_timeout, "ready_timeout")
    )
    grace = scaled(5 * SECOND) if stop_timeout is DEFAULT else to_nanoseconds(stop_timeout, "stop_timeout")
    number = signal.Signals(stop_signal)
    if callable(target):
        if env is not None or cwd is not None:
            raise TypeError("env= and cwd= are for programs; a Python callable sets its own")
        if start_method not in ("spawn", "forkserver", "fork"):
            raise ValueError(f"start_method={start_method!r} is none: give 'spawn', 'forkserver' or 'fork'")
        function, event = target, ready == "event"

        def launch() -> Child:
            return CallableChild(function, args, start_method, event=event)

        name = getattr(target, "__name__", type(target).__name__)
    else:
        argv = _check_argv(target)
        if args:
            raise TypeError(f"a program takes its arguments in its list, not after it: {args!r}")
        if ready == "event":
            raise ValueError('ready="event" is for a Python callable; for a program give a condition, such as a port')
        folder = None if cwd is None else os.fspath(cwd)

        def launch() -> Child:
            return ProgramChild(argv, env, folder)

        name = os.path.basename(argv[0])
    if isinstance(ready, str) and ready != "event":
        raise ValueError(f'ready={ready!r} is no condition: give one, or "event" for a Python callable')
    condition: Condition[Any] | Literal["event"] | None
    condition = "event" if ready == "event" else None if ready is None else as_condition(ready)
    return ManagedProcess(launch, name, condition, patience, grace, number)


def _check_argv(target: object) -> list[str]:
    if isinstance(target, str | bytes) or not isinstance(target, Sequence) or not target:
        raise TypeError(
            f"{target!r} is neither a list of a program and its arguments nor a callable: write "
            '["redis-server", "--port", "6379"]; for a command line there is shlex.split'
        )
    argv = []
    for part in target:
        if not isinstance(part, str | os.PathLike):
            raise TypeError(f"{part!r} in {target!r} is no text: write str(...) around it")
        argv.append(os.fspath(part))
    return argv
