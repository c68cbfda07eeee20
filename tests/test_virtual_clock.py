"""Virtual time: when it passes, in which order things happen, and that a test takes the same course each time."""

from __future__ import annotations

import os
import threading
import time

import pytest
from support import LIMIT

from waitkit import (
    Backoff,
    Event,
    RateLimiter,
    Value,
    VirtualClockError,
    VirtualDeadlock,
    WaitTimeout,
    after,
    all_of,
    consistently,
    current_attempt,
    fail_after,
    move_on_after,
    polling,
    polls_every,
    retry_backoff,
    virtual_clock,
    wait_for,
)
from waitkit.ground.durations import SECOND
from waitkit.waits.drivers import block
from waitkit.waits.wait import Wait

HOUR = 3_600


def started(*functions: object) -> list[threading.Thread]:
    """Threads that run these functions."""
    threads = [threading.Thread(target=function, name=f"thread-{number}") for number, function in enumerate(functions)]
    for thread in threads:
        thread.start()
    return threads


def test_time_passes_only_while_all_wait():
    """What computes sees no time pass; a wait takes exactly its virtual time."""
    with virtual_clock() as clock:
        assert clock.elapsed == 0
        sum(range(100_000))
        assert clock.elapsed == 0
        wait_for(after("24h"), None)
        assert clock.elapsed == 24 * HOUR


def test_deadlines_are_exact():
    """A wait that times out does so at its deadline, to the nanosecond."""
    with virtual_clock() as clock:
        with pytest.raises(WaitTimeout):
            wait_for(Event(), "1h")
        assert clock.elapsed == HOUR
        with pytest.raises(WaitTimeout), fail_after("30m"):
            wait_for(Event(), None)
        assert clock.elapsed == 1.5 * HOUR
        with move_on_after("30m") as scope:
            wait_for(Event(), None)
        assert scope.cancelled_caught
        assert clock.elapsed == 2 * HOUR


def test_the_default_timeout_is_virtual():
    """The ten seconds of a wait that says nothing are virtual, too."""
    with virtual_clock() as clock:
        with pytest.raises(WaitTimeout, match="timed out after 10 s"):
            wait_for(Event())
        assert clock.elapsed == 10


def test_an_event_of_another_thread():
    """A waiter goes on at the instant another thread sets the event."""
    event = Event()
    with virtual_clock() as clock:

        def later() -> None:
            wait_for(after("10m"), None)
            event.set()

        (thread,) = started(later)
        wait_for(event, None)
        assert clock.elapsed == 600
        thread.join()


def test_held_for_and_consistently():
    """Conditions that must hold for a while are judged in virtual time."""
    event = Event()
    with virtual_clock() as clock:

        def flicker() -> None:
            for pause in (10, 20, 5):
                event.set()
                wait_for(after(pause), None)
                event.clear()
                wait_for(after(1), None)

        (thread,) = started(flicker)
        wait_for(event.held_for("15s"), None)
        assert clock.elapsed == 11 + 15
        thread.join()
        consistently(~event, "1h")


def test_probes_are_made_at_their_gaps():
    """A callable is looked at as in real time, by the virtual clock: gaps of 1/17, at most 250 ms."""
    looks = []
    with virtual_clock() as clock:

        def look() -> bool:
            looks.append(clock.elapsed)
            return clock.elapsed >= 100

        wait_for(look, None)
        assert 100 <= clock.elapsed < 100.25
    gaps = [later - earlier for earlier, later in zip(looks, looks[1:], strict=False)]
    assert max(gaps) == pytest.approx(0.25)


@pytest.mark.parametrize("kind", ["event", "queue", "condition", "semaphore", "barrier", "future", "join", "executor"])
def test_waits_of_the_standard_library(kind):
    """What rests on threading.Condition, and joining, is virtual as well, with and without a time-out."""
    import queue
    from concurrent.futures import Future, ThreadPoolExecutor

    with virtual_clock() as clock:
        if kind == "event":
            event = threading.Event()
            assert not event.wait(HOUR)
            started(lambda: (wait_for(after(1), None), event.set()))
            assert event.wait()
        elif kind == "queue":
            items = queue.Queue()
            with pytest.raises(queue.Empty):
                items.get(timeout=HOUR)
            started(lambda: (wait_for(after(1), None), items.put(5)))
            assert items.get() == 5
        elif kind == "condition":
            condition = threading.Condition()
            with condition:
                assert not condition.wait(HOUR)

            def notify() -> None:
                wait_for(after(1), None)
                with condition:
                    condition.notify()

            with condition:
                started(notify)
                assert condition.wait()
        elif kind == "semaphore":
            semaphore = threading.Semaphore(0)
            assert not semaphore.acquire(timeout=HOUR)
            started(lambda: (wait_for(after(1), None), semaphore.release()))
            assert semaphore.acquire()
        elif kind == "barrier":
            barrier = threading.Barrier(2)
            started(lambda: (wait_for(after(HOUR + 1), None), barrier.wait()))
            barrier.wait()
        elif kind == "future":
            future = Future()
            with pytest.raises(TimeoutError):
                future.result(HOUR)
            started(lambda: (wait_for(after(1), None), future.set_result(5)))
            assert future.result() == 5
        elif kind == "join":
            (thread,) = started(lambda: wait_for(after(HOUR + 1), None))
            thread.join(HOUR)
            assert thread.is_alive()
            thread.join()
            assert not thread.is_alive()
        else:
            with ThreadPoolExecutor(2) as pool:
                work = pool.submit(lambda: wait_for(after(HOUR + 1), None))
                with pytest.raises(TimeoutError):
                    work.result(HOUR)
                work.result()
        assert clock.elapsed == HOUR + 1


