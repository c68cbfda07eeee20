"""The line before a limiter: who has a timer, who is woken, who is told what, and what is left when somebody goes."""

from __future__ import annotations

import asyncio
import linecache
import sys
import threading

import pytest
from support import LIMIT, Running, in_child, until

from waitkit import (
    CancelScope,
    RateLimiter,
    RateLimitExceeded,
    WaitTimeout,
    fail_after,
    rate_limited,
    wait_for_async,
)
from waitkit.engine import clock as engine_clock
from waitkit.engine.clock import SystemClock, now
from waitkit.rates.reservation import TurnCome
from waitkit.waits.wait import Wait


class CountingClock(SystemClock):
    """The real clock; it counts how often each thread rests, and notes whether it rests for a time."""

    def __init__(self) -> None:
        self.timed: list[str] = []
        self.untimed: list[str] = []

    def rest(self, place: threading.Condition, until: int | None) -> None:
        (self.untimed if until is None else self.timed).append(threading.current_thread().name)
        super().rest(place, until)


def test_the_head_alone_has_a_timer():
    """Of many that wait only the first rests for a time; the others rest until they are woken, each twice at most."""
    counting = CountingClock()
    engine_clock.use_clock(counting)
    limiter = RateLimiter("1/h")
    limiter.acquire()
    threads = []
    for number in range(12):
        threads.append(Running(limiter.acquire))
        until(lambda number=number: limiter.waiting == number + 1)
    names = [thread.thread.name for thread in threads]
    until(lambda: len([name for name in counting.untimed if name in names]) == 11)
    assert [name for name in counting.timed if name in names] == names[:1]
    limiter.change("1000/s")
    for thread in threads:
        thread.result()
    # The first was woken by the change. Each other was woken when it came to be first, and then by its time, no more.
    assert all(counting.untimed.count(name) <= 1 for name in names)
    assert all(counting.timed.count(name) <= 2 for name in names)


class Hand:
    """A wait for a turn that is driven by hand: any number of waiters in one thread, in virtual time."""

    def __init__(self, limiter: RateLimiter, tokens: int = 1, timeout: int | None = None) -> None:
        self.woken = 0
        self.wait = Wait(TurnCome(limiter._queue, tokens, timeout, limiter.name), None)
        if not self.wait.look():
            self.wait.arm(self._wake)
            self.wait.look()

    def _wake(self) -> None:
        self.woken += 1

    def leave(self) -> None:
        self.wait.close()


def test_who_is_woken(virtual):
    """One that leaves from the middle of the line wakes nobody; the head wakes the next, and nobody else."""
    limiter = RateLimiter("1/s")
    limiter.acquire()
    first, second, third, fourth = (Hand(limiter) for _ in range(4))
    assert (first.wait.due - now(), second.wait.due) == (10**9, None)
    second.leave()
    assert [hand.woken for hand in (first, second, third, fourth)] == [0] * 4
    first.leave()
    assert [hand.woken for hand in (first, second, third, fourth)] == [0, 0, 1, 0]
    assert not third.wait.look()
    assert third.wait.due - now() == 10**9, "the one that left has cost nothing"
    virtual.advance(1)
    assert third.wait.look()
    third.leave()
    assert fourth.woken == 1
    fourth.leave()
    assert limiter.waiting == 0


def test_a_penalty_tells_those_with_timeouts_at_once(virtual):
    """Where a pause makes a timeout impossible, its caller is woken and refused then; the others wait on."""
    limiter = RateLimiter("1/s")
    limiter.acquire()
    head, impatient, patient = Hand(limiter), Hand(limiter, timeout=5 * 10**9), Hand(limiter)
    limiter.penalize("30s")
    assert impatient.woken == 1
    assert patient.woken == 0
    with pytest.raises(RateLimitExceeded) as caught:
        impatient.wait.look()
    assert caught.value.retry_after == pytest.approx(31)
    impatient.leave()
    assert not head.wait.look()
    assert head.wait.due - now() == 30 * 10**9
    head.leave()
    patient.leave()


