"""held_for and consistently: an interruption counts, also one that came and went between two looks."""

from __future__ import annotations

import pytest
from support import LIMIT, Running, together, until

from waitkit import Event, StoppedHolding, Value, WaitTimeout, any_of, consistently, wait_for
from waitkit.engine.clock import now


def meanwhile(act, look=2):
    """A condition that always holds, and lets something happen between two looks of the wait it is part of."""
    looks = []

    def always():
        looks.append(1)
        if len(looks) == look:
            act()
        return True

    return always


def blink(event):
    """Change an event twice, so that no look sees it."""
    was = event.is_set()
    (event.clear if was else event.set)()
    (event.set if was else event.clear)()


def test_the_duration_is_kept(virtual):
    """It holds when it has held for the whole duration, not earlier, and not later than a look."""
    began, event = now(), Event()
    event.set()
    assert wait_for(event.held_for("500ms")) is True
    assert now() - began == 500_000_000


def test_it_must_begin_again_after_an_interruption(virtual):
    """What stops holding starts anew: the time before does not count."""
    began = now()
    wait_for(any_of(lambda: now() - began != 400_000_000).held_for("500ms"), "1h")
    assert now() - began >= 500_000_000
    never_so_long = any_of(lambda: (now() - began) % 300_000_000 > 20_000_000).held_for("400ms")
    with pytest.raises(WaitTimeout, match=r"held and was interrupted \d+ times"):
        wait_for(never_so_long, "10s")


def test_a_blink_of_an_event_is_seen(virtual):
    """An event cleared and set again between two looks was interrupted."""
    event = Event()
    event.set()
    with pytest.raises(StoppedHolding, match="interrupted once"):
        consistently(event & meanwhile(lambda: blink(event)), "1s")


def test_a_blink_of_a_value_is_seen(virtual):
    """A value that was another between two looks was interrupted; one set to an equal value was not."""
    value = Value(0)
    assert consistently(value.equals(0) & meanwhile(lambda: value.set(0)), "1s")
    with pytest.raises(StoppedHolding, match="interrupted once"):
        consistently(value.equals(0) & meanwhile(lambda: (value.set(1), value.set(0))), "1s")


def test_a_blink_of_what_must_not_be_set_is_seen(virtual):
    """consistently(~event) fails where the event was set and cleared between two looks."""
    event = Event()
    with pytest.raises(StoppedHolding):
        consistently(~event & meanwhile(lambda: blink(event)), "1s")


def test_a_blink_of_a_value_that_must_not_be_is_seen(virtual):
    """consistently(~value.equals(1)) fails where the value was 1 between two looks."""
    value = Value(0)
    with pytest.raises(StoppedHolding):
        consistently(~value.equals(1) & meanwhile(lambda: (value.set(1), value.set(0))), "1s")


def test_two_sets_that_cross_are_both_seen(virtual):
    """A value replaced by another thread before its watchers were told was still there, and counts."""
    value = Value(0)
    crossing = iter([1])

    def sets_it_back():  # what another thread does between "the value is 1" and "tell the watchers"
        if next(crossing, None):
            value.set(0)

    value._signal.subscribe(sets_it_back)
    with pytest.raises(StoppedHolding):
        consistently(value.equals(0) & meanwhile(lambda: value.set(1)), "1s")


def test_a_blink_before_many_changes_is_seen(virtual):
    """An interruption counts, however many changes come after it before the next look."""
    value = Value(0)

    def changes():
        value.set(1)
        for _ in range(2_000):
            value.set(0)

    with pytest.raises(StoppedHolding):
        consistently(value.equals(0) & meanwhile(changes), "1s")


def test_being_cleared_wakes():
    """A wait for an event not to be set, without a limit and so without a last look, is woken when it is cleared."""
    event = Event()
    event.set()
    waiting = Running(wait_for, ~event, None)
    until(lambda: len(event._signal))
    event.clear()
    assert waiting.result() is True


def test_being_cleared_ends_what_must_hold():
    """An event cleared while it must hold fails consistently()."""
    event = Event()
    event.set()
    holding = Running(consistently, event, LIMIT)
    until(lambda: len(event._signal))
    event.clear()
    with pytest.raises(StoppedHolding):
        holding.result()


@pytest.mark.parametrize("blinks", [0, 1])
def test_a_blink_of_what_none_must_be_is_seen(virtual, blinks):
    """consistently(~(a | b)) fails where either was set and cleared between two looks."""
    events = Event(), Event()
    with pytest.raises(StoppedHolding):
        consistently(~any_of(*events) & meanwhile(lambda: blink(events[blinks])), "1s")


def test_a_member_that_comes_and_goes_does_not_make_the_whole_come(virtual):
    """consistently(~(a & b)) goes on where one blinks and the other is missing all the time; it fails where both blink."""
    missing, blinking = Event(), Event()
    assert consistently(~(missing & blinking) & meanwhile(lambda: blink(blinking)), "1s")
    with pytest.raises(StoppedHolding):
        consistently(~(missing & blinking) & meanwhile(lambda: (blink(blinking), blink(missing))), "1s")


def test_a_blink_right_after_the_first_look_is_seen(virtual):
    """What happens between the first look and the subscription is not lost: of an event and of a value."""
    event, value = Event(), Value(0)
    with pytest.raises(StoppedHolding):
        consistently(~event & meanwhile(lambda: blink(event), look=1), "1s")
    with pytest.raises(StoppedHolding):
        consistently(value.equals(0) & meanwhile(lambda: (value.set(1), value.set(0)), look=1), "1s")


def test_what_was_forgotten_counts_as_an_interruption(virtual):
    """A hundred thousand changes between two looks are more than a watch remembers: it does not claim to know them."""
    value = Value(0)
    few, many = (lambda count=count: [value.set(0) for _ in range(count)] for count in (90_000, 110_000))
    assert consistently(value.equals(0) & meanwhile(few), "1s")
    with pytest.raises(StoppedHolding, match="more than 100,000 values were set between two looks"):
        consistently(value.equals(0) & meanwhile(many), "1s")


def test_many_sets_right_after_the_first_look_are_known(virtual):
    """Who sets as quickly as he can from the first look on interrupts nothing, as long as each value is as it must be."""
    value = Value(5)

    def sets():
        for number in range(5, 3_000):
            value.set(number)

    assert consistently(value.satisfies(lambda v: v >= 5) & meanwhile(sets, look=1), "1s")[0] == 2_999


def test_who_sets_as_quickly_as_he_can_interrupts_nothing():
    """In real time, beside a thread that does nothing but set: what always held has held."""
    value, over = Value(0), Event()

    def sets():
        while not over.is_set():
            for number in range(1_000):
                value.set(number)

    setting = Running(sets)
    try:
        assert wait_for(value.satisfies(lambda v: v >= 0).held_for("300ms"), LIMIT) >= 0
        assert consistently(value.satisfies(lambda v: v >= 0), "300ms") >= 0
    finally:
        over.set()
    setting.result()


def test_changes_of_many_threads_are_all_counted():
    """However many threads set and clear an event, no two changes are of one epoch: a known epoch means no change."""
    event, seen = Event(), []

    def flips():
        for _ in range(2_000):
            event.set()
            event.clear()

    event._signal.subscribe(lambda: seen.append(event._now))
    together(flips, flips, flips)
    assert len({verdict.epoch for verdict in seen}) == len({id(verdict) for verdict in seen})
