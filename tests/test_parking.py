"""Parking: a wake-up is never lost, wherever it falls, and reaches the one it is for."""

from __future__ import annotations

import queue
import random
import signal
import sys
import threading

import pytest
from support import LIMIT, Running, handler, nudges, send_to_main, together, until

from waitkit.engine import forks
from waitkit.engine.clock import now
from waitkit.engine.parking import Parker


def parked_for(parker, seconds=LIMIT):
    """Park once; true when it was a wake-up that ended the rest, not the time."""
    limit = now() + round(seconds * 1e9)
    parker.park(limit)
    return now() < limit


def test_a_wake_up_is_kept():
    """An unpark before the park ends that park at once, and only that one; two of them do not add up."""
    parker = Parker()
    parker.unpark()
    parker.unpark()
    assert parked_for(parker)
    assert not parked_for(parker, 0.001)


def test_a_wake_up_from_another_thread_ends_the_rest():
    """A thread that rests without limit is woken by an unpark."""
    parker = Parker()
    resting = Running(parker.park, None)
    until(lambda: resting.thread.is_alive())
    parker.unpark()
    resting.result()


def test_time_ends_the_rest():
    """A rest with a limit ends at it, and an instant that has passed is no rest."""
    parker = Parker()
    parker.park(now() + 1_000_000)
    parker.park(now() - 1)


def test_rest_beyond_the_longest_timeout_of_the_system():
    """An instant further away than threading.TIMEOUT_MAX is rested for, and a wake-up ends it."""
    parker = Parker()
    resting = Running(parker.park, now() + 10 * round(threading.TIMEOUT_MAX) * 10**9)
    until(lambda: resting.thread.is_alive())
    parker.unpark()
    resting.result()


def test_a_handler_at_any_point_of_the_park():
    """A wake-up by the resting thread itself, before any step of park(), is kept for the rest."""
    for point in range(1_000):
        parker, reached = Parker(), []

        def at_point(frame, event, argument, parker=parker, reached=reached, point=point):
            frame.f_trace_opcodes = True
            if event in ("opcode", "line"):  # 3.12 tells of lines only
                reached.append(frame.f_lineno)
                if len(reached) == point + 1:
                    parker.unpark()
            return at_point

        before = sys.gettrace()
        sys.settrace(at_point)
        try:
            woken = parker.park(now() + 1_000_000)
        finally:
            sys.settrace(before)
        if len(reached) <= point:
            break
        assert woken or parker.park(now()), "the wake-up was lost"
    assert point > 5


def test_real_signals_that_wake_the_thread_they_interrupt():
    """A thousand signals, each at a moment of its own in the very thread it wakes: each wake-up arrives."""
    parker = Parker()
    chance = random.Random(11)
    spins = [chance.randrange(400) for _ in range(1_000)]
    rounds: queue.SimpleQueue[threading.Event | None] = queue.SimpleQueue()

    def sends():
        for spin in spins:
            handled = rounds.get(timeout=LIMIT)
            for _ in range(spin):
                pass
            send_to_main(signal.SIGUSR1, handled)

    handled = threading.Event()

    def wakes():
        handled.set()
        parker.unpark()

    with nudges(), handler(signal.SIGUSR1, wakes):
        sending = Running(sends)
        for _ in spins:
            handled = threading.Event()
            rounds.put(handled)
            assert parked_for(parker), "a wake-up was lost"
        sending.result()


@pytest.mark.parametrize("jitter", [0, 60])
def test_ping_pong_between_threads_loses_nothing(jitter):
    """Two threads that wake each other ten thousand times, at random moments, never stop."""
    one, two = Parker(), Parker()
    turns = {"one": 0, "two": 0}
    rounds = 10_000

    def plays(me, mine, other, others, seed):
        chance = random.Random(seed)
        for turn in range(1, rounds + 1):
            turns[me] = turn
            for _ in range(chance.randrange(jitter + 1)):
                pass
            others.unpark()
            while turns[other] < turn:
                assert parked_for(mine), "a wake-up was lost"

    together(lambda: plays("one", one, "two", two, 1), lambda: plays("two", two, "one", one, 2))


def test_rests_leave_no_wake_up_behind():
    """Rests that end by time or by a wake-up leave the place as it was: the next rest is ended by neither."""
    parker = Parker()
    for _ in range(1_000):
        assert not parker.park(now() + 10_000)
        parker.unpark()
        assert parker.park(None)
    assert parker.place.token.locked()


def test_a_parker_of_another_generation(monkeypatch):
    """After a fork a parker has its owner look again instead of resting, once; a wake-up from before the fork is dropped."""
    parker = Parker()
    parker.unpark()
    monkeypatch.setattr(forks, "current", forks.current + 1)
    assert Running(parker.park, None).result() is True, (
        "it must look again, as wake-ups may have gone to the parent's copy"
    )
    assert parker.place.token.locked()
    assert not parked_for(parker, 0.001)
    parker.unpark()
    assert Running(parker.park, None).result() is True