def test_due_times_fire_in_order():
    """What is due happens in the order of its time, and at equal times in the order in which it was begun."""
    order = []
    with virtual_clock():

        def sleeper(name: str, seconds: int) -> None:
            wait_for(after(seconds), None)
            order.append(name)

        threads = started(
            lambda: sleeper("c", 3), lambda: sleeper("a", 1), lambda: sleeper("b1", 2), lambda: sleeper("b2", 2)
        )
        for thread in threads:
            thread.join()
    assert order == ["a", "b1", "b2", "c"]


def scenario() -> list[tuple[float, str]]:
    """Three threads that retry, poll and keep to a rate, for a day; what happened when."""
    trace: list[tuple[float, str]] = []
    limiter = RateLimiter("6/min", burst=2)
    healthy = Event("the server")

    with virtual_clock() as clock:

        def note(what: str) -> None:
            trace.append((clock.elapsed, what))

        @retry_backoff(
            on=ConnectionError, attempts=None, timeout="24h", base="1h", factor=2, jitter="none", max_delay="8h"
        )
        def connect() -> None:
            note(f"attempt {current_attempt().number}")
            if not healthy.is_set():
                raise ConnectionError

        def recover() -> None:
            wait_for(after("20h"), None)
            healthy.set()
            note("recovered")

        def send() -> None:
            for number in range(4):
                limiter.acquire()
                note(f"sent {number}")

        @polls_every("6h", error_interval="1h", timing="fixed_rate")
        def check() -> None:
            note("checked")
            if 5 * HOUR < clock.elapsed < 8 * HOUR:
                raise ValueError

        check.start()
        threads = started(connect, recover, send)
        for thread in threads:
            thread.join()
        check.stop()
        assert clock.elapsed == 23 * HOUR
    return trace


def test_a_day_of_three_threads():
    """A day of backoff, polling and a rate in three threads happens at exactly these instants."""
    assert sorted(scenario(), key=lambda entry: entry[0]) == [
        (0.0, "checked"),
        (0.0, "attempt 1"),
        (0.0, "sent 0"),
        (0.0, "sent 1"),
        (10.0, "sent 2"),
        (20.0, "sent 3"),
        (1.0 * HOUR, "attempt 2"),
        (3.0 * HOUR, "attempt 3"),
        (6.0 * HOUR, "checked"),
        (7.0 * HOUR, "attempt 4"),
        (7.0 * HOUR, "checked"),
        (8.0 * HOUR, "checked"),
        (12.0 * HOUR, "checked"),
        (15.0 * HOUR, "attempt 5"),
        (18.0 * HOUR, "checked"),
        (20.0 * HOUR, "recovered"),
        (23.0 * HOUR, "attempt 6"),
    ]


@pytest.mark.slow
def test_a_thousand_runs_take_the_same_course():
    """A thousand runs of that day give one and the same trace, order included."""
    first = scenario()
    assert all(scenario() == first for _ in range(999))


def test_no_jump_between_a_wake_up_and_its_thread():
    """In 4,000 rounds nobody who was woken finds that time has passed before he ran."""
    with virtual_clock() as clock:
        box, seen = Value(None), []

        def consumer() -> None:
            for number in range(4_000):
                instant = wait_for(box.satisfies(lambda value, number=number: value and value[0] == number), None)[1]
                seen.append(clock.elapsed - instant)

        (thread,) = started(consumer)
        for number in range(4_000):
            box.set((number, clock.elapsed))
            wait_for(after("1ms"), None)
        thread.join()
    assert set(seen) == {0.0}


def test_rates_are_exact():
    """A limiter of 10/s gives 101 tokens in exactly ten seconds, whoever takes them."""
    limiter = RateLimiter("10/s")
    with virtual_clock() as clock:

        def take() -> None:
            for _ in range(25):
                limiter.acquire()

        for thread in started(take, take, take, take):
            thread.join()
        limiter.acquire()
        assert clock.elapsed == 10


def test_pollers_are_background():
    """A poller does not keep the block from ending, and is stopped when it is left."""
    with virtual_clock():
        poller = polling(lambda: None, "1s").start()
        wait_for(poller.has_run(100), None)
    assert poller.state == "stopped"


