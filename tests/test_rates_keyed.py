"""Limits by key: one for each, in bounded memory, and the one least asked for goes first."""

from __future__ import annotations

import pytest
from support import together

from waitkit import KeyedLimiters, RateLimiter, RateLimitExceeded, rate_limited
from waitkit.engine.clock import now


def test_never_more_than_told(virtual):
    """However many keys come, no more limiters are kept than told, though all of them are in use."""
    limiters = KeyedLimiters("1/h", max_keys=50)
    for key in range(1000):
        assert limiters.of(key).try_acquire()
        assert len(limiters) <= 50


def test_the_one_least_asked_for_goes(virtual):
    """Who keeps asking keeps its limit, whatever others do."""
    limiters = KeyedLimiters("1/h", max_keys=10)
    mine = limiters.of("mine")
    assert mine.try_acquire()
    for key in range(500):
        assert limiters.of(key).try_acquire()
        assert limiters.of("mine") is mine
    assert not limiters.of("mine").try_acquire()


def test_full_ones_go_before_one_in_use(virtual):
    """Those that are as good as new are forgotten first, which changes nothing for anybody."""
    limiters = KeyedLimiters("1/s", burst=2, max_keys=10)
    used = limiters.of("used")
    used.try_acquire()
    idle = [limiters.of(key) for key in range(9)]
    limiters.of("new")
    assert len(limiters) == 2
    assert limiters.of("used") is used
    assert all(limiter.idle for limiter in idle)


def test_one_limiter_for_a_key_of_many_threads():
    """Threads that ask for a new key at the same time get one and the same limiter."""
    limiters = KeyedLimiters("1/h", max_keys=10)
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


def test_block_form_and_decorator_share_limiters(virtual):
    """What is done to the limiter of a key holds for the calls of a function that was given the limiters."""
    limiters = KeyedLimiters("1/s")
    fetch = rate_limited(limiters, key=lambda user: user, timeout="10s")(lambda user: now())
    fetch("ann")
    limiters.of("bob").penalize("1h")
    with pytest.raises(RateLimitExceeded):
        fetch("bob")
    began = now()
    with limiters.of("ann"):
        assert now() - began == 10**9


def test_key_of_a_bound_method(virtual):
    """A bound method that is decorated has no instance among its arguments; its key gets none."""

    class Client:
        def get(self, path: str) -> str:
            return path

    get = rate_limited("5/s", key=lambda path: path)(Client().get)
    assert [get("one"), get("two")] == ["one", "two"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rate_limited(KeyedLimiters("1/s")), "need key="),
        (lambda: rate_limited(KeyedLimiters("1/s"), key=len, burst=2), "its own burst"),
        (lambda: rate_limited(RateLimiter("1/s"), key=len), "one limit for all keys"),
        (lambda: rate_limited(RateLimiter("1/s"), "2/s"), "one limiter, or rates"),
        (lambda: rate_limited(5), "5 is neither a rate"),
        (lambda: KeyedLimiters("1/s", max_keys=0), "max_keys=0"),
        (lambda: KeyedLimiters("1"), "'1'"),
        (lambda: KeyedLimiters(), "at least one rate"),
    ],
)
def test_bad_input(make, message):
    """What cannot be is refused when it is written."""
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_key_that_cannot_be_hashed():
    """The error names it; that of a key which cannot be compared comes through as it is."""

    class Incomparable:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            raise TypeError("my own")

    limiters = KeyedLimiters("1/h")
    with pytest.raises(TypeError, match=r"key=\['a'\] cannot be hashed: give a number, a text, or a tuple"):
        limiters.of(["a"])
    limiters.of(Incomparable())
    with pytest.raises(TypeError, match="my own"):
        limiters.of(Incomparable())
