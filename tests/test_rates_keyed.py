"""Limits by key: one for each, in bounded memory, and the one least asked for goes first."""

from __future__ import annotations

from support import together

from waitkit import RateLimiter, rate_limited
from waitkit.engine.clock import now
from waitkit.rates.keyed import KeyedLimiters


def test_never_more_than_told(virtual):
    """However many keys come, no more limiters are kept than told, though all of them are in use."""
    limiters = KeyedLimiters(lambda: RateLimiter("1/h"), 50)
    for key in range(1000):
        assert limiters.of(key).try_acquire()
        assert len(limiters) <= 50


def test_the_one_least_asked_for_goes(virtual):
    """Who keeps asking keeps its limit, whatever others do."""
    limiters = KeyedLimiters(lambda: RateLimiter("1/h"), 10)
    mine = limiters.of("mine")
    assert mine.try_acquire()
    for key in range(500):
        assert limiters.of(key).try_acquire()
        assert limiters.of("mine") is mine
    assert not limiters.of("mine").try_acquire()


def test_full_ones_go_before_one_in_use(virtual):
    """Those that are as good as new are forgotten first, which changes nothing for anybody."""
    limiters = KeyedLimiters(lambda: RateLimiter("1/s", burst=2), 10)
    used = limiters.of("used")
    used.try_acquire()
    idle = [limiters.of(key) for key in range(9)]
    limiters.of("new")
    assert len(limiters) == 2
    assert limiters.of("used") is used
    assert all(limiter.idle for limiter in idle)


def test_one_limiter_for_a_key_of_many_threads():
    """Threads that ask for a new key at the same time get one and the same limiter."""
    limiters = KeyedLimiters(lambda: RateLimiter("1/h"), 10)
    assert len(set(together(*[lambda: limiters.of("key")] * 8))) == 1


def test_keys_of_methods(virtual):
    """Of a method the key is made of the instance, too; calls of other keys do not wait."""

    class Client:
        def __init__(self, host: str) -> None:
            self.host = host

        @rate_limited("1/s", key=lambda self, *_: self.host)
        def call(self, what: str) -> float:
            return now() / 1e9

    one, other = Client("one"), Client("other")
    start = one.call("a")
    assert [other.call("a"), one.call("b"), other.call("b")] == [start, start + 1, start + 1]
