"""Rates: exact in any window, first come first served, and refused at once what cannot be."""

from __future__ import annotations

import asyncio
import math
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Running, until

from waitkit import (
    CancelScope,
    KeyedLimiters,
    Rate,
    RateLimiter,
    RateLimitExceeded,
    fail_after,
    move_on_after,
    rate_limited,
    retry_backoff,
)
from waitkit.engine.clock import current_clock, now
from waitkit.policies.gcra import Bucket

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "count", "period"),
    [
        ("10/s", 10, SECOND),
        ("500/min", 500, 60 * SECOND),
        ("3/10s", 3, 10 * SECOND),
        ("0.5/s", 1, 2 * SECOND),
        ("1/250ms", 1, SECOND // 4),
        ("2.5/h", 5, 7200 * SECOND),
        ("1/day", 1, 86_400 * SECOND),
    ],
)
def test_rates_are_read(text, count, period):
    """A rate is a count in a period, exactly; its burst is its count unless said otherwise."""
    rate = Rate(text)
    assert (rate.count, rate.period, rate.burst) == (count, period, count)
    assert Rate(text, burst=7).burst == 7


@pytest.mark.parametrize("bad", ["10", "10/m", "0/s", "10/0s", "-1/s", "x/s", "10/parsec", "", "10/s ", 10, None, True])
def test_bad_rates(bad):
    """What is no rate is refused, with the value and the accepted forms."""
    with pytest.raises((TypeError, ValueError), match="accepted are") as caught:
        Rate(bad)
    assert repr(bad) in str(caught.value)


@given(
    count=st.integers(1, 1000),
    period=st.integers(1, 100),
    burst=st.integers(1, 50),
    gaps=st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 50)), max_size=60),
)
def test_never_more_than_allowed_in_any_window(count, period, burst, gaps):
    """For any schedule of requests, each window of length t holds at most burst + rate * t tokens."""
    bucket = Bucket(Rate(f"{count}/{period}s", burst))
    instant, granted = 5 * SECOND, []
    for gap, tokens in gaps:
        instant += gap
        tokens = min(tokens, burst)
        due = max(instant, bucket.due(tokens, instant))
        bucket.charge(tokens, due)
        instant = due
        granted.append((due, tokens))
    for first in range(len(granted)):
        total = 0
        for at, tokens in granted[first:]:
            total += tokens
            # In integers: total <= burst + count * t / period.
            assert (total - burst) * period * SECOND <= count * (at - granted[first][0])


@given(count=st.integers(1, 5000), period=st.integers(1, 60), burst=st.integers(1, 500), start=st.integers(0, 10**18))
def test_a_full_burst_is_given(count, period, burst, start):
    """A bucket that has rested gives its whole burst at once, to the last token, at any instant."""
    bucket = Bucket(Rate(f"{count}/{period}s", burst))
    for _ in range(burst):
        assert bucket.due(1, start) <= start
        bucket.charge(1, start)
    due = bucket.due(1, start)
    assert start < due <= start + bucket.rate.interval