def test_a_head_that_is_penalized_is_refused(virtual):
    """The first in the line is told, too, that its time has become too late."""
    limiter = RateLimiter("1/s")
    limiter.acquire()
    head = Hand(limiter, timeout=2 * 10**9)
    limiter.penalize("30s")
    assert head.woken
    with pytest.raises(RateLimitExceeded) as caught:
        head.wait.look()
    assert caught.value.retry_after == pytest.approx(30)
    head.leave()
    assert limiter.delay() == pytest.approx(30)


def test_a_timeout_that_comes_to_be_too_short(virtual):
    """Whoever is still in the line when its timeout comes is refused then, with the time that is left."""
    limiter = RateLimiter("1/h", burst=2)
    limiter.acquire(2)
    keeps = Running(lambda: limiter.acquire(2))
    until(lambda: limiter.waiting == 1)
    waiting = Hand(limiter)
    waiting.wait.close()
    late = Hand(limiter, timeout=10 * 3600 * 10**9)
    engine_clock.current_clock()._now += 11 * 3600 * 10**9  # as if this thread had been busy for so long
    with pytest.raises(RateLimitExceeded):
        late.wait.look()
    late.leave()
    limiter.change("1000/s", burst=2)
    keeps.result()


@pytest.mark.parametrize("cause", ["cancel", "deadline", "interrupt"])
@pytest.mark.parametrize("place", [0, 1])
def test_whoever_goes_the_line_goes_on(cause, place):
    """A waiter that is cancelled, timed out or interrupted has cost nothing, and those behind it get their turns."""
    limiter, scope = RateLimiter("1/h"), CancelScope()
    limiter.acquire()
    interrupted = []

    def goes() -> None:
        if cause == "deadline":
            with pytest.raises(WaitTimeout), fail_after("50ms"):
                limiter.acquire()
        elif cause == "cancel":
            with scope:
                limiter.acquire()
        else:
            wait = Wait(TurnCome(limiter._queue, 1, None, limiter.name), None)
            wait.look()
            wait.arm(lambda: None)
            interrupted.append(wait)

    before = [Running(limiter.acquire) for _ in range(place)]
    until(lambda: limiter.waiting == place)
    going = Running(goes)
    until(lambda: limiter.waiting == place + 1 or cause == "deadline")
    behind = Running(limiter.acquire)
    if cause == "cancel":
        until(lambda: limiter.waiting == place + 2)
        scope.cancel()
    going.result()
    if cause == "interrupt":
        interrupted[0].close(KeyboardInterrupt())
    until(lambda: limiter.waiting == place + 1)
    assert limiter.delay() <= 3600 * (place + 2)
    assert limiter.delay() > 3600 * (place + 2) - LIMIT
    limiter.change("1000/s")
    for thread in (*before, behind):
        thread.result()


def test_no_turn_in_a_scope_that_has_ended(virtual):
    """In a scope that was cancelled, or whose time is over, nothing is taken, though there are tokens."""
    limiter, calls = RateLimiter("10/s", burst=5), []
    limited = rate_limited(limiter)(lambda: calls.append(1))
    with CancelScope() as scope:
        scope.cancel()
        limited()
    assert scope.cancelled_caught
    with pytest.raises(WaitTimeout), fail_after("1s"):
        limited()
        virtual.advance(2)
        limited()
    assert len(calls) == 1

    async def main() -> None:
        with CancelScope() as ended:
            ended.cancel()
            await limiter.acquire_async()
        assert ended.cancelled_caught

    asyncio.run(main())
    assert limiter.delay(5) == 0


def test_a_cancelled_task_costs_nothing():
    """A task that is cancelled while it waits gives its place up; the next task moves up."""
    limiter = RateLimiter("1/h")
    limiter.acquire()

    async def main() -> None:
        tasks = [asyncio.ensure_future(limiter.acquire_async()) for _ in range(3)]
        await wait_for_async(lambda: limiter.waiting == 3, LIMIT)
        tasks[0].cancel()
        tasks[1].cancel()
        await asyncio.gather(*tasks[:2], return_exceptions=True)
        assert limiter.waiting == 1
        assert 3600 < limiter.delay() <= 7200
        limiter.change("1000/s")
        await tasks[2]

    asyncio.run(main())


