"""What is known of one wait, and how it is told: what was asked for, the errors it ends with, the record it leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from waitkit.engine.clock import current_clock, now
from waitkit.ground.callers import Caller, caller_label
from waitkit.ground.durations import MILLISECOND, Nanoseconds, format_duration
from waitkit.ground.errors import Cancelled, WaitFacts, WaitFailed, WaitTimeout
from waitkit.ground.records import Outcome, WaitRecord, subscribers
from waitkit.ground.settings import DEFAULT, DefaultTimeout, current_settings, scaled
from waitkit.waits.noting import Noted
from waitkit.waits.scopes import CancelScope, current_scopes
from waitkit.waits.watching import Context, Watch

__all__ = ["Account", "Message", "Watchable", "checkpoint"]

#: What is awaited, in words, or a function that finds the words when the wait has failed, from the last value judged.
Message = str | Callable[[object], str]


class Watchable(Protocol):
    """What a wait needs of a condition."""

    def watch(self, context: Context) -> Watch: ...

    @property
    def what(self) -> str: ...


class Account:
    """A wait as others hear of it. It begins now; :class:`waitkit.waits.wait.Wait` goes through with it.

    Args:
        condition: what is awaited.
        timeout: nanoseconds allowed; ``None`` for no limit of its own; ``DEFAULT`` for the default, which applies only
            where no scope around has a deadline.
        unless: ends the wait in failure when it holds and *condition* does not.
        ignore: exceptions of plain callables that mean "not yet".
        message: see :data:`Message`.
        caller: who waits, where the frames will not tell.
        real: whether it takes real time also under a virtual clock that jumps over real things.
        explained: whether its error may be shown, so that the watches are asked for their notes. False where the caller
            takes the error in, as with a look that is a question: who holds a port can take longer to find than the wait.
    """

    __slots__ = (
        "_context",
        "_explained",
        "_hindrance",
        "_limit",
        "_message",
        "_noted",
        "_now",
        "_scopes",
        "_started",
        "_unless",
        "_unless_watch",
        "_value_judged",
        "_watch",
        "_what",
        "caller",
        "clock",
        "looks",
        "overrun",
        "real",
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
        explained: bool = True,
        real: bool = False,
    ) -> None:
        #: whose time it waits in, whatever clock is used later
        self.clock = clock = current_clock()
        self._now = clock.now
        started = clock.now()
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
        #: see above; a driver may know it where the one who made the wait does not
        self.caller = caller
        self._explained = explained
        self._hindrance = ""
        #: see above
        self.real = real
        hearing = subscribers()
        self._noted = Noted(hearing, started) if hearing else None
        self._value_judged: object = None
        #: how often the condition was looked at
        self.looks = 0
        #: how long looks have lasted beyond the deadline, in nanoseconds
        self.overrun = 0
        self._prepare()

    def _prepare(self) -> None:
        """What a subclass adds."""

    @property
    def deadline(self) -> Nanoseconds | None:
        """The instant it ends at the latest; ``None`` for no limit."""
        return self._context.deadline

    def describe(self) -> str:
        """What is awaited, and what was seen of it."""
        saw = self._watch.seen()
        what = self._message if isinstance(self._message, str) else self._what.what
        return f"{what}{f' (last: {saw})' if saw else ''}"

    def _note_overrun(self, begun: Nanoseconds) -> None:
        """Add what of a look, begun at this instant and just ended, was past the deadline."""
        deadline = self._context.deadline
        if deadline is not None:
            self.overrun += max(0, self._now() - max(begun, deadline))

    # How it ends.

    def _timed_out(self, instant: Nanoseconds) -> BaseException:
        for scope in self._scopes:
            if scope.ended_because(instant) is not None and not self._own_limit_first(scope):
                return self._cancelled(scope, instant)
        error = WaitTimeout(self._facts("timed out after"))
        error.__cause__ = self._watch.error()
        return error

    def overdue(self, why: str) -> BaseException:
        """The error it ends with where nobody could look at the deadline, and why. Nothing is asked, so this takes no time."""
        self._explained, self._hindrance = False, why
        return self._timed_out(self._now())

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
        elapsed = self._now() - self._started
        what = self._describe_at_failure()
        asked = (explain or (self._watch,)) if self._explained else ()
        notes = [note for watch in asked for note in watch.explain()]
        if self._hindrance:
            notes.append(self._hindrance)
        if self.overrun > 5 * MILLISECOND:
            notes.append(f"looks took {format_duration(self.overrun)} beyond the deadline, as none is cut off")
        deadline = self._context.deadline
        return WaitFacts(
            headline=f"{ended} {format_duration(elapsed)}{joint}{what}{f', {reason}' if reason else ''}",
            what=what,
            elapsed=elapsed / 1e9,
            limit=None if deadline is None else (deadline - self._started) / 1e9,
            looks=self.looks,
            last=self._watch.seen(),
            caller=caller_label(self.caller),
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
        ended = self._now()
        noted = self._noted
        assert noted is not None
        return WaitRecord(
            what=self._message if isinstance(self._message, str) else self._what.what,
            outcome=outcome,
            thread=noted.thread.name,
            start=self._started,
            end=ended,
            limit=None if deadline is None else deadline - self._started,
            looks=self.looks,
            last=self._watch.seen(),
            caller=caller_label(self.caller),
            thread_id=noted.thread.ident or 0,
            task=noted.task,
            overshoot=noted.overshoot(outcome, self._started, deadline, ended),
            tries=tuple(noted.tries),
        )


def checkpoint(condition: Watchable) -> None:
    """Raise :class:`Cancelled` where a scope around was cancelled or its deadline has come; *condition* was to be awaited."""
    scopes = current_scopes()
    if scopes:
        instant = now()
        for scope in scopes:
            if scope.ended_because(instant) is not None:
                raise Account(condition, None)._cancelled(scope, instant)
