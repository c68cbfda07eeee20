"""The end of a thread while the clock is virtual: those who wait for it learn of it at the instant its function returns."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from waitkit import (
    StoppedHolding,
    after,
    all_of,
    any_of,
    consistently,
    virtual_clock,
    wait_for,
    wait_for_async,
)
from waitkit.virtual import threads as thread_module

ROUNDS = 50


def sleeps(seconds: float) -> threading.Thread:
    """A started thread that waits for so long, and ends."""
    thread = threading.Thread(target=lambda: wait_for(after(seconds), None))
    thread.start()
    return thread


@pytest.mark.parametrize("timeout", [None, "1h"])
def test_the_end_of_a_thread_ends_a_wait(timeout):
    """A wait for a thread ends when its function has returned, each time at the same instant."""
    for _ in range(ROUNDS):
        with virtual_clock() as clock:
            thread = sleeps(1)
            assert wait_for(thread, timeout) is thread
            assert clock.elapsed == 1
            assert not thread.is_alive()


def test_in_a_loop():
    """The same in an event loop, whose other tasks go on."""

    async def main():
        thread = sleeps(1)
        other = asyncio.create_task(wait_for_async(after("500ms")))
        await wait_for_async(thread, "1h")
        assert other.done()

    for _ in range(ROUNDS):
        with virtual_clock() as clock:
            asyncio.run(main())
            assert clock.elapsed == 1


def test_a_thread_that_has_returned_is_not_alive():
    """Who asks again and again whether a thread lives finds it ended at the look after its function has returned."""
    for _ in range(ROUNDS):
        with virtual_clock() as clock:
            thread = sleeps(1)
            while thread.is_alive():
                wait_for(after("300ms"))
            assert clock.elapsed == pytest.approx(1.2)


def test_who_waits_for_several():
    """Of many threads, each is found ended at its own instant; the first of two that end at once is told first."""
    with virtual_clock() as clock:
        threads = [sleeps(seconds) for seconds in (3, 1, 2, 1)]
        first = wait_for(any_of(*threads), None)
        assert (first.position, clock.elapsed) == (1, 1)
        for thread in threads:
            wait_for(thread, None)
        assert clock.elapsed == 3


def test_a_thread_that_raises(monkeypatch):
    """One that ends in an exception has ended, and has shown it by the time that somebody goes on."""
    shown = []
    monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(args.exc_type))

    def fails():
        wait_for(after("1s"))
        raise ZeroDivisionError

    with virtual_clock() as clock:
        thread = threading.Thread(target=fails)
        thread.start()
        wait_for(thread, None)
        assert (clock.elapsed, shown) == (1, [ZeroDivisionError])


def test_a_thread_that_has_to_go_on():
    """``consistently(~condition)``, the other way round, and a look at a thread that has ended long since."""
    with virtual_clock() as clock:
        thread = sleeps(1)
        with pytest.raises(StoppedHolding):
            consistently(~all_of(thread), "1h")
        assert clock.elapsed == 1
        wait_for(after("1h"), None)
        assert wait_for(thread, 0) is thread


def test_threads_of_a_pool_end():
    """Those of an executor end by themselves, when it is shut down."""
    with virtual_clock() as clock:
        with ThreadPoolExecutor(2) as pool:
            pool.submit(lambda: wait_for(after("1s")))
            threads = list(pool._threads)
        for thread in threads:
            wait_for(thread, None)
        assert clock.elapsed == 1


def test_threads_that_wait_for_each_other():
    """A chain of a hundred threads, each of which waits for the one before."""
    with virtual_clock() as clock:
        threads = [sleeps(1)]
        for _ in range(100):
            thread = threading.Thread(target=wait_for, args=(threads[-1], None))
            thread.start()
            threads.append(thread)
        wait_for(threads[-1], None)
        assert clock.elapsed == 1


def test_one_that_cannot_end_yet(monkeypatch):
    """Who asks holds what the thread needs to show its error: it lives, and is found ended afterwards."""
    monkeypatch.setattr(thread_module, "_SOON", 0.05)
    lock, shown = threading.Lock(), []

    def show(args):
        with lock:
            shown.append(args.exc_type)

    monkeypatch.setattr(threading, "excepthook", show)
    with virtual_clock():
        thread = threading.Thread(target=lambda: 1 / 0)
        with lock:
            thread.start()
            wait_for(after("1s"))
            assert thread.is_alive()
        wait_for(thread, None)
    assert shown == [ZeroDivisionError]
