"""Scopes: a deadline, and a way to cancel, for all waits inside a block (the terms of trio and anyio)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from types import TracebackType
from typing import Self

from waitkit.engine.clock import now
from waitkit.engine.signals import Signal
from waitkit.ground.checks import check_text
from waitkit.ground.durations import (
    Duration,
    Nanoseconds,
    format_duration,
    to_nanoseconds,
    to_optional_nanoseconds,
)
from waitkit.ground.errors import Cancelled, WaitTimeout

__all__ = ["CancelScope", "context_within", "current_scopes", "fail_after", "move_on_after", "outside_scopes"]

_stack: ContextVar[tuple[CancelScope, ...]] = ContextVar("waitkit_scopes", default=())


def current_scopes() -> tuple[CancelScope, ...]:
    """The scopes around the caller, the outermost first."""
    return _stack.get()


@contextmanager
def outside_scopes() -> Iterator[None]:
    """For cleaning up: waits in this block obey no scope around it, as a cancelled one would end them before they begin."""
    token = _stack.set(())
    try:
        yield
    finally:
        _stack.reset(token)


def context_within(scope: CancelScope) -> Context:
    """The caller's context, in which *scope* is the only scope around: for code that runs elsewhere, later and on its own."""
    context = copy_context()
    context.run(_stack.set, (scope,))
    return context


class CancelScope:
    """A block whose waits can be ended together: by :meth:`cancel` from any thread, or by a deadline.

    ::

        scope = CancelScope()
        with scope:
            wait_for(orders_arrived)        # scope.cancel() elsewhere ends this wait, and the block, at once
        if scope.cancelled_caught: ...

    Scopes nest: of all deadlines around a wait the tightest wins, and the outermost scope that is cancelled takes the
    exception in. A scope may be handed to other threads, which enter it with their own ``with``; its deadline counts from
    the first entry. Threads do not inherit scopes; tasks do, as they inherit their context, and so does a forked child, as one of
    ``multiprocessing``: it obeys the deadlines, and is not told of what its parent cancels.

    Args:
        timeout: how long the block may take, counted from the first entry; ``None`` for no limit.

    Raises:
        TypeError, ValueError: *timeout* is no duration.
    """

    _fails = False

    def __init__(self, timeout: Duration | None = None) -> None:
        self._timeout = to_optional_nanoseconds(timeout, "timeout")
        self._deadline: Nanoseconds | None = None
        self._reason: str | None = None
        self._signal = Signal()
        self._caught = False

    @property
    def cancel_called(self) -> bool:
        """Whether :meth:`cancel` was called. A deadline that came does not count."""
        return self._reason is not None

    @property
    def cancelled_caught(self) -> bool:
        """Whether the block was left early because this scope was cancelled or its deadline came."""
        return self._caught

    @property
    def remaining(self) -> float | None:
        """Seconds left until the deadline, 0.0 when it has passed; ``None`` where there is none or nobody has entered."""
        if self._deadline is None:
            return None
        return max(0, self._deadline - now()) / 1e9

    def cancel(self, reason: str = "") -> None:
        """End every wait inside this scope at once, in all threads and tasks; later ones end before they begin.

        Args:
            reason: goes into the :class:`Cancelled` that the waits raise.

        Raises:
            TypeError: *reason* is no text.
        """
        check_text(reason, "reason")
        if self._reason is None:
            try:
                self._reason = reason
                self._signal.notify()
            except BaseException:  # Ctrl-C: it may be cancelled, and cancelling it again would tell nobody
                self._signal.notify()
                raise

    # What a wait asks of the scopes around it.

    @property
    def deadline(self) -> Nanoseconds | None:
        """The instant of the deadline, in nanoseconds of the current clock; ``None`` without one."""
        return self._deadline

    @property
    def changed(self) -> Signal:
        """Notified when the scope is cancelled."""
        return self._signal

    def ended_because(self, instant: Nanoseconds) -> str | None:
        """Why waits inside must end at *instant*, or ``None`` where they may go on."""
        if self._reason is not None:
            return f"the scope was cancelled{': ' if self._reason else ''}{self._reason}"
        if self._deadline is not None and instant >= self._deadline:
            assert self._timeout is not None
            return f"the scope's {format_duration(self._timeout)} are over"
        return None

    def __enter__(self) -> Self:
        if self._deadline is None and self._timeout is not None:
            self._deadline = now() + self._timeout
        _stack.set((*_stack.get(), self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        stack = _stack.get()
        if not stack or stack[-1] is not self:
            raise RuntimeError(
                "a scope was left that is not the innermost one here: enter and leave scopes in one thread or task, "
                "with nested with-blocks"
            )
        _stack.set(stack[:-1])
        ours, others = self._split(error)
        if ours is None:
            return False
        self._caught = True
        if others is not None:
            raise others
        if self._fails and not self.cancel_called:
            raise WaitTimeout(ours.facts) from ours.__cause__
        return True

    def _split(self, error: BaseException | None) -> tuple[Cancelled | None, BaseException | None]:
        """What of *error* is the end of this scope, and what is left without: of a task group, tasks of both kinds come."""
        if isinstance(error, Cancelled):
            return (error, None) if error.scope is self else (None, error)
        if not isinstance(error, BaseExceptionGroup):
            return None, error
        ended, others = error.split(lambda one: isinstance(one, Cancelled) and one.scope is self)
        while isinstance(ended, BaseExceptionGroup):
            ended = ended.exceptions[0]
        return (ended, others) if isinstance(ended, Cancelled) else (None, error)

    def __repr__(self) -> str:
        limit = "no deadline" if self._timeout is None else format_duration(self._timeout)
        return f"<{type(self).__name__} {limit}{', cancelled' if self.cancel_called else ''}>"


class _FailAfter(CancelScope):
    _fails = True


def fail_after(timeout: Duration) -> CancelScope:
    """A scope whose waits share one deadline; when it comes, the block raises :class:`WaitTimeout`.

    The exception names the wait that was in progress. Inside the block it travels as :class:`Cancelled`, so an inner
    ``except WaitTimeout`` does not mistake it for the end of an inner wait. A block that does not wait is not
    interrupted; cancelling the scope explicitly leaves the block quietly.

    Args:
        timeout: how long the block may take.

    Raises:
        TypeError, ValueError: *timeout* is no duration.
    """
    to_nanoseconds(timeout, "timeout")  # None is a limit for CancelScope, not here
    return _FailAfter(timeout)


def move_on_after(timeout: Duration) -> CancelScope:
    """A scope whose block is left quietly when its time is over; ``cancelled_caught`` then says so.

    Args:
        timeout: how long the block may take.

    Raises:
        TypeError, ValueError: *timeout* is no duration.
    """
    to_nanoseconds(timeout, "timeout")
    return CancelScope(timeout)


CancelScope.__module__ = "waitkit"
