"""No wake-up is lost, and none is taken from anybody else: randomized races over several threads."""

from __future__ import annotations

import queue
import random
import threading

import pytest
from support import LIMIT, Running, until, waiters

import waitkit
from waitkit import Value, notified, wait_for

ROUNDS = 25_000


def _race(rounds: int, seed: int, prepare, change, condition_of) -> int:
    """Two threads: one waits for what the other does, at a random moment around the beginning of the wait."""
    chance = random.Random(seed)
    turn: queue.SimpleQueue = queue.SimpleQueue()

    def changer() -> None:
        while (thing := turn.get()) is not None:
            for _ in range(chance.randrange(60)):  # a few bytecodes: before, in, or after the start of the wait
                pass
            change(thing)

    running = Running(changer)
    held = 0
    try:
        for _ in range(rounds):
            thing = prepare()
            turn.put(thing)
            for _ in range(chance.randrange(60)):
                pass
            held += bool(wait_for(condition_of(thing), LIMIT))
    finally:
        turn.put(None)
        running.result()
    return held


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prepare", "change", "condition_of"),
    [
        pytest.param(threading.Event, threading.Event.set, lambda event: event, id="threading.Event"),
        pytest.param(waitkit.Event, waitkit.Event.set, lambda event: event, id="waitkit.Event"),
        pytest.param(queue.Queue, lambda items: items.put(1), lambda items: items, id="queue.Queue"),
        pytest.param(lambda: Value(0), lambda value: value.set(1), lambda value: value.equals(1), id="waitkit.Value"),
    ],
)
def test_no_lost_wakeup(prepare, change, condition_of):
    """In 25,000 races of each kind, 100,000 in all, every wait ends because of the change, none by its limit."""
    assert _race(ROUNDS, 1, prepare, change, condition_of) == ROUNDS


def test_many_waiters_of_one_event():
    """One set wakes every one of hundreds of threads."""
    event = waitkit.Event()
    threads = [Running(wait_for, event, LIMIT) for _ in range(300)]
    event.set()
    assert [thread.result() for thread in threads] == [True] * 300


@pytest.mark.parametrize("watchers", [1, 3])
def test_a_watched_queue_wakes_its_real_consumer(watchers):
    """``put`` notifies one waiter: watching the queue takes that wake-up from nobody in ``get()``, who began later."""
    for _ in range(300):
        items: queue.Queue = queue.Queue()
        watching = [Running(wait_for, items, LIMIT) for _ in range(watchers)]
        until(lambda items=items: waiters(items.not_empty) == watchers)
        consumer = Running(items.get, True, LIMIT)
        until(lambda items=items: waiters(items.not_empty) == watchers + 1)
        items.put("item")
        assert consumer.result() == "item"
        items.put("one to see")  # the consumer may have been quicker than the watchers
        assert all(watcher.result() is items for watcher in watching)


def test_notify_one_reaches_the_waiter_of_a_condition():
    """``notify(1)`` on a watched ``threading.Condition`` wakes the thread in ``wait()``, and the watcher as well."""
    for _ in range(300):
        condition, ready = threading.Condition(), []
        watcher = Running(wait_for, notified(condition, lambda ready=ready: len(ready)), LIMIT)
        until(lambda condition=condition: waiters(condition) == 1)

        def wait(condition=condition) -> bool:
            with condition:
                return condition.wait(LIMIT)

        waiter = Running(wait)
        until(lambda condition=condition: waiters(condition) == 2)
        with condition:
            ready.append(1)
            condition.notify()
        assert waiter.result() is True
        assert watcher.result() == 1


def test_a_value_that_only_passes_is_an_interruption():
    """A value that breaks a predicate between two looks interrupts ``held_for``, though each look finds it true."""
    value = Value(5)
    started = waitkit.Event()

    def flicker() -> None:
        until(started)
        value.set(0)
        value.set(5)

    flickering = Running(flicker)
    held = Running(
        lambda: wait_for(value.satisfies(lambda v: started.set() or v > 3).held_for("200ms"), LIMIT, message="steady")
    )
    assert held.result() == 5
    flickering.result()


def test_one_notify_calls_each_watcher_once():
    """One ``notify`` looks once for each of hundreds of watchers, though all of them come back to listen for the next."""
    condition, looks = threading.Condition(), []
    done = waitkit.Event()
    watched = notified(condition, lambda: looks.append(1)) | done
    watching = [Running(wait_for, watched, LIMIT) for _ in range(300)]
    until(lambda: waiters(condition) == 300)
    before = len(looks)
    with condition:
        condition.notify()
    until(lambda: len(looks) >= before + 300 and waiters(condition) == 300)
    assert len(looks) - before <= 300
    done.set()
    for thread in watching:
        thread.result()
