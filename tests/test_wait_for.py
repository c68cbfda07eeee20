"""wait_for: when it looks, when it ends, and what it returns."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import LIMIT, Running, together, until

from waitkit import (
    AnyHeld,
    Cancelled,
    CancelScope,
    Event,
    WaitFailed,
    WaitTimeout,
    after,
    any_of,
    consistently,
    defaults,
    virtual_clock,
    wait_for,
    wait_for_async,
)
from waitkit.engine.clock import now

MS = 1_000_000


def test_it_returns_the_true_value():
    """What comes back is the very object the callable returned, not just True."""
    thing = [0]
    assert wait_for(lambda: thing) is thing


def test_a_condition_that_holds_is_looked_at_once():
    """No more looks than needed: one where it holds, and not one after it held."""
    looks = []
    wait_for(lambda: looks.append(1) or len(looks) == 4)
    assert len(looks) == 4


def looks_of(timeout, **arguments):
    """When a wait that never holds looked, counted from its start, and when it ended."""
    began, looks = now(), []
    with pytest.raises(WaitTimeout):
        wait_for(lambda: looks.append(now() - began), timeout, **arguments)
    return looks


@given(timeout=st.integers(1, 10**12), cap=st.integers(MS, 10**10))
def test_the_gaps_between_looks(timeout, cap):
    """No gap is above the larger of 1 ms and 1/17 of the time waited, nor above the cap; the last look is at the deadline."""
    timeout = min(timeout, 2_000 * cap)  # not millions of looks
    with virtual_clock(), defaults(probe_cap=f"{cap}ns"):
        began = now()
        looks = looks_of(f"{timeout}ns")
        took = now() - began
    assert looks[0] == 0
    assert looks[-1] == timeout == took
    for one, two in zip(looks, looks[1:], strict=False):
        assert two - one <= min(max(MS, one // 17), cap)
    # as few as that allows: each gap but those at the ends is as long as it may be
    for one, two in list(zip(looks, looks[1:], strict=False))[1:-1]:
        assert two - one == min(max(MS, one // 17), cap)


def test_a_long_wait_is_cheap(virtual):
    """An hour is looked at as often as the cap asks for, and no more."""
    assert len(looks_of("1h")) < 3600 / 0.25 + 200


def test_a_slow_look_is_followed_by_a_gap_as_long(virtual):
    """A look that takes 100 ms is followed by 100 ms of rest, up to the cap, and never cut off."""
    began, spans = now(), []

    def slow():
        spans.append(now() - began)
        virtual.advance(0.1)

    with pytest.raises(WaitTimeout):
        wait_for(slow, "1s")
    assert spans[1:5] == [100 * MS, 300 * MS, 500 * MS, 700 * MS]  # the second look is the one after subscribing
    assert spans[-1] == 1000 * MS


@pytest.mark.parametrize("zero", [0, 0.0, "0s"])
def test_a_timeout_of_zero_is_one_look(zero):
    """timeout=0 looks exactly once, and takes what it finds."""
    looks = []
    with pytest.raises(WaitTimeout) as caught:
        wait_for(lambda: looks.append(1), zero)
    assert (len(looks), caught.value.looks, caught.value.facts.limit) == (1, 1, 0)
    assert wait_for(lambda: 7, zero) == 7


@pytest.mark.parametrize("huge", [threading.TIMEOUT_MAX, 2 * threading.TIMEOUT_MAX, "999999999d", 10**17, None])
def test_a_huge_timeout_waits(huge):
    """A timeout beyond what the system's locks can count, or none, is waited for like any other."""
    event = Event()
    waiting = Running(wait_for, event, huge)
    until(lambda: len(event._signal))
    event.set()
    assert waiting.result() is True


def test_the_last_look_counts(virtual):
    """What begins to hold exactly at the deadline is found by the look made there."""
    end = now() + 3_333_333
    assert wait_for(lambda: now() >= end, 0.003333333)
    with pytest.raises(WaitTimeout):
        wait_for(lambda: now() >= end + 3_333_333 + 1, 0.003333333)


def test_a_condition_slower_than_its_timeout(virtual):
    """A look that outlasts the deadline is not cut off: it may hold, and if not, one more look is made, and the error says so."""

    def holds_late():
        virtual.advance(5)
        return "late"

    assert wait_for(holds_late, "1s") == "late"
    with pytest.raises(WaitTimeout, match="\nlooks took 9 s beyond the deadline, as none is cut off") as caught:
        wait_for(lambda: virtual.advance(5), "1s")
    assert caught.value.looks == 2
    assert caught.value.elapsed == 10
    with pytest.raises(WaitTimeout) as caught:
        wait_for(lambda: virtual.advance(0.001), "1s")
    assert caught.value.facts.notes == ()


def test_a_look_that_outlasts_two_limits_is_blamed_on_the_first(virtual):
    """Where one slow look goes past the wait's own limit and a scope's, the error is that of the tighter one."""
    with CancelScope("2s") as scope, pytest.raises(WaitTimeout):
        wait_for(lambda: virtual.advance(5), "1s")
    assert not scope.cancelled_caught
    with CancelScope("1s") as scope:
        wait_for(lambda: virtual.advance(5), "2s")
    assert scope.cancelled_caught


def test_what_a_condition_raises_comes_through():
    """An exception that is not ignored ends the wait as it is, also where others are ignored."""
    with pytest.raises(KeyError, match="mine"):
        wait_for(lambda: {}["mine"])
    with pytest.raises(KeyError, match="mine"):
        wait_for(lambda: {}["mine"], ignore=(ValueError, AttributeError))


