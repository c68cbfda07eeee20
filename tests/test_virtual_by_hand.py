"""Virtual time by hand: what is due at the very end of an advance, and what event loops cannot do."""

from __future__ import annotations

import asyncio
import threading

import pytest

from waitkit import RateLimiter, VirtualDeadlock, after, polling, virtual_clock, wait_for, wait_for_async


@pytest.mark.parametrize("auto", [False, True])
def test_what_is_due_at_the_end_has_happened(auto):
    """advance() returns after what is due at its last instant, whoever came first."""
    ticks = []
    with virtual_clock(auto=auto) as clock:
        with polling(lambda: ticks.append(clock.elapsed), "10s", timing="fixed_rate"):
            for steps in (1, 2, 3):
                clock.advance("10s")
                assert ticks == [10 * step for step in range(steps + 1)]
        assert clock.elapsed == 30


def test_what_is_due_at_the_end_brings_about_what_is_due_then():
    """What happens at the last instant may bring about more at the same instant; when advance() returns all rest."""
    seen = []
    with virtual_clock(auto=False) as clock:
        limiter = RateLimiter("1/s")

        def work() -> None:
            for _ in range(3):
                wait_for(after(2), None)
                thread = threading.Thread(target=lambda: (wait_for(after(0), None), seen.append(clock.elapsed)))
                thread.start()
                thread.join()
                limiter.acquire()

        thread = threading.Thread(target=work)
        thread.start()
        clock.advance("4s")
        assert seen == [2, 4]
        clock.advance("2s")
        assert seen == [2, 4, 6]
        thread.join()


def test_what_is_due_now_needs_no_time():
    """A thread that is due at the instant where time stands goes on without advance()."""
    with virtual_clock(auto=False) as clock:
        ready, done = threading.Event(), []

        def work() -> None:
            ready.wait()
            clock._clock.rest_until(clock._clock.now(), "what is due now")
            done.append(clock.elapsed)

        thread = threading.Thread(target=work)
        thread.start()
        clock.advance("10s")
        ready.set()
        thread.join()
        assert done == [10]
        with pytest.raises(VirtualDeadlock, match=r"time passes only by advance\(\)"):
            wait_for(after(1), None)


def test_two_that_advance():
    """Of two threads that advance at a time each comes back at its own instant."""
    ends = []
    with virtual_clock(auto=False) as clock:

        def advance(seconds: int) -> None:
            clock.advance(seconds)
            ends.append((seconds, clock.elapsed))

        threads = [threading.Thread(target=advance, args=(seconds,)) for seconds in (7, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert ends == [(3, 3), (7, 7)]


@pytest.mark.parametrize("auto", [False, True])
def test_not_in_an_event_loop(auto):
    """In a coroutine what would block its loop is refused, and the error says what to write."""
    seen = []

    async def main() -> None:
        with virtual_clock(auto=auto) as clock:

            async def other() -> None:
                await wait_for_async(after(5), None)
                seen.append(clock.elapsed)

            task = asyncio.create_task(other())
            await asyncio.sleep(0)
            for refused in (lambda: clock.advance("10s"), lambda: clock.block_until(1)):
                with pytest.raises(RuntimeError, match=r"await asyncio.to_thread\(clock\.\w+, \.\.\.\)"):
                    refused()
            await asyncio.to_thread(clock.advance, "10s")
            assert clock.elapsed == 10
            await task

    asyncio.run(main())
    assert seen == [5]
