"""One wait, as a state machine: it decides, and knows neither threads nor event loops.

A driver calls :meth:`Wait.look` until it returns true, rests until :attr:`Wait.due` or a wake-up in between, and
closes the wait in the end. So the rules (who is asked first, what ends a wait, what its error says) exist once, for
threads and for ``async`` alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from waitkit.engine import forks
from waitkit.engine.clock import current_clock, now
from waitkit.engine.descriptor_place import DescriptorPlace
from waitkit.engine.signals import Wake
from waitkit.ground.callers import Caller, caller_label
from waitkit.ground.durations import MILLISECOND, Nanoseconds, format_duration
from waitkit.ground.errors import Cancelled, StoppedHolding, WaitFacts, WaitFailed, WaitTimeout
from waitkit.ground.records import Outcome, WaitRecord, subscribers
from waitkit.ground.settings import DEFAULT, DefaultTimeout, current_settings, scaled
from waitkit.waits.noting import Noted, outcome_of
from waitkit.waits.scopes import CancelScope, current_scopes
from waitkit.waits.watching import Context, Verdict, Watch, earliest

__all__ = ["Message", "Wait", "Watchable", "checkpoint"]

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
        real: whether it takes real time also under a virtual clock that jumps over real things.
        explained: whether its error may be shown, so that the watches are asked for their notes. False where the caller
            takes the error in, as with a look that is a question: who holds a port can take longer to find than the wait.
    """

    __slots__ = (
        "_armed",
        "_closed",
        "_context",
        "_explained",
        "_generation",
        "_hindrance",
        "_limit",
        "_look_due",
        "_message",
        "_noted",
        "_now",
        "_place",
        "_scopes",
        "_started",
        "_unless",
        "_unless_watch",
        "_value_judged",
        "_watch",
        "_what",
        "caller",
        "clock",
        "due",
        "looks",
        "overrun",
        "real",
        "reports",
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
        self._armed: Wake | None = None
        self._place: DescriptorPlace | None = None
        self._closed = False
        self._generation = forks.current
        hearing = subscribers()
        self._noted = Noted(hearing, started) if hearing else None
        self._look_due: Nanoseconds | None = None
        #: whether somebody listens to the progress of this wait, see :meth:`only_reports`
        self.reports = self._noted is not None and self._noted.reports
        self._value_judged: object = None
        #: how often the condition was looked at
        self.looks = 0
        #: how long looks have lasted beyond the deadline, in nanoseconds
        self.overrun = 0
        #: what the condition held with; set when :meth:`look` has returned true
        self.value: object = None
        #: when to look again (or to report progress) at the latest, wake-up or not; ``None``: only a wake-up
        self.due: Nanoseconds | None = None

    @property
    def may_block(self) -> bool:
        """Whether a look may take its time, so that an event loop should not make it."""
        return self._watch.may_block or (self._unless_watch is not None and self._unless_watch.may_block)

    @property
    def outside(self) -> bool:
        """Whether something outside of this program is awaited, which takes real time."""
        return self._watch.outside or (self._unless_watch is not None and self._unless_watch.outside)

    @property
    def without_limit(self) -> bool:
        """Whether it waits for ever, if that has to be."""
        return self.deadline is None

    @property
    def deadline(self) -> Nanoseconds | None:
        """The instant it ends at the latest; ``None`` for no limit."""
        return self._context.deadline

    def describe(self) -> str:
        """What is awaited, and what was seen of it."""
        saw = self._watch.seen()
        what = self._message if isinstance(self._message, str) else self._what.what
        return f"{what}{f' (last: {saw})' if saw else ''}"

    def arm(self, wake: Wake, place: DescriptorPlace | None = None) -> bool:
        """Have *wake* called whenever another look is worth while. Look again afterwards: it may just have happened.

        Returns:
            Whether nothing but descriptors will call it, for which one has to rest at *place*.
        """
        self._armed, self._place = wake, place
        self._generation = forks.current
        if self._noted is not None:
            wake = self._noted.noting(wake)
        watches = (self._watch,) if self._unless_watch is None else (self._watch, self._unless_watch)
        if place is not None and not self._scopes and all(watch.arm_at(place, wake) for watch in watches):
            return True
        for scope in self._scopes:
            scope.changed.subscribe(wake, self)
        for watch in watches:
            watch.arm(wake)
        return False

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
        if self._generation != forks.current and self._armed is not None:
            self._rearm(self._armed, self._place)
        begun = self._now()
        for scope in self._scopes:
            if scope.cancel_called:
                raise self._cancelled(scope, begun)
        self.looks += 1  # one that raises has looked, too
        verdict = self._watch.look(begun)
        if self._unless_watch is not None:
            verdict = self._look_against(self._unless_watch, begun, verdict)
        if verdict.holds:
            self.value = verdict.value
            return True
        if self._noted is not None:
            self._noted.look(begun, self._watch)
        self._value_judged = verdict.value
        if verdict.stopped:
            raise StoppedHolding(self._facts("stopped holding after", joint=": "))
        due = verdict.again
        deadline = self._context.deadline
        if deadline is not None:
            if begun >= deadline:
                self._note_overrun(begun)
                raise self._timed_out(begun)
            if due is None or deadline < due:  # a look that is due earlier has ended earlier
                due = deadline
                self._note_overrun(begun)
        self.due = due
        if self.reports:
            self._look_due = due
            self._report_progress(self._now())
        return False

    def _look_against(self, watch: Watch, begun: Nanoseconds, verdict: Verdict) -> Verdict:
        """Look whether what ``unless`` names has come, where the condition does not hold. Returns the verdict on both."""
        if verdict.holds:
            return verdict
        against = watch.look(begun)
        if not against.holds:
            return verdict._replace(again=earliest(verdict.again, against.again))
        deadline = self._context.deadline
        if deadline is None or begun < deadline:
            # Both may have come since the first of these looks, as a process's last words and its end: those go first.
            self.looks += 1
            verdict = self._watch.look(self._now())
        if verdict.holds:
            return verdict
        if self._noted is not None:
            self._noted.look(begun, self._watch)
        self._value_judged = verdict.value
        self._note_overrun(begun)
        raise self._failed()

    def _note_overrun(self, begun: Nanoseconds) -> None:
        """Add what of a look, begun at this instant and just ended, was past the deadline."""
        deadline = self._context.deadline
        if deadline is not None:
            self.overrun += max(0, self._now() - max(begun, deadline))

    def only_reports(self) -> bool:
        """Called where a rest ended by the time, not by a wake-up: report progress, where it was for that alone.

        Returns:
            True when no look is due yet: rest again, until :attr:`due`. Who listens to progress makes nobody look more often.
        """
        if not self.reports or self._generation != forks.current:
            return False
        instant = self._now()
        if self._look_due is not None and instant >= self._look_due:
            return False
        self._report_progress(instant)
        return True

    def close(self, error: BaseException | None = None) -> None:
        """Unsubscribe from everything and leave a record. *error* is what the wait ended with, if not with success.

        Closing again does nothing, or what an interrupt kept the first time from doing.
        """
        if self._closed:
            return
        for scope in self._scopes:
            scope.changed.unsubscribe(self)
        if error is not None:
            self._watch.unused()
        self._watch.close()
        if self._unless_watch is not None:
            self._unless_watch.close()
        if self._noted is not None and self._noted.untold:
            self._noted.tell_end(self._record(outcome_of(error)))
        self._closed = True

    def _rearm(self, wake: Wake, place: DescriptorPlace | None) -> None:
        """This process is a child forked since the last look: what we had subscribed to stayed in the parent."""
        for scope in self._scopes:
            scope.changed.unsubscribe(self)
        self._watch.close()
        self._watch = self._what.watch(self._context)
        if self._unless is not None and self._unless_watch is not None:
            self._unless_watch.close()
            self._unless_watch = self._unless.watch(self._context)
        self.arm(wake, place)

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

    def _report_progress(self, instant: Nanoseconds) -> None:
        assert self._noted is not None
        self.due = earliest(self._look_due, self._noted.tell_progress(instant, lambda: self._record("pending")))


def checkpoint(condition: Watchable) -> None:
    """Raise :class:`Cancelled` where a scope around was cancelled or its deadline has come; *condition* was to be awaited."""
    scopes = current_scopes()
    if scopes:
        instant = now()
        for scope in scopes:
            if scope.ended_because(instant) is not None:
                raise Wait(condition, None)._cancelled(scope, instant)
