"""The ledger: what was slept during one test, added up by site."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Final, Literal, NamedTuple, TypeAlias

from waitkit.engine.locks import ForkSafeLock
from waitkit.guard.sites import Place, site_of

__all__ = ["Kind", "Ledger", "Slept", "SleptAt"]

Kind: TypeAlias = Literal["time.sleep", "asyncio.sleep", "Event.wait", "Condition.wait", "busy polling"]

_FOLD_AT: Final = 4_096


class SleptAt(NamedTuple):
    """What was slept at one site.

    Attributes:
        kind: how.
        site: where, in words.
        elsewhere: whether another thread than the test's slept.
        times: how often.
        nanoseconds: how long in all.
    """

    kind: str
    site: str
    elsewhere: bool
    times: int
    nanoseconds: int


class Slept(NamedTuple):
    """What was slept during one test, or between tests.

    Attributes:
        guessed: the nanoseconds of the test's own thread that went by in sleeping: what overlaps (tasks that sleep at the
            same time) counts once.
        sites: where, the most expensive first.
    """

    guessed: int
    sites: list[SleptAt]


class Ledger:
    """Takes down each sleep that has ended. Any thread may add; one takes the sums."""

    def __init__(self) -> None:
        # Appending is atomic. The lock guards what follows, and is taken once in 4,096 sleeps and at the end of a test.
        self._entries: list[tuple[Kind, Place, int, int, int]] = []
        self._lock = ForkSafeLock()
        self._sums: dict[tuple[Kind, Place, bool], list[int]] = defaultdict(lambda: [0, 0])
        self._guessed = 0
        self._covered_until = 0
        self._thread = threading.get_ident()

    def add(self, kind: Kind, place: Place, start: int, end: int) -> None:
        """Something was slept at *place* from *start* to *end*, in this thread."""
        self._entries.append((kind, place, start, end, threading.get_ident()))
        if len(self._entries) >= _FOLD_AT:
            with self._lock:
                self._fold()

    def _fold(self) -> None:
        """Add up the entries. The lock is held."""
        count = len(self._entries)
        entries, self._entries[:count] = self._entries[:count], []
        for kind, place, start, end, thread in sorted(entries, key=lambda entry: entry[2]):
            elsewhere = thread != self._thread
            sums = self._sums[kind, place, elsewhere]
            sums[0] += 1
            sums[1] += end - start
            if not elsewhere:
                self._guessed += max(0, end - max(start, self._covered_until))
                self._covered_until = max(self._covered_until, end)

    def take(self) -> Slept:
        """What was slept since the last call; the thread that calls is the next test's own."""
        with self._lock:
            self._fold()
            sums, self._sums = self._sums, defaultdict(lambda: [0, 0])
            guessed, self._guessed, self._covered_until = self._guessed, 0, 0
            self._thread = threading.get_ident()
        by_site: dict[tuple[str, str, bool], list[int]] = defaultdict(lambda: [0, 0])
        for (kind, place, elsewhere), (count, spent) in sums.items():
            total = by_site[kind, site_of(place), elsewhere]
            total[0] += count
            total[1] += spent
        sites = [SleptAt(*which, count, spent) for which, (count, spent) in by_site.items()]
        return Slept(guessed, sorted(sites, key=lambda site: -site.nanoseconds))