def test_a_child_does_not_wait_for_threads_of_its_parent():
    """In a forked child those who wait are threads that do not exist there: nobody stands behind them."""
    limiter = RateLimiter("1/h")
    limiter.acquire()
    waiting = [Running(limiter.acquire) for _ in range(3)]
    until(lambda: limiter.waiting == 3)

    def child() -> None:
        assert not limiter.try_acquire()
        assert limiter.waiting == 0
        limiter.change("1000/s")
        limiter.acquire()

    in_child(child)
    assert limiter.waiting == 3
    limiter.change("1000/s")
    for thread in waiting:
        thread.result()


def test_timeout_zero_never_waits(virtual):
    """With ``timeout=0`` what is there is taken, and what is not is refused, in no time."""
    limiter, start = RateLimiter("1/s", burst=2), now()
    limiter.acquire(timeout=0)
    asyncio.run(limiter.acquire_async(timeout=0))
    with pytest.raises(RateLimitExceeded):
        limiter.acquire(timeout=0)
    with pytest.raises(RateLimitExceeded):
        asyncio.run(limiter.acquire_async(timeout=0))
    assert now() == start


def test_many_threads_share_fairly():
    """Threads that ask again at once get their turns in rotation: nobody is more than one turn ahead."""
    limiter, order = RateLimiter("1000/s"), []
    ready = threading.Barrier(5)

    def work(number: int) -> None:
        ready.wait(LIMIT)
        for _ in range(40):
            limiter.acquire()
            order.append(number)

    for thread in [Running(work, number) for number in range(5)]:
        thread.result()
    counts = [order[:150].count(number) for number in range(5)]
    assert max(counts) - min(counts) <= 4


def interrupted_at(step: int, function, where: list[object]) -> bool:
    """Run *function* with a KeyboardInterrupt before its *step*-th line inside of limiters and waits. False: it has fewer.

    A ``with`` line is told again when it is left. No signal is handled there, as the next thing is that the lock is given up.
    """
    seen, entered = 0, set()

    def trace(frame, kind, argument):
        nonlocal seen
        if not frame.f_globals.get("__name__", "").startswith(("waitkit.rates", "waitkit.waits")):
            return None
        place = (frame, frame.f_lineno)
        if kind == "line" and place not in entered:
            if linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with "):
                entered.add(place)
            seen += 1
            if seen == step:
                sys.settrace(None)
                where[:] = [frame.f_code.co_qualname, frame.f_lineno]
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return seen >= step


def test_an_interrupt_anywhere_hands_on(virtual):
    """Wherever in a wait for a turn Ctrl-C falls, the one behind gets its turn, and no lock stays behind."""
    step, more, where = 0, True, []
    while more:
        step += 1
        limiter, behind = RateLimiter("1/s"), []
        limiter.acquire()
        clock = engine_clock.current_clock()
        rest = clock.rest

        def rest_and_join(place, until_, limiter=limiter, behind=behind, rest=rest) -> bool:
            before = sys.gettrace()
            sys.settrace(None)
            if not behind:
                behind.append(Hand(limiter))
            woken = rest(place, until_)
            sys.settrace(before)
            return woken

        clock.rest = rest_and_join
        more = interrupted_at(step, limiter.acquire, where)
        clock.rest = rest
        told = f"interrupted before step {step}, {where}"
        assert limiter.waiting == len(behind), told
        for hand in behind:
            assert hand.woken, told
            while not hand.wait.look():
                virtual.advance((hand.wait.due - now()) / 1e9)
            hand.leave()
        assert Running(limiter.delay).result() <= 2, told
        assert limiter.waiting == 0, told
    assert step > 100
