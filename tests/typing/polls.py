"""``polls_every``, ``polling`` and their pollers, and ``virtual_clock``: what they keep of a type, and what they refuse."""

from __future__ import annotations

import queue
import threading
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, assert_type

from waitkit import (
    Backoff,
    Condition,
    Event,
    Poller,
    PollerStatus,
    PollRecord,
    VirtualClockError,
    VirtualDeadlock,
    WaitkitError,
    polling,
    polls_every,
    virtual_clock,
    wait_for,
    wait_for_async,
)


def told(record: PollRecord) -> None:
    assert_type(record.condition, str)


@polls_every("60s")
def function() -> float:
    return 0.5


assert_type(function(), float)
assert_type(function.start(), Poller)
assert_type(function.polling(), Poller)
assert_type(function.poller, Poller | None)
assert_type(function.__name__, str)
function.trigger()
function.stop()
function.stop("5s", cancel=True)
function.stop(5, True)  # E: cancel is keyword only
function(1)  # E: it takes nothing
function.start(1)  # E: runs take nothing, too
function.poller.stop()  # E: there may be none
function.sart()  # E: no such method


@polls_every(
    timedelta(minutes=1),
    error_interval=Backoff(base=1),
    first_delay=0.5,
    timing="fixed_rate",
    missed="burst",
    jitter="1s",
    stagger=True,
    trigger=(Event(), threading.Event(), queue.Queue[int]()),
    until=Event(),
    max_runs=5,
    stop_on=(OSError, LookupError),
    on_error=told,
    hang_after="1m",
    on_hang=told,
    own_thread=True,
    stop_at_exit=3,
)
def with_arguments(number: int, *, text: str = "") -> str:
    return text * number


assert_type(with_arguments(1, text="a"), str)
assert_type(with_arguments.start(1, text="a"), Poller)
with_arguments.start()  # E: each run needs its argument
with_arguments.start("1")  # E: a text for a number
with_arguments.polling(1, 2)  # E: keyword only


@polls_every(60, stop_on=lambda error: isinstance(error, OSError))
async def coroutine(number: int) -> str:
    return str(number)


coroutine_1: Coroutine[Any, Any, str] = coroutine(1)
assert_type(coroutine.start(1), Poller)
coroutine("1")  # E: a text for a number
coroutine.start("1")  # E: the same of its runs


class Service:
    @polls_every("60s")
    def method(self) -> str:
        return "checked"

    @polls_every("60s")
    def method_of(self, number: int) -> str:
        return str(number)

    @polls_every("60s")
    async def coroutine_method(self, number: int) -> str:
        return str(number)


service = Service()
assert_type(service.method(), str)
assert_type(service.method.start(), Poller)
assert_type(service.method.polling(), Poller)
assert_type(service.method.poller, Poller | None)
service.method.trigger()
service.method.stop(timeout="5s")
service.method(1)  # E: it takes nothing but self
service.method.start(service)  # E: it is bound already
assert_type(service.method_of(1), str)
assert_type(service.method_of.start(1), Poller)
service.method_of.start()  # E: each run needs its argument
assert_type(Service.method(service), str)
assert_type(Service.method.start(service), Poller)
Service.method.start()  # E: of which instance?
Service.method_of.start(service)  # E: each run needs its argument
coroutine_2: Coroutine[Any, Any, str] = service.coroutine_method(1)
assert_type(service.coroutine_method.start(1), Poller)
service.coroutine_method.start()  # E: each run needs its argument


class OfClasses:
    """Class- and staticmethods, in both orders of the decorators."""

    @polls_every("60s")
    @classmethod
    def above(cls, number: int) -> str:
        return str(number)

    @classmethod
    @polls_every("60s")
    def below(cls, number: int) -> str:
        return str(number)

    @polls_every("60s")
    @classmethod
    def without(cls) -> str:
        return ""

    @polls_every("60s")
    @classmethod
    async def coroutine(cls, number: int) -> str:
        return str(number)

    @polls_every("60s")
    @staticmethod
    def static_above(number: int) -> str:
        return str(number)

    @staticmethod
    @polls_every("60s")
    def static_below(number: int) -> str:
        return str(number)

    @polls_every("60s")
    @staticmethod
    def static_without() -> str:
        return ""

    @polls_every("60s")
    @staticmethod
    def static_of_anything(thing: object) -> str:
        return str(thing)

    @polls_every("60s")
    @staticmethod
    def static_of_a_type(kind: type[int]) -> str:
        return str(kind)


class Derived(OfClasses):
    """What inherits them."""


of_classes = OfClasses()

assert_type(OfClasses.above(1), str)
assert_type(of_classes.above(1), str)
assert_type(Derived.above(1), str)
assert_type(Derived().above(1), str)
assert_type(OfClasses.above.start(1), Poller)
assert_type(of_classes.above.start(1), Poller)
assert_type(OfClasses.above.poller, Poller | None)
OfClasses.above.stop()
OfClasses.above()  # E: it needs its argument
of_classes.above()  # E: it needs its argument
OfClasses.above(OfClasses, 1)  # E: it is bound already
OfClasses.above.start()  # E: each run needs its argument
of_classes.above.start("1")  # E: a text for a number

