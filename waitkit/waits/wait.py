"""One wait, as a state machine: it decides, and knows neither threads nor event loops.

A driver calls :meth:`Wait.look` until it returns true, rests until :attr:`Wait.due` or a wake-up in between, and
closes the wait in the end. So the rules (who is asked first, what ends a wait, what its error says) exist once, for
threads and for ``async`` alike.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from waitkit.engine.clock import now
from waitkit.engine.forks import generation
from waitkit.engine.signals import Wake
from waitkit.ground.callers import Caller, caller_label
from waitkit.ground.durations import MILLISECOND, Nanoseconds, format_duration
from waitkit.ground.errors import Cancelled, StoppedHolding, WaitFacts, WaitFailed, WaitTimeout
from waitkit.ground.records import Outcome, Subscriber, WaitRecord, publish, subscribers
from waitkit.ground.settings import DEFAULT, DefaultTimeout, current_settings, scaled
from waitkit.waits.noting import Noted, task_name
from waitkit.waits.scopes import CancelScope, current_scopes
from waitkit.waits.watching import Context, Watch

__all__ = ["Message", "Wait", "Watchable", "checkpoint", "earliest"]

#: What is awaited, in words, or a function that finds the words when the wait has failed, from the last value judged.
Message = str | Callable[[object], str]


class Watchable(Protocol):
    """What a wait needs of a condition."""

    def watch(self, context: Context) -> Watch: ...

    @property
    def what(self) -> str: ...


class Wait:
    """A wait from its first look to its end.

    Args:
        condition: what is awaited.
        timeout: nanoseconds allowed; ``None`` for no limit of its own; ``DEFAULT`` for the default, which applies only
            where no scope around has a deadline.
        unless: ends the wait in failure when it holds and *condition* does not.
        ignore: exceptions of plain callables that mean "not yet".
        message: see :data:`Message`.
        caller: who waits, where the frames will not tell.
    """

    __slots__ = (
        "_armed",
        "_caller",
        "_context",
        "_limit",
        "_message",
        "_noted",
        "_progress",
        "_scope_tokens",
        "_scopes",
        "_started",
        "_subscribers",
        "_unless",
        "_unless_watch",
        "_value_judged",
        "_watch",
        "_what",
        "due",
        "looks",
        "overrun",
        "value",
    )

    def __init__(
        self,
        condition: Watchable,
        timeout: Nanoseconds | DefaultTimeout | None,
        *,
        unless: Watchable | None = None,
        ignore: tuple[type[Exception], ...] = (),
        message: Message | None = None,
        caller: Caller | None = None,
    ) -> None:
        started = now()
        settings = current_settings()
        self._scopes = current_scopes()
        scope_deadlines = [scope.deadline for scope in self._scopes if scope.deadline is not None]
        if timeout is DEFAULT:
            timeout = None
            if not scope_deadlines and settings.timeout is not None:
                timeout = scaled(settings.timeout)
        deadline = None if timeout is None else started + timeout
        if scope_deadlines:
            tightest = min(scope_deadlines)
            deadline = tightest if deadline is None else min(deadline, tightest)
        self._started = started
        self._limit = timeout
        self._context = Context(started, deadline, ignore, settings.probe_cap)
        self._watch = condition.watch(self._context)
        self._unless = unless
        self._unless_watch = None if unless is None else unless.watch(self._context)
        self._what = condition
        self._message = message
        self._caller = caller
        self._armed: tuple[Wake, int] | None = None
        self._scope_tokens: list[tuple[CancelScope, object]] = []
        self._subscribers = subscribers()
        self._progress: list[tuple[Nanoseconds, Subscriber]] = [
            (started + subscriber.first_progress, subscriber)
            for subscriber in self._subscribers
            if subscriber.on_progress is not None
        ]
        self._noted = Noted(self._subscribers) if self._subscribers else None
        self._value_judged: object = None
        #: how often the condition was looked at
        self.looks = 0
        #: how far the last look that began in time went past the deadline, in nanoseconds
        self.overrun = 0
        #: what the condition held with; set when :meth:`look` has returned true
        self.value: object = None
        #: when to look again at the latest, wake-up or not; ``None``: only a wake-up
        self.due: Nanoseconds | None = None

    @property
    def may_block(self) -> bool:
        """Whether a look may take its time, so that an event loop should not make it."""
        return self._watch.may_block or (self._unless_watch is not None and self._unless_watch.may_block)

    def arm(self, wake: Wake) -> None:
        """Have *wake* called whenever another look is worth while. Look again afterwards: it may just have happened."""
        if self._noted is not None:
            wake = self._noted.noting(wake)
        self._armed = (wake, generation())
        for scope in self._scopes:
            self._scope_tokens.append((scope, scope.changed.subscribe(wake)))
        self._watch.arm(wake)
        if self._unless_watch is not None:
            self._unless_watch.arm(wake)

    def look(self) -> bool:
        """Look once; afterwards :attr:`due` says when to look again.

        Returns:
            True when the condition holds: :attr:`value` is what it holds with.

        Raises:
            Cancelled: a scope was cancelled (before the look), or its deadline has come (after it).
            WaitTimeout: this look began at the deadline or later, and the condition does not hold.
            WaitFailed: the ``unless`` condition holds.
            StoppedHolding: a condition that had to hold all along does not.
        """
        if self._armed is not None and self._armed[1] != generation():
            self._rearm()
        begun = now()
        for scope in self._scopes:
            if scope.cancel_called:
                raise self._cancelled(scope, begun)
        verdict = self._watch.look(begun)
        self.looks += 1
        if verdict.holds:
            self.value = verdict.value
            return True
        if self._noted is not None:
            self._noted.look(begun, self._watch)
        self._value_judged = verdict.value
        if verdict.stopped:
            raise StoppedHolding(self._facts("stopped holding after", joint=": "))
        due = verdict.again
        if self._unless_watch is not None:
            against = self._unless_watch.look(begun)
            if against.holds:
                raise self._failed()
            due = earliest(due, against.again)
        deadline = self._context.deadline
        if deadline is not None and begun >= deadline:
            raise self._timed_out(begun)
        self.due = earliest(due, deadline)
        if deadline is not None:
            self.overrun = max(0, now() - deadline)
        if self._progress:
            self._report_progress()
        return False

    def close(self, error: BaseException | None = None) -> None:
        """Unsubscribe from everything and leave a record. *error* is what the wait ended with, if not with success."""
        for scope, token in self._scope_tokens:
            scope.changed.unsubscribe(token)
        self._scope_tokens.clear()
        self._watch.close()
        if self._unless_watch is not None:
            self._unless_watch.close()
        hearing = [subscriber.on_end for subscriber in self._subscribers if subscriber.on_end is not None]
        if hearing:
            record = self._record(_outcome(error))
            for callback in hearing:
                publish(callback, record)

    def _rearm(self) -> None:
        """This process is a child forked since the last look: what we had subscribed to stayed in the parent."""
        assert self._armed is not None
        wake = self._armed[0]
        for scope, token in self._scope_tokens:
            scope.changed.unsubscribe(token)
        self._scope_tokens.clear()
        self._watch.close()
        self._watch = self._what.watch(self._context)
        if self._unless is not None and self._unless_watch is not None:
            self._unless_watch.close()
            self._unless_watch = self._unless.watch(self._context)
        self.arm(wake)

    # How it ends.

    def _timed_out(self, instant: Nanoseconds) -> BaseException:
        for scope in self._scopes:
            if scope.ended_because(instant) is not None and not self._own_limit_first(scope):
                return self._cancelled(scope, instant)
        error = WaitTimeout(self._facts("timed out after"))
        error.__cause__ = self._watch.error()
        return error

    def _own_limit_first(self, scope: CancelScope) -> bool:
        return self._limit is not None and scope.deadline is not None and self._started + self._limit < scope.deadline

    def _cancelled(self, scope: CancelScope, instant: Nanoseconds) -> Cancelled:
        reason = scope.ended_because(instant) or ""
        error = Cancelled(self._facts("cancelled after", reason), reason, scope)
        error.__cause__ = self._watch.error()
        return error

    def _failed(self) -> WaitFailed:
        assert self._unless is not None and self._unless_watch is not None
        saw = self._unless_watch.seen()
        because = f"as first came {self._unless.what}{f' ({saw})' if saw else ''}"
        error = WaitFailed(self._facts("gave up after", because, explain=(self._watch, self._unless_watch)))
        error.__cause__ = self._watch.error()
        return error

    def _facts(
        self,
        ended: str,
        reason: str = "",
        *,
        joint: str = " waiting for ",
        explain: tuple[Watch, ...] | None = None,
    ) -> WaitFacts:
        elapsed = now() - self._started
        what = self._describe_at_failure()
        notes = [note for watch in explain or (self._watch,) for note in watch.explain()]
        if self.overrun > 5 * MILLISECOND:
            notes.append(f"a look ended {format_duration(self.overrun)} past the deadline, as none is cut off")
        deadline = self._context.deadline
        return WaitFacts(
            headline=f"{ended} {format_duration(elapsed)}{joint}{what}{f', {reason}' if reason else ''}",
            what=what,
            elapsed=elapsed / 1e9,
            limit=None if deadline is None else (deadline - self._started) / 1e9,
            looks=self.looks,
            last=self._watch.seen(),
            caller=caller_label(self._caller),
            notes=tuple(notes),
            tries=() if self._noted is None else tuple(self._noted.tries),
        )

    def _describe_at_failure(self) -> str:
        if self._message is None:
            return self._what.what
        if isinstance(self._message, str):
            return self._message
        try:
            return str(self._message(self._value_judged))
        except Exception as error:  # noqa: BLE001 - it must not take the place of the error it was to describe
            return f"{self._what.what} (its message function raised {type(error).__name__}: {error})"

    # What subscribers hear.

    def _record(self, outcome: Outcome) -> WaitRecord:
        deadline = self._context.deadline
        thread = threading.current_thread()
        ended = now()
        assert self._noted is not None
        return WaitRecord(
            what=self._message if isinstance(self._message, str) else self._what.what,
            outcome=outcome,
            thread=thread.name,
            start=self._started,
            end=ended,
            limit=None if deadline is None else deadline - self._started,
            looks=self.looks,
            last=self._watch.seen(),
            caller=caller_label(self._caller),
            thread_id=thread.ident or 0,
            task=task_name(),
            overshoot=self._noted.overshoot(outcome, self._started, deadline, ended),
            tries=tuple(self._noted.tries),
        )

    def _report_progress(self) -> None:
        instant = now()
        for position, (due, subscriber) in enumerate(self._progress):
            if instant >= due:
                publish(subscriber.on_progress, self._record("pending"))
                due = self._started + round((now() - self._started) * subscriber.growth)
                self._progress[position] = (due, subscriber)
            self.due = earliest(self.due, due)


def checkpoint(condition: Watchable) -> None:
    """Raise :class:`Cancelled` where a scope around was cancelled or its deadline has come; *condition* was to be awaited."""
    scopes = current_scopes()
    if scopes:
        instant = now()
        for scope in scopes:
            if scope.ended_because(instant) is not None:
                raise Wait(condition, None)._cancelled(scope, instant)


def earliest(one: Nanoseconds | None, other: Nanoseconds | None) -> Nanoseconds | None:
    """The earlier of two instants, of which either may be missing."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _outcome(error: BaseException | None) -> Outcome:
    if error is None:
        return "held"
    if isinstance(error, WaitTimeout):
        return "timeout"
    if isinstance(error, WaitFailed):
        return "failed"
    # A task's own cancellation is told by its name: asyncio is imported only where it is used.
    return "cancelled" if isinstance(error, Cancelled) or type(error).__name__ == "CancelledError" else "error"
