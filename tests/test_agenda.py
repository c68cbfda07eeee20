"""The agenda of the timers beside the plainest there is: a sorted list."""

from __future__ import annotations

from operator import attrgetter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from waitkit.engine.agenda import Agenda

#: Within a page, over some, and far away.
INSTANTS = st.one_of(st.integers(0, 3_000), st.integers(0, 10**7), st.integers(0, 10**12))


class Entry:
    def __init__(self, due: int, latest: int) -> None:
        self.due = due
        self.latest = latest
        self.live = True


class SortedList(RuleBasedStateMachine):
    """All that is asked of an agenda, asked of a list as well."""

    def __init__(self) -> None:
        super().__init__()
        self.agenda: Agenda[Entry] = Agenda()
        self.living: list[Entry] = []

    @rule(due=INSTANTS, slack=st.integers(0, 3_000_000))
    def add(self, due: int, slack: int) -> None:
        entry = Entry(due, due + slack)
        self.agenda.add(entry)
        self.living.append(entry)
        self.living.sort(key=attrgetter("latest"))  # stable: those of one instant stay in the order of their coming

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        entry = self.living.pop(data.draw(st.integers(0, len(self.living) - 1)))
        entry.live = False
        self.agenda.note_dead()

    @rule(times=st.integers(65, 90))
    def cancel_many(self, times: int) -> None:
        for number in range(times):
            entry = Entry(number * 10**6, number * 10**6)
            self.agenda.add(entry)
            entry.live = False
            self.agenda.note_dead()
        assert len(self.agenda) <= max(2 * len(self.living), len(self.living) + 65)

    @rule(instant=INSTANTS)
    def take(self, instant: int) -> None:
        due = self.living and self.living[0].due <= instant
        assert self.agenda.take(instant) is (self.living.pop(0) if due else None)

    @rule()
    def take_all(self) -> None:
        """In their order, as if time had come to an end."""
        taken = []
        while (entry := self.agenda.take(10**15)) is not None:
            taken.append(entry)
        assert taken == self.living
        self.living = []
        assert len(self.agenda) == 0

    @rule()
    def look_at_the_next(self) -> None:
        """The second is among them, unless it is on another page than the one after the first."""
        if self.agenda.first() is None:
            return
        found = [entry for entry in self.agenda.some_after_first() if entry.live]
        assert set(found) <= set(self.living[1:])
        dead = len(self.agenda) - len(self.living)
        if not dead and len(self.living) > 1 and (self.living[1].latest >> 20) - (self.living[0].latest >> 20) <= 1:
            assert self.living[1] in found

    @invariant()
    def first(self) -> None:
        assert self.agenda.first() is (self.living[0] if self.living else None)


TestSortedList = SortedList.TestCase


def test_the_second_is_found_on_the_next_page() -> None:
    """Who asks whether others come soon after the first is told of those that come a nanosecond later, whatever their page."""
    agenda: Agenda[Entry] = Agenda()
    first, second, far = (Entry(latest, latest) for latest in (2**30 - 1, 2**30, 2**32))
    for entry in (far, second, first):
        agenda.add(entry)
    assert agenda.first() is first
    assert agenda.some_after_first() == [second]
    assert agenda.take(2**30 - 1) is first
    assert agenda.some_after_first() == []