def test_ignored_exceptions_mean_not_yet():
    """An ignored exception, or a subclass of it, means "not yet"; a later true value ends the wait."""
    script = iter([LookupError(), KeyError(), IndexError(), "value"])

    def plays():
        if isinstance(step := next(script), Exception):
            raise step
        return step

    assert wait_for(plays, ignore=LookupError) == "value"


def test_some_exceptions_are_never_ignored():
    """KeyboardInterrupt and SystemExit come through whatever is ignored."""
    for kind in (KeyboardInterrupt, SystemExit, GeneratorExit, Cancelled):

        def raises(kind=kind):
            raise kind("now") if kind is not Cancelled else Cancelled(None)

        with pytest.raises(kind):
            wait_for(raises, 1, ignore=Exception)


def test_unless_ends_the_wait_at_once():
    """A wait without limit ends when its unless= holds, and only that one; if both hold, the condition wins."""
    died, never = Event("the server's death"), Event("another port")
    unconcerned = Running(wait_for, never, None)
    waiting = Running(lambda: wait_for(Event("the port"), None, unless=died))
    until(lambda: len(died._signal) and len(never._signal))
    died.set()
    with pytest.raises(
        WaitFailed, match="gave up after .* waiting for the port to be set, as first came the server's death"
    ):
        waiting.result()
    assert unconcerned.thread.is_alive()
    never.set()
    unconcerned.result()
    with pytest.raises(WaitFailed, match="as first came the server's death"):
        wait_for(Event(), None, unless=died)
    assert wait_for(lambda: 5, None, unless=died) == 5
    with pytest.raises(WaitFailed) as caught:
        wait_for(lambda: 0, 0, unless=lambda: "gone")
    assert caught.value.looks == 1


def test_exceptions_of_unless():
    """What the unless= callable raises ends the wait, unless it is ignored."""
    with pytest.raises(ZeroDivisionError):
        wait_for(lambda: 0, unless=lambda: 1 / 0)
    with pytest.raises(WaitTimeout):
        wait_for(lambda: 0, "3ms", unless=lambda: 1 / 0, ignore=ZeroDivisionError)


def test_a_wait_inside_a_condition():
    """A condition may itself wait, and time out, without harm to the wait around it."""
    inner_ends, event = [], Event()

    def looks():
        try:
            wait_for(event, "1ms")
        except WaitTimeout as error:
            inner_ends.append(error)
        if len(inner_ends) == 3:
            event.set()
        return event.is_set()

    assert wait_for(looks, LIMIT) is True
    assert len(inner_ends) == 3


def test_no_lock_is_held_while_looking():
    """A condition that needs what another wait holds cannot deadlock: nothing is held."""
    event = Event()

    def looks_from_another_thread():
        return Running(wait_for, event, LIMIT).result()

    event.set()
    waits = [lambda: wait_for(looks_from_another_thread, LIMIT)] * 2
    assert together(*waits) == [True] * 2


def test_hundreds_of_threads_wait_for_one_condition():
    """Three hundred threads that share one condition are all woken by one event, each by itself."""
    event = Event()
    shared = event & (lambda: True)
    waiting = [Running(wait_for, shared, LIMIT) for _ in range(300)]
    until(lambda: len(event._signal) == 300)
    event.set()
    assert [running.result() for running in waiting] == [(True, True)] * 300
    assert len(event._signal) == 0


def test_hundreds_of_threads_share_one_combination():
    """One combined condition with a duration serves two hundred threads, each with a view of its own."""
    event = Event()
    condition = (event & (lambda: True)).held_for("1ms")
    waiting = [Running(wait_for, condition, LIMIT) for _ in range(200)]
    event.set()
    assert [running.result() for running in waiting] == [(True, True)] * 200


def test_a_shared_condition_keeps_nothing_of_a_wait():
    """Threads that wait for the same held_for each count their own time."""
    event = Event()
    event.set()
    condition = event.held_for("20ms")
    assert together(*[lambda: wait_for(condition, LIMIT)] * 8) == [True] * 8
    event.clear()
    with pytest.raises(WaitTimeout):
        wait_for(condition, "30ms")


def test_after_is_counted_from_the_wait(virtual):
    """after() counts from the beginning of each wait for it, not from when it was made."""
    condition = after("5s")
    for _ in range(2):
        began = now()
        assert wait_for(condition) is True
        assert now() - began == 5_000 * MS
    held = wait_for(any_of(lambda: False, after("2s")))
    assert isinstance(held, AnyHeld) and held.position == 1


def test_consistently_asserts_all_along(virtual):
    """consistently() looks from the first moment to the last, and returns what it held with at the end."""
    began, looks = now(), []
    assert consistently(lambda: looks.append(now() - began) or len(looks), "2s") == len(looks)
    assert (looks[0], looks[-1]) == (0, 2_000 * MS)
    assert max(b - a for a, b in zip(looks, looks[1:], strict=False)) <= 100 * MS


def test_what_came_together_with_its_end():
    """What came between the look at the condition and the one at unless= is seen: last words go before the end."""
    said = []
    assert wait_for(lambda: said, unless=lambda: said.append("up") or True) == ["up"]

    async def main():
        said.clear()
        return await wait_for_async(lambda: said, unless=lambda: said.append("up") or True)

    assert asyncio.run(main()) == ["up"]
