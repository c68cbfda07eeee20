"""A managed process: started, proven ready, asked, ended; by threads and tasks alike."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from waitkit.conditions.condition import Condition
from waitkit.conditions.own import Event, Value
from waitkit.conditions.processes import ProcessExit
from waitkit.engine.locks import Token
from waitkit.ground.callers import Caller, calling_line
from waitkit.ground.durations import Duration
from waitkit.ground.settings import DEFAULT, DefaultTimeout
from waitkit.ground.signal_numbers import check_signal
from waitkit.processes.at_exit import is_running, not_running, running
from waitkit.processes.life import Life, Plan
from waitkit.processes.matching import writing
from waitkit.processes.notifications import Stopping
from waitkit.processes.output import Output, StreamName
from waitkit.processes.readiness import resolve
from waitkit.processes.signals_held import SignalsHeld
from waitkit.waits.drivers import Flow, drive, drive_in_loop

if TYPE_CHECKING:
    from waitkit.processes.statistics import Statistics
    from waitkit.processes.supervisor import Supervision

__all__ = ["ManagedProcess"]


class ManagedProcess:
    """A process that :func:`managed_process` describes: a ``with`` or ``async with`` block; or :meth:`start` and :meth:`stop`."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._life: Life | None = None
        self._owner = 0
        self._supervision: Supervision | None = None
        self._restarts: Value[int] = Value(0, f"restarts of {plan.name}")
        self._gave_up = Event(f"{plan.name} to be given up")
        self._may_start = Token()  # as several threads may want to

    def _started(self) -> Life:
        if self._life is None:
            raise RuntimeError(f"{self._plan.name} has not been started: enter its block, or call start()")
        return self._life

    @property
    def pid(self) -> int:
        """Its process id, also after its end. ``RuntimeError`` before it is started; and so what follows."""
        return self._started().pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, or minus the signal that ended it; ``None`` while it runs, and where somebody else has reaped it."""
        return self._started().child.exit_code()

    @property
    def output(self) -> Output:
        """What it has written so far."""
        return self._started().child.output

    @property
    def exited(self) -> Condition[ProcessExit]:
        """The condition that it has ended."""
        return self._started().exited

    @property
    def ready_after(self) -> float | None:
        """The seconds from its launch until it was ready; ``None`` where it is not ready yet."""
        return self._started().ready_after

    @property
    def status(self) -> str:
        """What it said last of what it does, by ``STATUS=``; empty where it said nothing, or is not listened to."""
        return self._started().status

    @property
    def stopping(self) -> Condition[bool]:
        """The condition that it has said that it is about to end: ``STOPPING=1``. It goes on holding when it has ended.

        ``RuntimeError`` where it is not listened to: ``ready=`` has to ask for it, by ``"notify"`` or :func:`ready_notified`.
        """
        life = self._started()
        notifications = life.notifications()
        if notifications is None:
            raise RuntimeError(
                f'{self} is not listened to: give ready="notify", or ready_notified() with other conditions'
            )
        return Stopping(notifications, life.name)

    @property
    def errno(self) -> int | None:
        """The number of the system's error that it named as the cause of its end, by ``ERRNO=``; ``None`` where it named none."""
        notifications = self._started().notifications()
        return None if notifications is None else notifications.errno

    @property
    def restarts(self) -> Value[int]:
        """How often it was started again since :meth:`start`, because it had died; 0 before.

        It is a value to be waited for.
        """
        return self._restarts

    @property
    def gave_up(self) -> Condition[bool]:
        """The condition that it has ended and is not started again, by its ``restart=`` policy; before the start, too."""
        return self._gave_up

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing happens where it has ended.

        Raises:
            TypeError, ValueError: *number* is no signal.
        """
        life, number = self._started(), check_signal(number, "number")
        if not life.child.has_ended():
            life.child.identity.send(number)

    def statistics(self) -> Statistics:
        """What it and its tree use now.

        Raises:
            ProcessLookupError: it has ended.
        """
        from waitkit.processes.statistics import statistics_of

        return statistics_of(self._started().child.identity, str(self))

    def wait_for_output(
        self,
        pattern: str | re.Pattern[str],
        timeout: Duration | DefaultTimeout | None = DEFAULT,
        *,
        stream: StreamName | None = None,
    ) -> re.Match[str]:
        """Wait until what it has written matches a regular expression.

        The wait is woken when the process has written. What was written before counts, as far as it is kept: the last 256 KiB;
        what comes from now on is searched in full.

        Args:
            pattern: a regular expression, searched for anywhere, across lines too.
            timeout: how long to wait; as for :func:`wait_for`.
            stream: ``"stdout"`` or ``"stderr"``; ``None``: either.

        Returns:
            The match.

        Raises:
            WaitTimeout: it has not written that in time.
            WaitFailed: it ended without having written that.
            Cancelled: a scope around was cancelled, or its deadline came.
            TypeError, ValueError: an argument cannot be what it should be.
        """
        return drive(writing(self._started(), pattern, timeout, stream))

    def wait_for_output_async(
        self,
        pattern: str | re.Pattern[str],
        timeout: Duration | DefaultTimeout | None = DEFAULT,
        *,
        stream: StreamName | None = None,
    ) -> Coroutine[Any, Any, re.Match[str]]:
        """As :meth:`wait_for_output`, without blocking the event loop."""
        return drive_in_loop(writing(self._started(), pattern, timeout, stream, calling_line()))

    def start(self) -> ManagedProcess:
        """Start it, and return when it is ready.

        Raises:
            WaitFailed: it ended before it was ready; the message has its exit code and the end of its output.
            WaitTimeout: it was not ready in time, and has been ended.
            Cancelled: a scope around was cancelled, and it has been ended.
            OSError: it could not be started.
            RuntimeError: it is running already.
        """
        drive(self._starting())
        return self

    def stop(self) -> int | None:
        """End it, and return when it is gone: the stop signal, then, after ``stop_timeout``, ``SIGKILL``.

        Whatever it has started is killed with it, where it went to other groups, sessions or parents too. Scopes around do not
        cut this short; an interrupt does not either, it only takes away the grace. Stopping again, or before the start, does
        nothing.

        What it served is free when this returns: none of the TCP ports, UDP ports and unix sockets at which the tree took clients
        when it was asked to end does so any more; of a process that ended by itself that is known of the ports that its
        readiness was judged by, and of reserved ones. So a server that sets ``SO_REUSEADDR`` each time, as nearly all do, can
        bind them at once. One that does not can be kept from that for a minute more, by what is left of connections
        (``TIME_WAIT``): :func:`port_free` with ``reuse_address=False`` waits for it. The file of a unix socket stays, where the
        server left it.

        Returns:
            Its exit code, or minus the signal that ended it; ``None`` where it was never started.

        Raises:
            WaitTimeout: some of it is still there 10 s after ``SIGKILL``, as a process in an uninterruptible call can be; or
                a process that is none of its own has a socket that it served, and is named.
        """
        return drive(self._stopping())

    def restart(self) -> ManagedProcess:
        """Stop it, start it again, and return when it is ready: as :meth:`stop` and :meth:`start` do."""
        drive(self._restarting())
        return self

    def start_async(self) -> Coroutine[Any, Any, ManagedProcess]:
        """As :meth:`start`, without blocking the event loop."""
        return self._driven_in_loop(self._starting(), calling_line())

    def stop_async(self) -> Coroutine[Any, Any, int | None]:
        """As :meth:`stop`, without blocking the event loop."""
        return drive_in_loop(self._stopping(), calling_line())

    def restart_async(self) -> Coroutine[Any, Any, ManagedProcess]:
        """As :meth:`restart`, without blocking the event loop."""
        return self._driven_in_loop(self._restarting(), calling_line())

    async def _driven_in_loop(self, flow: Flow[None], caller: Caller) -> ManagedProcess:
        await drive_in_loop(flow, caller)
        return self

    # The flows, for whoever drives them.

    def _starting(self) -> Flow[None]:
        if not self._may_start.take():
            raise RuntimeError(f"{self} is being started already")
        try:
            yield from self._starting_alone()
        finally:
            self._may_start.give_back()

    def _starting_alone(self) -> Flow[None]:
        if self._life is not None and not self._life.child.has_ended():
            raise RuntimeError(f"{self} is running already")
        if self._life is not None:
            yield from self._stopping()  # it ended by itself: what it left behind goes with it
        self._restarts.set(0)
        self._gave_up.clear()
        yield from self._living()
        if self._plan.restart is not None:
            from waitkit.processes.supervisor import Supervision

            self._supervision = Supervision(self, self._plan.restart, self._restarts, self._gave_up)
            try:
                self._supervision.begin()
            except BaseException:
                self._supervision = None
                yield from self._ending()
                raise

    def _living(self, unless: Condition[Any] | None = None) -> Flow[None]:
        """Launch it and wait until it is ready; it is ended where that fails."""
        try:
            with SignalsHeld():
                self._launch()
            assert self._life is not None
            yield from self._life.becoming_ready(lambda: resolve(self._plan.ready, self), unless)
        except GeneratorExit:
            if self._life is not None and is_running(self):
                drive(self._ending())
            raise
        except BaseException:
            yield from self._ending()
            raise

    def _launch(self) -> None:
        self._owner = os.getpid()
        if self._life is not None and self._life.over:
            not_running(self)
        self._life = Life(self._plan)
        running(self)

    def _stopping(self) -> Flow[int | None]:
        supervision, self._supervision = self._supervision, None
        interrupt: BaseException | None = None
        if supervision is not None and self._owner == os.getpid():
            try:
                yield from supervision.withdrawing()
            except GeneratorExit:
                raise
            except BaseException as error:  # noqa: BLE001 - the process is ended all the same, and without grace
                interrupt = error
        code = yield from self._ending(interrupt)
        return code

    def _ending(self, interrupt: BaseException | None = None) -> Flow[int | None]:
        life = self._life
        if life is None or self._owner != os.getpid():
            return None
        try:
            code = yield from life.ending(interrupt)
        finally:
            if life.over:
                not_running(self)
        return code

    def _restarting(self) -> Flow[None]:
        yield from self._stopping()
        yield from self._starting()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await self.start_async()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop_async()

    def __del__(self) -> None:
        life = getattr(self, "_life", None)
        if life is not None and self._owner == os.getpid() and not life.over:
            try:
                running = not life.child.has_ended()
            except ImportError:  # the interpreter is going down: multiprocessing cannot ask any more
                running = True
            life.kill()  # before the warning: where warnings are errors, it is raised
            if running:
                warnings.warn(f"{self} was never stopped", ResourceWarning, source=self, stacklevel=2)

    def __str__(self) -> str:
        return self._plan.name if self._life is None else self._life.name

    def __repr__(self) -> str:
        return f"<ManagedProcess {self}>"


ManagedProcess.__module__ = "waitkit"
