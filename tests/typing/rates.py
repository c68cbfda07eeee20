"""``rate_limited``, ``RateLimiter`` and reservations: what they keep of a type, and what they refuse."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, assert_type

from waitkit import Rate, RateLimiter, RateLimitExceeded, Reservation, rate_limited
from waitkit.rates.store import InProcessStore

T = TypeVar("T")


@rate_limited("10/s", burst=5)
def function(number: int, *, text: str = "") -> float:
    return number / 2


assert_type(function(1, text="a"), float)
function("1")  # E: a text for a number
function()  # E: its argument is missing


@rate_limited("10/s", Rate("100/min"), tokens=2, burst=5, timeout=timedelta(seconds=1))
async def coroutine(number: int) -> str:
    return str(number)


coroutine_1: Coroutine[Any, Any, str] = coroutine(1)
coroutine("1")  # E: a text for a number


def _host(service: Service, number: int) -> str:
    return service.host


class Service:
    host = "localhost"

    @rate_limited("10/s", key=_host, max_keys=10)
    def method(self, number: int) -> str:
        return str(number)

    @classmethod
    @rate_limited("10/s")
    def outer_class(cls, number: int) -> str:
        return str(number)

    @rate_limited("10/s")
    @classmethod
    def inner_class(cls, number: int) -> str:
        return str(number)

    @staticmethod
    @rate_limited("10/s")
    def outer_static(number: int) -> str:
        return str(number)

    @rate_limited("10/s")
    @staticmethod
    async def inner_static(number: int) -> str:
        return str(number)


assert_type(Service().method(1), str)
assert_type(Service.outer_class(1), str)
assert_type(Service.inner_class(1), str)
assert_type(Service.outer_static(1), str)
coroutine_2: Coroutine[Any, Any, str] = Service().inner_static(1)
Service().method("1")  # E: a text for a number
Service.outer_class("1")  # E: a text for a number
Service.inner_class("1")  # E: a text for a number
Service.outer_static("1")  # E: a text for a number
Service.inner_static("1")  # E: a text for a number


@rate_limited(RateLimiter("10/s"))
def generic(value: T) -> list[T]:
    return [value]


def plain(number: int) -> str:
    return str(number)


assert_type(generic("a"), list[str])
assert_type(rate_limited("1/s")(partial(plain, 1)), partial[str])
rate_limited("1/s")(5)  # E: no callable

rate_limited(10)  # E: a number
rate_limited(plain)  # E: used without its rate
rate_limited("1/s", burst="5")  # E: a text for a number
rate_limited("1/s", tokens=None)  # E: no number
rate_limited("1/s", timeout=[1])  # E: no duration
rate_limited("1/s", key="user")  # E: no function
rate_limited("1/s", max_keys="many")  # E: no number
rate_limited("1/s", per="s")  # E: no such option


limiter = RateLimiter("10/s", Rate("5/min", 2), burst=5, name="orders", store=InProcessStore())
assert_type(limiter.try_acquire(2), bool)
assert_type(limiter.acquire(2, "5s"), None)  # type: ignore[func-returns-value, unused-ignore]
assert_type(limiter.delay(), float)
assert_type(limiter.rates, tuple[Rate, ...])
limiter.penalize(timedelta(seconds=30))
limiter.change("5/s", Rate("3/min"), burst=2)
with limiter:
    pass

reservation = limiter.reserve(2, timeout=5)
assert_type(reservation, Reservation)
assert_type(reservation.delay, float)
assert_type(reservation.cancel(), bool)
with limiter.reserve() as turn:
    assert_type(turn, Reservation)
    turn.wait()


async def awaits() -> None:
    assert_type(await coroutine(1), str)
    await limiter.acquire_async(1, timeout="5s")
    async with limiter:
        pass
    async with limiter.reserve() as turn:
        assert_type(turn, Reservation)
        await turn.wait_async()


try:
    limiter.acquire()
except RateLimitExceeded as error:
    assert_type(error.retry_after, float | None)

RateLimiter(10)  # E: a number
RateLimiter("10/s", burst="5")  # E: a text for a number
RateLimiter("10/s", store="redis://")  # E: no store
limiter.acquire("1")  # E: a text for a number
limiter.acquire(timeout=[1])  # E: no duration
limiter.reserve(timeout=[1])  # E: no duration
limiter.penalize(None)  # E: no duration
limiter.change(5)  # E: a number
reservation.delay = 5.0  # E: it is told, not set
Rate(10)  # E: a number