def test_the_times_of_calls(virtual):
    """After the burst, calls come one interval apart."""
    limiter, start, times = RateLimiter("10/s", burst=3), now(), []
    for _ in range(8):
        limiter.acquire()
        times.append((now() - start) / 1e9)
    assert times == pytest.approx([0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_several_rates_are_charged_together(virtual):
    """All rates are kept; a request that one of them refuses costs the others nothing."""
    limiter, start, times = RateLimiter("10/s", Rate("5/min", burst=2), burst=5), now(), []
    assert limiter.try_acquire(2)
    assert not limiter.try_acquire(2)
    for _ in range(4):
        limiter.acquire()
        times.append((now() - start) / 1e9)
    assert times == pytest.approx([12, 24, 36, 48])
    with pytest.raises(RateLimitExceeded, match="can never give 3 tokens"):
        limiter.try_acquire(3)


def test_what_can_never_be_is_refused_at_once(virtual):
    """More than the burst is never given; the error has no time to come back."""
    with pytest.raises(RateLimitExceeded, match="can never give 6 tokens at once") as caught:
        RateLimiter("10/s", burst=5).acquire(6)
    assert caught.value.retry_after is None


def test_what_would_come_too_late_is_refused_at_once(virtual):
    """A timeout that would be over before the turn comes fails without waiting, and costs nothing."""
    limiter, start = RateLimiter("1/s"), now()
    limiter.acquire()
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.acquire(timeout="500ms")
    assert caught.value.retry_after == pytest.approx(1)
    with pytest.raises(RateLimitExceeded):
        limiter.acquire(timeout=0)
    assert now() == start
    limiter.acquire(timeout="1s")
    assert now() == start + SECOND


def test_first_come_first_served():
    """Threads get their turns in the order they came; a large request is not overtaken by small ones."""
    limiter, order = RateLimiter("200/s", burst=10), []
    limiter.acquire(10)
    threads = []
    for number, tokens in enumerate([1, 10, 1, 1]):

        def take(number=number, tokens=tokens) -> None:
            limiter.acquire(tokens)
            order.append(number)

        threads.append(Running(take))
        until(lambda number=number: limiter.waiting == number + 1 or order)
    for thread in threads:
        thread.result()
    assert order == [0, 1, 2, 3]


def test_the_next_moves_up_when_the_first_leaves():
    """A waiter that is cancelled costs nothing, and the one behind it gets its turn without further ado."""
    limiter, scope = RateLimiter("1/h"), CancelScope()
    limiter.acquire()

    def leaves() -> None:
        with scope:
            limiter.acquire()

    first = Running(leaves)
    until(lambda: limiter.waiting == 1)
    second = Running(limiter.acquire)
    until(lambda: limiter.waiting == 2)
    scope.cancel()
    first.result()
    assert limiter.waiting == 1
    limiter.change("1000/s")
    second.result()
    assert limiter.waiting == 0


@pytest.mark.parametrize("wide", [fail_after, move_on_after])
def test_scopes(virtual, wide):
    """The deadline of a scope ends the wait for a turn."""
    limiter = RateLimiter("1/h")
    limiter.acquire()
    try:
        with wide("5s"):
            limiter.acquire()
    except TimeoutError:
        assert wide is fail_after
    assert limiter.waiting == 0
    assert limiter.delay() == pytest.approx(3595)


def test_penalize(virtual):
    """After a 429 nobody is let through for that long; then one, and on at the rate."""
    limiter, start, times = RateLimiter("10/s", burst=5), now(), []
    limiter.penalize("30s")
    assert not limiter.try_acquire()
    for _ in range(3):
        limiter.acquire()
        times.append((now() - start) / 1e9)
    assert times == pytest.approx([30, 30.1, 30.2])


def test_an_old_pause_means_nothing_to_a_new_rate(virtual):
    """Another rate takes over the tokens that are there: a pause that is over neither takes some away nor adds any."""
    limiter = RateLimiter("100/s", burst=10)
    limiter.penalize("1ms")
    virtual.advance("200ms")
    assert limiter.delay(10) == 0
    limiter.change("1/s", burst=20)
    assert limiter.delay(10) == 0
    assert limiter.delay(11) == pytest.approx(1)

    limiter = RateLimiter("1/s", burst=100)
    limiter.penalize("100ms")
    virtual.advance("300ms")
    assert limiter.delay(2) == pytest.approx(0.8)
    limiter.change("1000/s", burst=100)
    assert 0 < limiter.delay(2) <= 0.001
    assert limiter.delay(100) == pytest.approx(0.0988)
    limiter.penalize("10s")
    limiter.change("10/s", burst=5)
    assert limiter.delay() == pytest.approx(10)


def test_change_keeps_what_is_in_use(virtual):
    """Tokens used at the old rate return at the new one."""
    limiter = RateLimiter("10/s", burst=10)
    limiter.acquire(10)
    limiter.change("1/s", burst=10)
    assert limiter.delay() == pytest.approx(1)
    assert limiter.delay(10) == pytest.approx(10)
    with pytest.raises(ValueError, match="give as many"):
        limiter.change("1/s", "2/min")


def test_threads_and_tasks_on_one_limiter():
    """Mixed callers get all their turns, at the rate: at most burst + rate * t in the time it took, and one for lateness."""
    limiter, times = RateLimiter("500/s", burst=5), []

    def work() -> None:
        for _ in range(20):
            limiter.acquire()
            times.append(now())

    async def main() -> None:
        async def task() -> None:
            for _ in range(20):
                async with limiter:
                    times.append(now())

        threads = [Running(work) for _ in range(3)]
        await asyncio.gather(task(), task())
        for thread in threads:
            await asyncio.to_thread(thread.result)

    asyncio.run(main())
    times.sort()
    assert len(times) == 100
    for first in range(0, 100, 7):
        for last in range(first, 100):
            assert last - first + 1 <= 5 + 1 + math.ceil(500 * (times[last] - times[first]) / 1e9)


def test_lateness_is_forgiven_up_to_one_interval(virtual, monkeypatch):
    """A thread that runs late does not slow the rate, and gains no more than one interval by it."""
    late, clock = random.Random(3), current_clock()
    rest = clock.rest

    def rest_late(place, until_) -> bool:
        woken = rest(place, until_)
        clock._now += round(late.random() * 9_000_000)  # of an interval of 10 ms
        return woken

    monkeypatch.setattr(clock, "rest", rest_late)
    limiter, times = RateLimiter("100/s"), []
    for _ in range(500):
        limiter.acquire()
        times.append(now())
    rate = 499 / ((times[-1] - times[0]) / 1e9)
    assert 99 < rate < 101
    for width in (0.1, 1.0):
        most = max(sum(1 for at in times[i:] if at < times[i] + width * 1e9) for i in range(0, 400, 3))
        assert most <= 1 + 100 * width + 1


def test_decorated(virtual):
    """Functions, methods and coroutines keep to the rate; arguments and results pass through."""
    calls: list[float] = []
    start = now()

    class Service:
        @rate_limited("1/s")
        def method(self, number: int) -> int:
            calls.append((now() - start) / 1e9)
            return number

    assert [Service().method(number) for number in range(3)] == [0, 1, 2]
    assert calls == [0, 1, 2]

    @rate_limited("100/s", burst=2)
    async def coroutine(number: int) -> int:
        return number

    assert asyncio.run(coroutine(5)) == 5


def test_a_limit_for_each_key(virtual):
    """With ``key=`` each caller has a limit of its own, and full ones are forgotten when there are too many."""
    start = now()

    @rate_limited("1/s", key=lambda user, *_: user, max_keys=3)
    def call(user: str) -> float:
        return (now() - start) / 1e9

    assert [call("ann"), call("bob"), call("ann"), call("bob")] == [0, 0, 1, 1]
    for user in range(50):
        call(str(user))


def test_refused_calls_are_retried_as_told(virtual):
    """``retry_after`` is what a retry may ask for."""
    limiter, calls = RateLimiter("1/min"), []
    limiter.acquire()

    @retry_backoff(on=lambda error: isinstance(error, RateLimitExceeded) and error.retry_after, max_retry_after="2m")
    @rate_limited(limiter, timeout=0)
    def call() -> str:
        calls.append(1)
        return "done"

    assert call() == "done"
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("bad", "names"),
    [
        (lambda: RateLimiter(), "at least one rate"),
        (lambda: RateLimiter("fast"), "rate='fast'"),
        (lambda: RateLimiter("1/s", burst=0), "burst=0"),
        (lambda: RateLimiter(Rate("1/s"), burst=2), "given twice"),
        (lambda: RateLimiter("1/s").acquire(0), "tokens=0"),
        (lambda: RateLimiter("1/s").try_acquire(True), "tokens=True"),
        (lambda: RateLimiter("1/s").penalize("soon"), "duration='soon'"),
        (lambda: rate_limited("1/s", tokens=2), "exceeds the burst"),
        (lambda: rate_limited("1/s", timeout=-1), "timeout=-1"),
        (lambda: rate_limited("1/s", key=5), "key=5"),
        (lambda: rate_limited("1/s", key=len, max_keys=0), "max_keys=0"),
        (lambda: rate_limited("1/s", max_keys=5), "max_keys=5"),
        (lambda: rate_limited(KeyedLimiters("1/s"), key=len, max_keys=5), "max_keys=5"),
        (lambda: RateLimiter("1/s", name=5), "name=5"),
        (lambda: rate_limited(RateLimiter("1/s"), burst=2), "its own burst"),
        (lambda: rate_limited(RateLimiter("1/s"), "1/s"), "not both"),
        (lambda: rate_limited("1/s")(x for x in ()), "decorates a callable"),
    ],
)
def test_bad_input(bad, names):
    """Bad input is refused when it is written."""
    with pytest.raises((TypeError, ValueError), match=names):
        bad()


def test_no_thread_is_needed():
    """A limiter starts no thread, whoever waits for it."""
    limiter = RateLimiter("1000/s")
    before = set(threading.enumerate())  # by name, not by number: one that others have started may end meanwhile
    for _ in range(20):
        limiter.acquire()
    assert set(threading.enumerate()) <= before
