"""The poller, as users see it."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from waitkit.conditions.condition import Condition
from waitkit.ground.callables import kind_of
from waitkit.ground.checks import check_count
from waitkit.ground.durations import Duration, to_optional_nanoseconds
from waitkit.ground.errors import WaitTimeout
from waitkit.polls.conditions import Ended, HasRun, Stopped
from waitkit.polls.machine import PollMachine
from waitkit.polls.plan import Plan
from waitkit.polls.records import PollerState, PollerStatus
from waitkit.waits.drivers import block, wait_in_loop
from waitkit.waits.scopes import outside_scopes
from waitkit.waits.wait import Wait

__all__ = ["Poller"]


class Poller:
    """Runs a function again and again; made by :func:`waitkit.polling`, or by ``start()`` of a decorated function.

    Use it as a ``with`` or ``async with`` block, or :meth:`start` and :meth:`stop` it. Runs of one poller never overlap. Leaving
    the block stops it: a run in progress is waited for, and has its waits cancelled if the block is left by an exception. Where
    an error has ended the poller (see :attr:`error`), leaving the block raises it.

    While it rests it takes no thread. In a forked child none of the parent's pollers runs.
    """

    __slots__ = ("_call", "_in_loop", "_machine")

    def __init__(self, call: Callable[[], Any], function: Callable[..., Any], plan: Plan) -> None:
        self._call = call
        self._in_loop = kind_of(function) == "coroutine"
        self._machine = PollMachine(function, plan)

    @property
    def name(self) -> str:
        """The function, in words."""
        return self._machine.name

    @property
    def state(self) -> PollerState:
        """``"new"``, ``"waiting"``, ``"running"``, ``"stopping"`` or ``"stopped"``."""
        return self._machine.state

    @property
    def runs(self) -> int:
        """How many runs have ended."""
        return self._machine.history.runs

    @property
    def error(self) -> BaseException | None:
        """What ended it, where an error did: one that ``stop_on`` names, or no :class:`Exception` at all."""
        return self._machine.fatal

    def status(self) -> PollerStatus:
        """All that is known of it now."""
        return self._machine.status()

    @property
    def stopped(self) -> Condition[PollerStatus]:
        """The condition that it has stopped, for whatever reason; its value is the last status."""
        return Stopped(self._machine)

    def has_run(self, times: int = 1) -> Condition[PollerStatus]:
        """The condition that so many runs have ended since the start; its value is the status.

        A poller that stops before never gets there: wait with ``unless=poller.stopped``.

        Args:
            times: 1 or more.

        Raises:
            ValueError: *times* is no whole number of 1 or more.
        """
        return HasRun(self._machine, check_count(times, "times"))

    def start(self) -> Self:
        """Start it; the first run begins at once, unless ``first_delay`` or ``stagger`` says otherwise.

        Returns:
            Itself.

        Raises:
            RuntimeError: it was started before; or it runs a coroutine function, and no event loop is running here.
        """
        self._machine.start(self._call, in_loop=self._in_loop)
        return self

    def trigger(self) -> None:
        """Run now. During a run it causes one more, however often it is called.

        Raises:
            RuntimeError: it was not started, or has stopped.
        """
        if self.state in ("new", "stopped"):
            raise RuntimeError(f"{self} does not run ({self.state}): there is nothing to trigger")
        self._machine.ask_for_run()

    def stop(self, timeout: Duration | None = None, *, cancel: bool = False) -> None:
        """Stop it, and return when no run will follow: at once where it waits, else when its run has ended.

        Called from inside its own run, hook or condition, it returns at once, and that run is the last. Before the start it does
        nothing.

        Args:
            timeout: how long to wait for a run in progress; ``None``: no limit but that of the scopes around.
            cancel: end the run in progress: its waits raise :class:`Cancelled`, and a coroutine is cancelled.

        Raises:
            WaitTimeout: the run goes on; the message says since when, and where it is. No other will follow.
            Cancelled: a scope around ended first.
            RuntimeError: a coroutine is in progress in the caller's event loop, and cannot go on while that waits:
                use :meth:`stop_async`.
            TypeError, ValueError: *timeout* is no duration.
        """
        limit = to_optional_nanoseconds(timeout, "timeout")
        if self.state != "new" and self._machine.begin_stop(cancel=cancel):
            if self._machine.blocked_by_caller:
                raise RuntimeError(f"{self} runs in this event loop: await stop_async() instead")
            try:
                block(Wait(Ended(self._machine), limit))
            except WaitTimeout:
                if self.state != "stopped":
                    raise

    async def stop_async(self, timeout: Duration | None = None, *, cancel: bool = False) -> None:
        """As :meth:`stop`, without blocking the event loop."""
        limit = to_optional_nanoseconds(timeout, "timeout")
        if self.state != "new" and self._machine.begin_stop(cancel=cancel):
            try:
                await wait_in_loop(Wait(Ended(self._machine), limit))
            except WaitTimeout:
                if self.state != "stopped":
                    raise

    def join(self, timeout: Duration | None = None) -> PollerStatus:
        """Wait until it has stopped: by ``until``, ``max_runs``, an error, a signal, or as somebody called ``stop()``.

        Args:
            timeout: how long to wait; ``None``: no limit but that of the scopes around.

        Returns:
            The last status.

        Raises:
            WaitTimeout: it goes on.
            BaseException: the very error that has ended it, be it an exit of a run, a hook or a condition.
            RuntimeError: it was not started.
        """
        block(self._end(timeout))
        return self._last_word()

    async def join_async(self, timeout: Duration | None = None) -> PollerStatus:
        """As :meth:`join`, without blocking the event loop."""
        await wait_in_loop(self._end(timeout))
        return self._last_word()

    def _end(self, timeout: Duration | None) -> Wait:
        if self.state == "new":
            raise RuntimeError(f"{self} was not started")
        return Wait(self.stopped, to_optional_nanoseconds(timeout, "timeout"))

    def _last_word(self) -> PollerStatus:
        if self.error is not None:
            raise self.error
        return self.status()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with outside_scopes():
            self.stop(cancel=error is not None)
        if error is None:
            self._last_word()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with outside_scopes():
            await self.stop_async(cancel=error is not None)
        if error is None:
            self._last_word()

    def __str__(self) -> str:
        return f"the poller {self.name}"

    def __repr__(self) -> str:
        return f"<Poller {self.name}, {self.state}, {self.runs} runs>"


Poller.__module__ = "waitkit"
