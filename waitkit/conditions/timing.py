"""Time itself as a condition: ``after("10s")``."""

from __future__ import annotations

from waitkit.conditions.condition import Condition
from waitkit.ground.durations import Duration, Nanoseconds, format_duration, to_nanoseconds
from waitkit.waits.watching import Context, Verdict, Watch

__all__ = ["after"]


class _After(Condition[bool]):
    def __init__(self, duration: Nanoseconds) -> None:
        self._duration = duration

    @property
    def what(self) -> str:
        return f"{format_duration(self._duration)} to pass"

    def watch(self, context: Context) -> Watch:
        return _AfterWatch(context.started + self._duration)


class _AfterWatch(Watch):
    __slots__ = ("_due",)

    def __init__(self, due: Nanoseconds) -> None:
        self._due = due

    def look(self, now: Nanoseconds) -> Verdict:
        return Verdict(now >= self._due, now >= self._due, None if now >= self._due else self._due)

    def begins(self) -> Nanoseconds:
        return self._due


def after(duration: Duration) -> Condition[bool]:
    """Holds when *duration* has passed since the wait for it began.

    For combinations, such as ``any_of(done, after("10s"))``. Where something else tells that it is time to go on, wait for
    that instead.

    Args:
        duration: how long.

    Raises:
        TypeError, ValueError: *duration* is no duration.
    """
    return _After(to_nanoseconds(duration, "duration"))
