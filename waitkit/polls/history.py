"""What became of a poller's runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from waitkit.engine.clock import now
from waitkit.ground.durations import MILLISECOND, SECOND, Nanoseconds
from waitkit.polls.records import PollerState, PollerStatus

__all__ = ["History"]

#: What takes less is shorter than to have another thread do it.
_SHORT: Final = MILLISECOND // 10


class History:
    """Counts and the last run. Written by the poller's own steps, which follow one another; read by anybody."""

    __slots__ = ("_duration", "_error", "_failed_runs", "begun", "failures", "runs", "was_short")

    def __init__(self) -> None:
        #: how many runs have ended, with all that comes after them
        self.runs = 0
        #: how many of the last runs in a row have failed
        self.failures = 0
        self._failed_runs = 0
        #: when the last run began
        self.begun: Nanoseconds | None = None
        #: whether it and the hooks that were called after it took next to no time, so that the next one most likely will
        self.was_short = False
        self._duration: Nanoseconds | None = None
        self._error: BaseException | None = None

    def end(self, instant: Nanoseconds, error: BaseException | None) -> int:
        """It has ended by itself. Returns how many failures a success has brought to an end."""
        assert self.begun is not None
        self._duration = instant - self.begun
        self._error = error
        before = self.failures
        if error is not None:
            self.failures += 1
            self._failed_runs += 1
            return 0
        self.failures = 0
        return before

    def over(self, instant: Nanoseconds) -> None:
        """All that comes after a run has been done, too."""
        assert self.begun is not None
        self.runs += 1
        self.was_short = instant - self.begun < _SHORT

    def cut_off(self, instant: Nanoseconds) -> None:
        """It was cancelled, so whether it would have failed nobody knows."""
        assert self.begun is not None
        self._duration = instant - self.begun

    @property
    def duration_in_seconds(self) -> float:
        """Of the last run that has ended; 0.0 before."""
        return (self._duration or 0) / SECOND

    def status(self, name: str, state: PollerState, due: Nanoseconds | None) -> PollerStatus:
        """All of it, for users."""
        return PollerStatus(
            name=name,
            state=state,
            runs=self.runs,
            failures=self.failures,
            failed_runs=self._failed_runs,
            last_started=None if self.begun is None else _in_utc(self.begun),
            last_duration=None if self._duration is None else self._duration / SECOND,
            last_error=self._error,
            next_due=None if due is None else _in_utc(due),
        )


def _in_utc(instant: Nanoseconds) -> datetime:
    """Durations are measured by the monotonic clock; people want to read the time of day."""
    return datetime.now(UTC) + timedelta(microseconds=(instant - now()) / 1_000)
