"""``retry_backoff`` and ``retrying``: what they keep of a type, and what they refuse."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, assert_type, overload

from waitkit import Attempt, Event, RetryBudget, RetryRecord, current_attempt, retry_backoff, retrying

T = TypeVar("T")


@retry_backoff(on=OSError)
def function(number: int, *, text: str = "") -> float:
    return number / 2


assert_type(function(1), float)
assert_type(function(1, text="a"), float)
function("1")  # E: a text for a number
function(1, "a")  # E: keyword only
function()  # E: its argument is missing


@retry_backoff(on=(OSError, LookupError), attempts=None, timeout=timedelta(minutes=1))
async def coroutine(number: int) -> str:
    return str(number)


coroutine_1: Coroutine[Any, Any, str] = coroutine(1)
coroutine("1")  # E: a text for a number


async def awaits() -> None:
    assert_type(await coroutine(1), str)
    async for attempt in retrying(on=OSError):
        with attempt:
            assert_type(attempt.number, int)
            assert_type(attempt.previous, Exception | None)


class Service:
    @retry_backoff(on=OSError)
    def method(self, number: int) -> str:
        return str(number)

    @retry_backoff(on=OSError)
    async def coroutine_method(self, number: int) -> str:
        return str(number)

    @classmethod
    @retry_backoff(on=OSError)
    def outer_class(cls, number: int) -> str:
        return str(number)

    @retry_backoff(on=OSError)
    @classmethod
    def inner_class(cls, number: int) -> str:
        return str(number)

    @staticmethod
    @retry_backoff(on=OSError)
    def outer_static(number: int) -> str:
        return str(number)

    @retry_backoff(on=OSError)
    @staticmethod
    def inner_static(number: int) -> str:
        return str(number)


assert_type(Service().method(1), str)
assert_type(Service.method(Service(), 1), str)
coroutine_2: Coroutine[Any, Any, str] = Service().coroutine_method(1)
assert_type(Service.outer_class(1), str)
assert_type(Service().outer_class(1), str)
assert_type(Service.inner_class(1), str)
assert_type(Service().inner_class(1), str)
assert_type(Service.outer_static(1), str)
assert_type(Service().outer_static(1), str)
assert_type(Service.inner_static(1), str)
assert_type(Service().inner_static(1), str)
Service().method("1")  # E: a text for a number
Service().method(1, 2)  # E: too many
Service.method(1)  # E: no instance
Service.outer_class("1")  # E: a text for a number
Service.inner_class("1")  # E: a text for a number
Service.outer_static("1")  # E: a text for a number
Service.inner_static("1")  # E: a text for a number
Service().coroutine_method("1")  # E: a text for a number


@retry_backoff(on=OSError)
def generic(value: T) -> list[T]:
    return [value]


assert_type(generic(1), list[int])


@overload
def overloaded(value: int) -> int: ...
@overload
def overloaded(value: str) -> str: ...
@retry_backoff(on=OSError)
def overloaded(value: int | str) -> int | str:
    return value


assert_type(overloaded(1), int)
assert_type(overloaded("a"), str)


class Callable_:
    def __call__(self, number: int) -> str:
        return str(number)


def plain(number: int) -> str:
    return str(number)


assert_type(retry_backoff(on=OSError)(Callable_())(1), str)
assert_type(retry_backoff(on=OSError)(partial(plain, 1)), partial[str])
assert_type(retry_backoff(on=OSError)(plain)(1), str)
retry_backoff(on=OSError)(Callable_())("1")  # E: a text for a number
retry_backoff(on=OSError)(5)  # E: no callable


# What may be retried, and how.


def asked(error: Exception) -> float | None:
    return None


def is_bad(result: object) -> bool:
    return result is None


def hears(record: RetryRecord) -> None:
    assert_type(record.error, Exception | None)
    assert_type(record.delay, float | None)


retry_backoff(on=asked, on_result=is_bad, base=0.1, factor=1.5, max_delay="10s", jitter="equal")
retry_backoff(on=lambda error: "2s", max_retry_after=None, nested=True)
retry_backoff(on=OSError, ready=Event(), budget=RetryBudget(), on_retry=hears, on_give_up=hears)
assert_type(current_attempt(), Attempt | None)

retry_backoff()  # E: on= is missing
retry_backoff(OSError)  # E: keyword only
retry_backoff(plain)  # E: used without its options
retry_backoff(on=KeyboardInterrupt)  # E: never retried
retry_backoff(on=(OSError, SystemExit))  # E: never retried
retry_backoff(on=[OSError])  # E: a tuple, not a list
retry_backoff(on="OSError")  # E: a name
retry_backoff(on=OSError())  # E: an instance
retry_backoff(on=OSError, attempts="5")  # E: a text for a number
retry_backoff(on=OSError, attempts=2.5)  # E: no whole number
retry_backoff(on=OSError, timeout=[1])  # E: no duration
retry_backoff(on=OSError, base=None)  # E: no duration
retry_backoff(on=OSError, factor="2")  # E: a text for a number
retry_backoff(on=OSError, jitter="some")  # E: no such jitter
retry_backoff(on=OSError, budget=500)  # E: no budget
retry_backoff(on=OSError, nested="no")  # E: no bool
retry_backoff(on=OSError, on_retry=5)  # E: no function
retry_backoff(on=OSError, on_retry=plain)  # E: not a function of a record
retry_backoff(on=OSError, on_result=5)  # E: no function
retry_backoff(on=OSError, tries=5)  # E: no such option
retry_backoff(on=OSError, max_tries=5)  # E: no such option


# Blocks.

for attempt in retrying(on=OSError, attempts=3):
    with attempt as entered:
        assert_type(entered.number, int)

retrying()  # E: on= is missing
retrying(on=OSError, on_result=is_bad)  # E: a block has no result
retrying(on=OSError, attempts="3")  # E: a text for a number
with retrying(on=OSError):  # E: it is for a loop
    pass


def hands_on(function: Callable[[int], Awaitable[T]]) -> Callable[[int], Awaitable[T]]:
    return retry_backoff(on=OSError)(function)