assert_type(OfClasses.below(1), str)
assert_type(of_classes.below(1), str)
assert_type(OfClasses.below.start(1), Poller)
assert_type(of_classes.below.start(1), Poller)
OfClasses.below()  # E: it needs its argument
of_classes.below("1")  # E: a text for a number
OfClasses.below.start(OfClasses, 1)  # E: it is bound already
of_classes.below.start()  # E: each run needs its argument

assert_type(OfClasses.without(), str)
assert_type(OfClasses.without.start(), Poller)
assert_type(of_classes.without.start(), Poller)
OfClasses.without(1)  # E: it takes nothing but cls
of_classes.without.start(1)  # E: runs take nothing, too
coroutine_3: Coroutine[Any, Any, str] = OfClasses.coroutine(1)
coroutine_4: Coroutine[Any, Any, str] = of_classes.coroutine(1)
assert_type(OfClasses.coroutine.start(1), Poller)
OfClasses.coroutine.start()  # E: each run needs its argument

assert_type(OfClasses.static_above(1), str)
assert_type(of_classes.static_above(1), str)
assert_type(Derived().static_above(1), str)
assert_type(OfClasses.static_above.start(1), Poller)
assert_type(of_classes.static_above.start(1), Poller)
OfClasses.static_above()  # E: it needs its argument
of_classes.static_above()  # E: it needs its argument, nothing is bound
of_classes.static_above("1")  # E: a text for a number
OfClasses.static_above.start("1")  # E: a text for a number
of_classes.static_above.start()  # E: each run needs its argument

assert_type(OfClasses.static_below(1), str)
assert_type(of_classes.static_below(1), str)
assert_type(OfClasses.static_below.start(1), Poller)
assert_type(of_classes.static_below.start(1), Poller)
OfClasses.static_below()  # E: it needs its argument
of_classes.static_below("1")  # E: a text for a number
OfClasses.static_below.start()  # E: each run needs its argument
of_classes.static_below.start(of_classes, 1)  # E: nothing is bound

assert_type(OfClasses.static_without.start(), Poller)
assert_type(of_classes.static_without.start(), Poller)
of_classes.static_without(1)  # E: it takes nothing
assert_type(OfClasses.static_of_anything.start("x"), Poller)
OfClasses.static_of_anything.start()  # E: each run needs its argument
assert_type(OfClasses.static_of_a_type.start(int), Poller)
assert_type(of_classes.static_of_a_type.start(int), Poller)


polls_every()  # E: how often?
polls_every(None)  # E: no duration
polls_every("60s", "10s")  # E: options are keyword only
polls_every("60s", error_intervall="10s")  # E: no such option
polls_every("60s", timing="fixed")  # E: no such timing
polls_every("60s", missed="all")  # E: no such policy
polls_every("60s", max_runs="5")  # E: a text for a number
polls_every("60s", on_error=lambda: None)  # E: it is called with a record
polls_every("60s", stop_on=5)  # E: neither a type nor a function
polls_every("60s")(5)  # E: no callable


with polling(function, "30s", trigger=Event(), max_runs=3) as poller:
    assert_type(poller, Poller)
    assert_type(poller.name, str)
    assert_type(poller.runs, int)
    assert_type(poller.error, BaseException | None)
    assert_type(poller.status(), PollerStatus)
    assert_type(poller.stopped, Condition[PollerStatus])
    assert_type(poller.has_run(5), Condition[PollerStatus])
    assert_type(wait_for(poller.has_run(5), None), PollerStatus)
    assert_type(poller.join("1h"), PollerStatus)
    assert_type(poller.start(), Poller)
    poller.runs = 5  # E: it is read only
    poller.has_run("5")  # E: a text for a number
assert_type(polling(lambda: None, "1h").start(), Poller)
polling(with_arguments, "1h")  # E: it is called without arguments
polling(function)  # E: how often?
polling(function, "1h", on_hang=5)  # E: no function
polling("1h", function)  # E: the other way round


async def polls() -> None:
    async with polling(coroutine, "30s") as poller:  # E: it is called without arguments
        pass
    async with polling(wait_a_moment, "30s") as poller:
        assert_type(poller, Poller)
        assert_type(await wait_for_async(poller.stopped), PollerStatus)
        assert_type(await poller.join_async(), PollerStatus)
        await poller.stop_async("5s", cancel=True)
    await coroutine.stop_async()


async def wait_a_moment() -> None: ...


with virtual_clock() as clock:
    assert_type(clock, virtual_clock)
    assert_type(clock.elapsed, float)
    assert_type(clock.now, float)
    clock.advance("1h")
    clock.advance(timedelta(hours=1))
    clock.block_until(3)
    paused: AbstractContextManager[None] = clock.paused()
    clock.elapsed = 5  # E: it is read only
    clock.advance()  # E: how far?
    clock.block_until("3")  # E: a text for a number
virtual_clock(auto=False, grace="10s", real_things=False, drive="freezegun", seed=5)
virtual_clock(False)  # E: keyword only
virtual_clock(auto="no")  # E: neither True nor False
virtual_clock(seed="x")  # E: a text for a number

clock_error: WaitkitError = VirtualClockError("why")
deadlock: VirtualClockError = VirtualDeadlock("why")