def test_pollers_with_error_intervals():
    """Runs and error intervals of a poller happen at exact instants."""
    instants = []
    with virtual_clock() as clock:

        def job() -> None:
            instants.append(clock.elapsed)
            if len(instants) in (2, 3, 4):
                raise ValueError

        backoff = Backoff(base=10, factor=2, jitter="none", max_delay=60)
        polling(job, "1h", error_interval=backoff, max_runs=7).start().join()
    assert instants == [0, 3600, 3610, 3630, 3670, 7270, 10870]


# By hand.


def test_advance():
    """advance() lets so much time pass, and all that is due meanwhile happens at its instant."""
    instants = []
    with virtual_clock(auto=False) as clock:
        poller = polling(lambda: instants.append(clock.elapsed), "10s", timing="fixed_rate").start()
        clock.advance("25s")
        assert clock.elapsed == 25
        assert instants == [0, 10, 20]
        clock.advance(5)
        assert instants == [0, 10, 20, 30]
        poller.stop()


def test_without_auto_nothing_passes_by_itself():
    """With auto=False a wait that only time could end is a deadlock, not a jump."""
    with virtual_clock(auto=False), pytest.raises(VirtualDeadlock, match=r"time passes only by advance\(\)"):
        wait_for(after(1), None)


def test_advance_with_auto():
    """advance() is a wait like others where time passes by itself."""
    with virtual_clock() as clock:
        clock.advance("1d")
        assert clock.elapsed == 24 * HOUR


def test_block_until():
    """block_until(n) returns when n threads wait, and lets no time pass."""
    events = [Event() for _ in range(3)]
    with virtual_clock() as clock:
        threads = started(*(lambda event=event: wait_for(event, "1h") for event in events))
        clock.block_until(3)
        assert clock.elapsed == 0
        for event in events:
            event.set()
        for thread in threads:
            thread.join()
        assert clock.elapsed == 0


def test_block_until_more_than_there_are():
    """Waiting for more threads than will ever wait is a deadlock, reported at once."""
    with virtual_clock(auto=False) as clock, pytest.raises(VirtualDeadlock, match="2 threads to wait"):
        clock.block_until(2)


def test_paused():
    """In a paused block a thread may block in anything, and no time passes meanwhile; others go on."""
    lock, ran = threading.Lock(), []
    with virtual_clock() as clock:
        lock.acquire()

        def other() -> None:
            ran.append(clock.elapsed)
            lock.release()

        (thread,) = started(other)
        with clock.paused():
            assert lock.acquire(timeout=LIMIT)
        assert (ran, clock.elapsed) == ([0], 0)
        thread.join()


def test_real_time_is_as_before_afterwards():
    """After the block the clock, threads and the standard library are as they were."""
    before = (threading.Thread.start, threading.Thread.join, threading.Condition.wait, time.sleep)
    with virtual_clock():
        assert threading.Thread.start is not before[0]
    assert (threading.Thread.start, threading.Thread.join, threading.Condition.wait, time.sleep) == before
    with pytest.raises(WaitTimeout):
        wait_for(Event(), "1ms")


def test_a_wait_begun_in_real_time_goes_on():
    """A thread that waited before the block began, and does not take part, waits on in real time."""
    event, result = Event(), []
    (thread,) = started(lambda: result.append(wait_for(all_of(event), LIMIT)))
    with virtual_clock():
        wait_for(after("1d"), None)
        event.set()
    thread.join(LIMIT)
    assert result == [(True,)]


def test_a_wait_stays_in_the_time_it_was_made_in():
    """A thread that has begun a wait, and comes to rest only when the block has begun, rests in real time."""
    event, result = Event(), []
    wait = Wait(all_of(event), 5 * SECOND)
    reading, writing = os.pipe()

    def rest() -> None:
        os.read(reading, 1)
        result.append(block(wait))

    (thread,) = started(rest)
    with virtual_clock():
        os.write(writing, b"x")
        wait_for(lambda: wait.looks, None)
        wait_for(after("1d"), None)
        event.set()
    thread.join(LIMIT)
    assert result == [(True,)]
    assert wait.looks <= 3
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"auto": 1}, "auto=1"),
        ({"real_things": None}, "real_things=None"),
        ({"grace": -1}, "grace=-1"),
        ({"drive": "sundial"}, "drive='sundial'"),
    ],
)
def test_bad_options(options, message):
    """What cannot be is refused when the clock is made."""
    with pytest.raises((TypeError, ValueError), match=message):
        virtual_clock(**options)


def test_bad_arguments():
    """advance() and block_until() refuse what they cannot do."""
    with virtual_clock() as clock:
        with pytest.raises(ValueError, match="duration=-1"):
            clock.advance(-1)
        with pytest.raises(ValueError, match="threads=0"):
            clock.block_until(0)


def test_the_start_is_drawn():
    """Instants begin at a random offset, so nobody relies on it; a seed repeats it."""
    starts = set()
    for seed in (1, 1, 2, None, None):
        with virtual_clock(seed=seed) as clock:
            starts.add(clock.now)
    assert len(starts) == 4
    assert issubclass(VirtualDeadlock, VirtualClockError)
