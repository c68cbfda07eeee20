"""Records: each wait tells its subscribers what it waited for, how long, and how it ended.

Nobody subscribed: a wait reads one module variable and that is all. Subscribers are called in the waiting
thread, so they should be quick; what they raise is logged and goes no further.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Literal, NamedTuple, Self, TypeAlias

from waitkit.ground.checks import check_bool, check_callables
from waitkit.ground.durations import Duration, Nanoseconds, format_duration, to_nanoseconds

__all__ = [
    "Outcome",
    "Subscriber",
    "Try",
    "WaitRecord",
    "log_long_waits",
    "note_tries",
    "publish",
    "subscribe",
    "subscribers",
]

_INFO: Final = 20  # logging.INFO; logging itself is imported where something is logged

#: How a wait ended; ``"pending"`` in a report of progress.
Outcome: TypeAlias = Literal["pending", "held", "timeout", "cancelled", "failed", "error"]


class Try(NamedTuple):
    """What a wait saw for a while, without a change.

    Attributes:
        start: when it was seen first, in nanoseconds of the current clock.
        end: when it was seen last, likewise.
        looks: how often it was seen in a row.
        seen: what was seen, in words; empty where the condition has nothing to tell.
    """

    start: Nanoseconds
    end: Nanoseconds
    looks: int
    seen: str


Try.__module__ = "waitkit"


class WaitRecord(NamedTuple):
    """One wait, as its subscribers see it.

    Attributes:
        what: what was awaited, in words.
        outcome: ``"held"``, ``"timeout"``, ``"cancelled"``, ``"failed"`` (the ``unless=`` condition came true),
            ``"error"`` (an exception came out of the wait), or ``"pending"`` in a report of progress.
        thread: the name of the thread that waited.
        start: when it began, in nanoseconds of the current clock.
        end: when it ended, or was reported, likewise.
        limit: the nanoseconds it was allowed in all; ``None`` for no limit.
        looks: how often the condition was looked at.
        last: what the last look saw, in words.
        caller: ``"file:line"`` of the call that waited.
        thread_id: the identifier of that thread, which Python may give to another one when it has ended.
        task: the name of the asyncio task that waited; empty outside of tasks.
        overshoot: at most how many nanoseconds the wait went on too long: since the wake-up that told of the change,
            since the instant at which time alone made it hold (as with ``after`` and limiters), else since the last look that
            did not hold; and where the limit ended it, since the limit.
        tries: what the looks that did not hold saw, equal ones in a row taken together; empty unless a subscriber asked
            for *tries*. The first 8 and the last 24 changes are kept.
    """

    what: str
    outcome: Outcome
    thread: str
    start: Nanoseconds
    end: Nanoseconds
    limit: Nanoseconds | None
    looks: int
    last: str
    caller: str
    thread_id: int = 0
    task: str = ""
    overshoot: Nanoseconds = 0
    tries: tuple[Try, ...] = ()

    @property
    def elapsed(self) -> float:
        """Seconds from start to end."""
        return (self.end - self.start) / 1e9

    def __str__(self) -> str:
        """``"port 5432 to listen: 5 s of 30 s, 41 looks, last: connection refused"``."""
        limit = "" if self.limit is None else f" of {format_duration(self.limit)}"
        last = f", last: {self.last}" if self.last else ""
        return f"{self.what}: {format_duration(self.end - self.start)}{limit}, {self.looks} looks{last}"


WaitRecord.__module__ = "waitkit"


class Subscriber:
    """A subscription to the records of all waits of this process; leave it by :meth:`close` or as a ``with`` block."""

    __slots__ = ("first_progress", "growth", "on_end", "on_progress", "tries")

    def __init__(
        self,
        on_end: Callable[[WaitRecord], object] | None,
        on_progress: Callable[[WaitRecord], object] | None,
        first_progress: Nanoseconds,
        growth: float,
        tries: bool = False,
    ) -> None:
        self.on_end = on_end
        self.on_progress = on_progress
        self.first_progress = first_progress
        self.growth = growth
        self.tries = tries

    def close(self) -> None:
        """End the subscription. Closing it again does nothing."""
        global _subscribers
        _subscribers = tuple(other for other in _subscribers if other is not self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


_telling = threading.local()

# Replaced as a whole, never changed in place: a wait that reads it needs no lock, and neither does a fork.
_subscribers: tuple[Subscriber, ...] = ()


def subscribers() -> tuple[Subscriber, ...]:
    """Those subscribed now; none while the caller is itself being told something: what it waits for is not told in turn."""
    return () if _subscribers and getattr(_telling, "now", False) else _subscribers


def subscribe(
    on_end: Callable[[WaitRecord], object] | None = None,
    *,
    on_progress: Callable[[WaitRecord], object] | None = None,
    progress_after: Duration = "5s",
    progress_growth: float = 2.0,
    tries: bool = False,
) -> Subscriber:
    """Hear of every wait of this process.

    Args:
        on_end: called with the record of each wait that has ended, in the thread that waited.
        on_progress: called with a record whose outcome is ``"pending"`` while a wait goes on.
        progress_after: how long a wait must have gone on for the first report of progress.
        progress_growth: each further report comes when the wait has lasted this many times as long, 1.01 to 1000.
        tries: whether waits note what each look saw, for their records and for the facts of their errors. It costs a
            ``repr`` for each look.

    Returns:
        The subscription: a context manager with ``close()``.

    Raises:
        TypeError: a callback cannot be called, both are left out, or *tries* is no bool.
        ValueError: a duration is bad, or *progress_growth* is out of its range.
    """
    if on_end is None and on_progress is None:
        raise TypeError("subscribe() needs on_end=, on_progress=, or both")
    check_callables(": give a function of one WaitRecord", on_end=on_end, on_progress=on_progress)
    if isinstance(progress_growth, bool) or not isinstance(progress_growth, int | float):
        raise TypeError(f"progress_growth={progress_growth!r} is not a number from 1.01 to 1000")
    if not 1.01 <= progress_growth <= 1_000:
        raise ValueError(f"progress_growth={progress_growth!r} is not a number from 1.01 to 1000")
    check_bool(tries, "tries")
    first = to_nanoseconds(progress_after, "progress_after")
    subscriber = Subscriber(on_end, on_progress, max(first, 1_000_000), progress_growth, tries)
    global _subscribers
    _subscribers = (*_subscribers, subscriber)
    return subscriber


def note_tries() -> Subscriber:
    """Have all waits note what their looks saw, for the facts of their errors; nobody is called. Close it in the end."""
    global _subscribers
    subscriber = Subscriber(None, None, 1_000_000, 2.0, tries=True)
    _subscribers = (*_subscribers, subscriber)
    return subscriber


def publish(callback: Callable[[WaitRecord], object] | None, record: WaitRecord) -> None:
    """Hand a record to one callback of a subscriber. A subscriber that raises is logged: it must not end the wait."""
    if callback is None:
        return
    _telling.now = True
    try:
        callback(record)
    except Exception:
        import logging

        logging.getLogger("waitkit").exception("a subscriber to wait records raised on: %s", record)
    finally:
        _telling.now = False


def log_long_waits(after: Duration = "5s", *, level: int = _INFO) -> Subscriber:
    """Log waits that take long, at growing gaps, to the logger ``"waitkit"``.

    The lines read ``still waiting for port 5432 to listen: 5 s of 30 s, 41 looks, last: connection refused``.

    Args:
        after: how long a wait must have gone on for its first line; the next come at 2, 4, 8 ... times that.
        level: the level to log at, ``logging.INFO`` unless told otherwise.

    Returns:
        The subscription: a context manager with ``close()``.

    Raises:
        TypeError, ValueError: *after* is no duration; *level* is no number, as those of :mod:`logging` are.
    """
    if isinstance(level, bool) or not isinstance(level, int):
        raise TypeError(f"level={level!r} is not a number such as logging.INFO")
    import logging

    logger = logging.getLogger("waitkit")

    def still_waiting(record: WaitRecord) -> None:
        logger.log(level, "still waiting for %s (%s)", record, record.caller)

    return subscribe(on_progress=still_waiting, progress_after=after)
