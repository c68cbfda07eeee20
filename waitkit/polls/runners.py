"""Who runs the runs: a worker thread, or the event loop that a coroutine function was started in."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from waitkit.conditions.sources import describe_callable
from waitkit.engine.background import CannotStart, start_thread
from waitkit.engine.frames import coroutine_frames, current_frames
from waitkit.engine.timers import Timer
from waitkit.engine.workers import run_in_worker
from waitkit.ground.callers import without_our_frames
from waitkit.ground.durations import Nanoseconds
from waitkit.ground.errors import Cancelled
from waitkit.waits.scopes import CancelScope, context_within

if TYPE_CHECKING:
    import asyncio

__all__ = ["InLoop", "InWorkers", "Run", "Runner"]

Call: TypeAlias = Callable[[], Any]


class Run:
    """One run.

    Attributes:
        begun: the instant it began.
        triggered: whether something else than the clock has caused it.
        entered: whether its task has begun to run.
        thread: the thread it runs in, for plain functions.
        task: the task it runs in, for coroutine functions.
        watchdog: fires when it takes too long.
    """

    __slots__ = ("begun", "entered", "task", "thread", "triggered", "watchdog")

    def __init__(self, begun: Nanoseconds, triggered: bool) -> None:
        self.begun = begun
        self.triggered = triggered
        self.entered = False
        self.thread: int | None = None
        self.task: asyncio.Task[Any] | None = None
        self.watchdog: Timer | None = None

    @property
    def is_here(self) -> bool:
        """Whether the caller is inside this run."""
        if self.task is None:
            return self.thread == threading.get_ident()
        asyncio = sys.modules["asyncio"]
        try:
            return bool(asyncio.current_task() is self.task)
        except RuntimeError:  # no loop runs in this thread
            return False

    def has_failed_with(self, error: BaseException) -> bool:
        """Whether *error* is a failure of this run, and not meant for more than it: an exit, or the cancellation of its task."""
        if isinstance(error, Exception):
            return True
        cancelled = getattr(sys.modules.get("asyncio"), "CancelledError", ())
        # What it awaited was cancelled by others, and it was not.
        return isinstance(error, cancelled) and (self.task is None or not self.task.cancelling())

    def where(self) -> str:
        """The line it is in: ``"at orders.py:42 in fetch"``; empty where it has just ended."""
        if self.task is not None:
            frames = list(coroutine_frames(self.task.get_coro()))
            frame = next((frame for frame in reversed(frames) if not _is_ours(frame)), None)
        else:
            frame = current_frames().get(self.thread or 0)
            while frame is not None and _is_ours(frame):
                frame = frame.f_back
        if frame is None:
            return ""
        line = traceback.extract_stack(frame, limit=1)[-1]
        return f"at {line.filename}:{line.lineno} in {line.name}"


def _is_ours(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").split(".")[0] in ("waitkit", "threading", "asyncio")


Ended: TypeAlias = Callable[[Run, BaseException | None], None]


class Runner(Protocol):
    """Has the steps of a poller made, and its runs run."""

    def soon(self, step: Callable[[], None]) -> bool:
        """Have *step* called elsewhere. False where nobody is left to call it."""

    #: whether a run has ended when :meth:`execute` returns
    at_once: bool
    #: whether a step may be made in the thread of the timers, as long as it is short
    steps_may_be_lent: bool

    def execute(self, run: Run, ended: Ended) -> bool:
        """Run once, and call *ended* with what was raised. False where nobody is left to run it."""

    def cancel(self, run: Run, reason: str) -> None:
        """End the run, as far as it waits."""

    def has_cancelled(self, error: BaseException | None) -> bool:
        """Whether *error* is what :meth:`cancel` has led to."""

    def pass_on(self, error: BaseException) -> None:
        """Something else than a run has raised *error*, which ends the poller: tell whom such an error of a run is told."""

    @property
    def gone(self) -> bool:
        """Whether no run can ever end, as its loop is closed."""

    def blocked_by_caller(self) -> bool:
        """Whether a run cannot go on while the caller waits for it."""


class InWorkers:
    """Runs a plain function in the worker threads."""

    __slots__ = ("_call", "_context", "_own_thread", "_scope", "steps_may_be_lent")

    at_once = True

    def __init__(self, call: Call, *, own_thread: bool, looks_may_block: bool) -> None:
        self._call = call
        self._own_thread = own_thread
        self.steps_may_be_lent = not (own_thread or looks_may_block)
        self._scope = CancelScope()
        self._context = context_within(self._scope)

    def soon(self, step: Callable[[], None]) -> bool:
        try:
            if self._own_thread:
                start_thread("poller", step)
            else:
                run_in_worker(step)
        except CannotStart:  # the interpreter is going down
            return False
        return True

    def execute(self, run: Run, ended: Ended) -> bool:
        run.thread = threading.get_ident()
        error: BaseException | None = None
        try:
            result = self._context.run(self._call)
            if result is not None:
                _refuse_coroutine(result, self._call)
        except BaseException as raised:  # noqa: BLE001 - the poller judges it
            error = raised.with_traceback(without_our_frames(raised) or raised.__traceback__)
        ended(run, error)
        return True

    def cancel(self, run: Run, reason: str) -> None:
        self._scope.cancel(reason)

    def has_cancelled(self, error: BaseException | None) -> bool:
        return isinstance(error, Cancelled) and error.scope is self._scope

    def pass_on(self, error: BaseException) -> None:
        """Nobody: a worker belongs to many."""

    @property
    def gone(self) -> bool:
        return False

    def blocked_by_caller(self) -> bool:
        return False


class InLoop:
    """Runs a coroutine function in the event loop it was started in; its looks too, unless they may block."""

    at_once = False
    steps_may_be_lent = False

    def __init__(self, call: Callable[[], Coroutine[Any, Any, object]], *, looks_may_block: bool) -> None:
        import asyncio

        self._call = call
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                f"{describe_callable(call)} is a coroutine function: start its poller inside the event loop that is to run it"
            ) from None
        self._looks_may_block = looks_may_block
        self._cancelled = False
        self._scope = CancelScope()
        self._context = context_within(self._scope)

    def soon(self, step: Callable[[], None]) -> bool:
        if not self._looks_may_block:
            return self._call_in_loop(step)
        if self._loop.is_closed():
            return False
        try:
            run_in_worker(step)
        except CannotStart:  # the interpreter is going down
            return False
        return True

    def _call_in_loop(self, function: Callable[..., object], *args: Any) -> bool:
        """Have the loop call *function*. False where it is closed."""
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            return False
        return True

    def execute(self, run: Run, ended: Ended) -> bool:
        if self._looks_may_block:
            return self._call_in_loop(self._begin, run, ended)
        self._begin(run, ended)
        return True

    def _begin(self, run: Run, ended: Ended) -> None:
        run.task = self._loop.create_task(self._within(run, ended), context=self._context)
        run.task.add_done_callback(partial(self._done, run, ended))

    def _done(self, run: Run, ended: Ended, _task: asyncio.Task[Any]) -> None:
        if not run.entered:  # somebody has cancelled it before its first step
            ended(run, sys.modules["asyncio"].CancelledError())

    async def _within(self, run: Run, ended: Ended) -> None:
        run.entered = True
        error: BaseException | None = None
        try:
            _refuse_coroutine(await self._call(), self._call)
        except BaseException as raised:  # noqa: BLE001 - as in a worker; what concerns the task or the loop is raised below
            error = raised.with_traceback(without_our_frames(raised) or raised.__traceback__)
        ended(run, error)
        if error is not None and not run.has_failed_with(error) and not isinstance(error, Cancelled):
            raise error  # the task was cancelled, or the loop is to be left

    def cancel(self, run: Run, reason: str) -> None:
        self._cancelled = True
        self._scope.cancel(reason)
        if run.task is not None:
            self._call_in_loop(run.task.cancel)

    def has_cancelled(self, error: BaseException | None) -> bool:
        ours = isinstance(error, Cancelled) and error.scope is self._scope
        return ours or (self._cancelled and type(error).__name__ == "CancelledError")

    def pass_on(self, error: BaseException) -> None:
        """The loop, as it hears of what a task raises."""
        if not isinstance(error, Exception | Cancelled):
            self._call_in_loop(_throw, error)

    @property
    def gone(self) -> bool:
        return self._loop.is_closed()

    def blocked_by_caller(self) -> bool:
        asyncio = sys.modules["asyncio"]
        try:
            return bool(asyncio.get_running_loop() is self._loop)
        except RuntimeError:
            return False


def _refuse_coroutine(result: object, call: Call) -> None:
    """Raise ``TypeError`` where a run has done nothing but to make a coroutine, which nobody awaits."""
    if isinstance(result, Coroutine):
        result.close()  # else Python warns, of a line of ours, that it was never awaited
        raise TypeError(
            f"{describe_callable(call)} has returned a coroutine, of which nothing has run: give the coroutine function itself, "
            "and start its poller in an event loop"
        )


def _throw(error: BaseException) -> None:
    raise error
