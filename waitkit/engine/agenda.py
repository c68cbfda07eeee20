"""What is due when, for thousands of entries of which few are due soon."""

from __future__ import annotations

import heapq
import itertools
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from waitkit.ground.durations import Nanoseconds

__all__ = ["Agenda", "Entry"]

#: An entry's page holds those of the same 2**20 ns, which is about a millisecond.
_PAGE: Final = 20


class Entry(Protocol):
    """What an agenda holds."""

    @property
    def due(self) -> Nanoseconds:
        """From when on it may be taken."""

    @property
    def latest(self) -> Nanoseconds:
        """When it is to come up, not before *due*; neither of the two changes."""

    @property
    def live(self) -> bool:
        """Whether it is still wanted; once it is not, it never is again."""


E = TypeVar("E", bound=Entry)
_Row: TypeAlias = tuple[Nanoseconds, int, E]


class Agenda(Generic[E]):
    """Entries in the order of their ``latest``, and of their coming where that is equal. Whoever uses it holds a lock.

    Those of the open page are a heap; those of later ones lie on their pages unsorted, and the numbers of these pages are
    another heap. So what is taken out, put in, and taken out again a second later, meets a handful of others each time, not a
    dozen out of ten thousand, none of which is in a cache by then (measured: a third of what a run of a poller costs).
    """

    def __init__(self) -> None:
        self._sequence = itertools.count()
        self._open: list[_Row[E]] = []
        self._open_until = 0  # the number of the open page
        self._pages: dict[int, list[E]] = {}
        self._numbers: list[int] = []  # of those pages, a heap
        self._size = 0
        self._dead = 0

    def __len__(self) -> int:
        """How many there are, dead ones included."""
        return self._size

    def add(self, entry: E) -> None:
        """Put *entry* in."""
        latest = entry.latest
        number = latest >> _PAGE
        self._size += 1
        if number <= self._open_until:
            heapq.heappush(self._open, (latest, next(self._sequence), entry))
        elif number in self._pages:
            self._pages[number].append(entry)
        else:
            self._pages[number] = [entry]
            heapq.heappush(self._numbers, number)

    def first(self) -> E | None:
        """The live entry that comes up first; dead ones before it are dropped."""
        while True:
            rows = self._open
            while rows:
                entry = rows[0][2]
                if entry.live:
                    return entry
                heapq.heappop(rows)
                self._size -= 1
                self._dead = max(0, self._dead - 1)
            if not self._numbers:
                return None
            self._turn_page()

    def take(self, instant: Nanoseconds) -> E | None:
        """Take out the live entry that comes up first, if it is due at *instant*; ``None`` where it is not."""
        rows = self._open
        # That of first(), where nothing is to be dropped: one function less, as thousands of pollers come this way.
        entry = rows[0][2] if rows and rows[0][2].live else self.first()
        if entry is None or entry.due > instant:
            return None
        heapq.heappop(self._open)
        self._size -= 1
        return entry

    def _turn_page(self) -> None:
        number = heapq.heappop(self._numbers)
        self._open_until = number
        # All that are due at one instant lie on one page, so it is early enough to number them now.
        self._open += [(entry.latest, next(self._sequence), entry) for entry in self._pages.pop(number)]
        heapq.heapify(self._open)

    def some_after_first(self) -> list[E]:
        """Up to two entries, the second among them, where it comes up within a page of the first; they may be dead."""
        if len(self._open) == 1 and self._numbers and self._numbers[0] == self._open_until + 1:
            self._turn_page()
        return [row[2] for row in self._open[1:3]]

    def note_dead(self) -> None:
        """One of them is not wanted any more. They are dropped when they come up, or when half of all are dead."""
        self._dead += 1
        if self._dead > 64 and self._dead > self._size // 2:
            self._open = [row for row in self._open if row[2].live]
            heapq.heapify(self._open)
            pages = {number: [entry for entry in page if entry.live] for number, page in self._pages.items()}
            self._pages = {number: page for number, page in pages.items() if page}
            self._numbers = sorted(self._pages)
            self._size = len(self._open) + sum(map(len, self._pages.values()))
            self._dead = 0
