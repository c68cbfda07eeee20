"""One wait, as a state machine: it decides, and knows neither threads nor event loops.

A driver calls :meth:`Wait.look` until it returns true, rests until :attr:`Wait.due` or a wake-up in between, and
closes the wait in the end. So the rules (who is asked first, what ends a wait, what its error says) exist once, for
threads and for ``async`` alike.
"""

from __future__ import annotations

from waitkit.engine import forks
from waitkit.engine.descriptor_place import DescriptorPlace
from waitkit.engine.signals import Wake
from waitkit.ground.durations import Nanoseconds
from waitkit.ground.errors import StoppedHolding
from waitkit.waits.account import Account
from waitkit.waits.noting import outcome_of
from waitkit.waits.watching import Verdict, Watch, earliest

__all__ = ["Wait"]


class Wait(Account):
    """A wait from its first look to its end. What it is made of, :class:`Account` says."""

    __slots__ = ("_armed", "_closed", "_generation", "_look_due", "_place", "due", "reports", "value")

    def _prepare(self) -> None:
        self._armed: Wake | None = None
        self._place: DescriptorPlace | None = None
        self._closed = False
        self._generation = forks.current
        self._look_due: Nanoseconds | None = None
        #: whether somebody listens to the progress of this wait, see :meth:`only_reports`
        self.reports = self._noted is not None and self._noted.reports
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

    # What subscribers hear.

    def _report_progress(self, instant: Nanoseconds) -> None:
        assert self._noted is not None
        self.due = earliest(self._look_due, self._noted.tell_progress(instant, lambda: self._record("pending")))
