"""Parking: a wake-up is never lost, wherever it falls, and reaches the one it is for."""

from __future__ import annotations

import queue
import random
import signal
import threading

import pytest
from support import LIMIT, Running, handler, nudges, send_to_main, together, until, waiters

from waitkit.engine import clock, forks, parking
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
    until(lambda: waiters(parker._place))
    parker.unpark()
    resting.result()


def test_time_ends_the_rest():
    """A rest with a limit ends at it, and an instant that has passed is no rest."""
    parker = Parker()
    parker.park(now() + 1_000_000)
    parker.park(now() - 1)
    assert waiters(parker._place) == 0


def test_rest_beyond_the_longest_timeout_of_the_system():
    """An instant further away than threading.TIMEOUT_MAX is rested for, and a wake-up ends it."""
    parker = Parker()
    resting = Running(parker.park, now() + 10 * round(threading.TIMEOUT_MAX) * 10**9)
    until(lambda: waiters(parker._place))
    parker.unpark()
    resting.result()


class LyingLock:
    """A lock of a parking place that lets something happen just before a resting thread gives it up."""

    def __init__(self, lock, happens):
        self._lock, self._happens = lock, happens

    def __enter__(self):
        return self._lock.__enter__()

    def __exit__(self, *exc):
        return self._lock.__exit__(*exc)

    def __getattr__(self, name):
        return getattr(self._lock, name)

    def _release_save(self):
        self._happens()
        return self._lock._release_save()


def test_a_handler_between_the_last_check_and_the_rest():
    """A wake-up by the resting thread itself, after its last check and before it gives up the lock, is not lost."""
    parker = Parker()
    happened = []
    parker._place._lock = LyingLock(parker._place._lock, lambda: happened.append(parker.unpark()))
    assert parked_for(parker)
    assert len(happened) == 1


def test_a_handler_between_the_check_and_the_queue(monkeypatch):
    """A wake-up by the resting thread itself, after it found itself not woken and before it stands in the queue."""
    parker = Parker()
    happened = []
    allocate = threading._allocate_lock

    def allocate_and_unpark():
        if not happened:
            happened.append(parker.unpark())
        return allocate()

    monkeypatch.setattr(threading, "_allocate_lock", allocate_and_unpark)
    assert parked_for(parker)
    assert len(happened) == 1


def test_a_handler_before_the_check(monkeypatch):
    """A wake-up by the resting thread itself, as soon as it holds its place, is not lost."""
    parker = Parker()
    before = clock.current_clock()

    class Clock:
        def now(self):
            return before.now()

        def rest(self, place, until):
            parker.unpark()
            before.rest(place, until)

        def notify(self, place):
            before.notify(place)

    parker._clock = Clock()
    assert parked_for(parker)


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


def test_no_waiter_stays_behind_in_a_place():
    """Rests that end by time or by a wake-up leave nobody in the queue of their place."""
    parker = Parker()
    for _ in range(1_000):
        parker.park(now() + 10_000)
        parker.unpark()
        parker.park(None)
    assert waiters(parker._place) == 0


def test_a_parker_of_another_generation(monkeypatch):
    """After a fork a parker has its owner look again instead of resting, and a wake-up for the parent's thread is dropped."""
    parker = Parker()
    place = parker._place
    monkeypatch.setattr(forks, "current", forks.current + 1)
    with place:  # as a thread of the parent might have, which will never give it up here
        Running(parker.unpark).result()
    assert not place.woken
    assert Running(parker.park, None).result() is True, (
        "it must look again, as wake-ups may have gone to the parent's copy"
    )
    parker.unpark()
    assert Running(parker.park, None).result() is True


def test_only_parking_rests():
    """The two places of parking look once more where Condition.wait gives up its lock: this is what makes it safe."""
    place = parking._Place()
    assert type(place)._release_save is parking._Place._release_save
    assert "_release_save" not in vars(place), "the instance's own would be called instead"
