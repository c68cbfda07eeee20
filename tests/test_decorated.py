"""What all decorators have in common: whatever can be called is decorated, keeps what it is, and is ended by scopes."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import os
import pickle
import traceback
import typing

import pytest
from support import LIMIT, Running, until

import waitkit
from waitkit import (
    CancelScope,
    Event,
    RateLimiter,
    RateLimitExceeded,
    WaitTimeout,
    fail_after,
    path_exists,
    polls_every,
    rate_limited,
    retry_backoff,
    wait_for,
    waits_for,
)

OPEN = Event("the gate")
OPEN.set()

DECORATORS = {
    "retry_backoff": retry_backoff(on=OSError, attempts=2, base=0),
    "rate_limited": rate_limited("1000/s", burst=1000),
    "waits_for": waits_for(OPEN),
    "polls_every": polls_every("1h"),  # its calls are plain ones
}


@pytest.fixture(params=DECORATORS)
def decorate(request):
    return DECORATORS[request.param]


def plain(number: int, *, more: int = 0) -> int:
    """Its own words."""
    return number + more


async def coroutine(number: int) -> int:
    """Its own words, awaited."""
    return number


class Adds:
    """A callable object."""

    def __init__(self, more: int) -> None:
        self.more = more

    def __call__(self, number: int) -> int:
        return number + self.more


class AddsAsync(Adds):
    async def __call__(self, number: int) -> int:
        return number + self.more


# At the top of the module, where pickle finds them.


def _named(name: str, decorate):
    """A decorated function that can be found by its name."""

    def function(number: int) -> int:
        return number

    function.__qualname__ = function.__name__ = name
    return decorate(function)


at_top_retry_backoff = _named("at_top_retry_backoff", DECORATORS["retry_backoff"])
at_top_rate_limited = _named("at_top_rate_limited", DECORATORS["rate_limited"])
at_top_waits_for = _named("at_top_waits_for", DECORATORS["waits_for"])
at_top_polls_every = _named("at_top_polls_every", DECORATORS["polls_every"])


def _service(decorate, name: str) -> type:  # noqa: C901 - it counts methods
    class Service:
        """All kinds of methods, in both orders of the decorators."""

        def __eq__(self, other: object) -> bool:
            return type(self) is type(other)

        def __hash__(self) -> int:
            return 1

        @decorate
        def method(self, number: int) -> tuple[object, int]:
            return self, number

        @decorate
        async def async_method(self, number: int) -> tuple[object, int]:
            return self, number

        @classmethod
        @decorate
        def outer_class(cls, number: int) -> tuple[object, int]:
            return cls, number

        @decorate
        @classmethod
        def inner_class(cls, number: int) -> tuple[object, int]:
            return cls, number

        @staticmethod
        @decorate
        def outer_static(number: int) -> int:
            return number

        @decorate
        @staticmethod
        def inner_static(number: int) -> int:
            return number

        @classmethod
        @decorate
        async def async_outer_class(cls, number: int) -> tuple[object, int]:
            return cls, number

        @decorate
        @classmethod
        async def async_inner_class(cls, number: int) -> tuple[object, int]:
            return cls, number

        @staticmethod
        @decorate
        async def async_outer_static(number: int) -> int:
            return number

        @decorate
        @staticmethod
        async def async_inner_static(number: int) -> int:
            return number

    return _renamed(Service, name)


def _renamed(kind: type, name: str) -> type:
    """Have a class that was made in a function be found at the top of this module."""
    kind.__qualname__ = kind.__name__ = name
    for attribute in vars(kind).values():
        while not inspect.isfunction(attribute) or hasattr(attribute, "__wrapped__"):
            attribute = getattr(attribute, "__wrapped__", None) or getattr(attribute, "__func__", None)
            if attribute is None:
                break
        else:
            attribute.__qualname__ = f"{name}.{attribute.__name__}"
    return kind


ServiceRetry_backoff = _service(DECORATORS["retry_backoff"], "ServiceRetry_backoff")
ServiceRate_limited = _service(DECORATORS["rate_limited"], "ServiceRate_limited")
ServiceWaits_for = _service(DECORATORS["waits_for"], "ServiceWaits_for")
ServicePolls_every = _service(DECORATORS["polls_every"], "ServicePolls_every")


def test_functions(decorate):
    """Arguments go in and results come out as without the decorator, and wrong arguments are wrong as without it."""
    assert decorate(plain)(1) == 1
    assert decorate(plain)(number=1, more=2) == 3
    assert asyncio.run(decorate(coroutine)(4)) == 4
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        decorate(plain)()


def test_methods_in_either_order(decorate):
    """Instances and classes are bound as without the decorator, from the instance and from the class, also by a subclass."""
    kind = _service(decorate, "Service")

    class Sub(kind):
        pass

    for cls in (kind, Sub):
        it = cls()
        assert it.method(1) == cls.method(it, 1) == (it, 1)
        assert asyncio.run(it.async_method(1)) == asyncio.run(cls.async_method(it, 1)) == (it, 1)
        for name in ("outer_class", "inner_class"):
            assert getattr(it, name)(2) == getattr(cls, name)(2) == (cls, 2)
            name = f"async_{name}"
            assert asyncio.run(getattr(it, name)(2)) == asyncio.run(getattr(cls, name)(2)) == (cls, 2)
        for name in ("outer_static", "inner_static"):
            assert getattr(it, name)(3) == getattr(cls, name)(3) == 3
            name = f"async_{name}"
            assert asyncio.run(getattr(it, name)(3)) == asyncio.run(getattr(cls, name)(3)) == 3


def test_callables_and_partials(decorate):
    """Objects with ``__call__`` and partials are decorated alike, and those that give coroutines are awaited."""
    assert decorate(Adds(2))(1) == 3
    assert decorate(functools.partial(plain, 1, more=1))() == 2
    assert decorate(functools.partial(Adds(1)))(1) == 2
    assert decorate(Adds(2).__call__)(1) == 3
    assert decorate(len)("abc") == 3
    assert asyncio.run(decorate(AddsAsync(2))(1)) == 3
    assert asyncio.run(decorate(functools.partial(coroutine, 5))()) == 5
    assert asyncio.run(decorate(functools.partial(AddsAsync(2), 5))()) == 7
    assert decorate(lambda: 1)() == 1


def test_decorated_twice():
    """Decorators stand on each other in any order."""
    stacked = plain
    for decorate in [*DECORATORS.values(), *reversed(DECORATORS.values())]:
        stacked = decorate(stacked)
    assert stacked(1, more=1) == 2
    assert stacked.__name__ == "plain"


def test_what_describes_it_stays(decorate):
    """Name, words, module, signature, annotations and kind are those of the function."""
    for function in (plain, coroutine):
        decorated = decorate(function)
        for attribute in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
            assert getattr(decorated, attribute) == getattr(function, attribute)
        assert inspect.signature(decorated) == inspect.signature(function)
        assert typing.get_type_hints(decorated) == typing.get_type_hints(function)
        assert inspect.iscoroutinefunction(decorated) is inspect.iscoroutinefunction(function)
        assert inspect.unwrap(decorated) is function
    assert not inspect.iscoroutinefunction(decorate(Adds(1)))
    assert str(inspect.signature(_service(decorate, "Service")().method)) == "(number: 'int') -> 'tuple[object, int]'"


def generator():
    yield 1


async def async_generator():
    yield 1


class Generates:
    def __call__(self):
        yield 1


@pytest.mark.parametrize(
    "function",
    [
        generator,
        async_generator,
        Generates(),
        Generates().__call__,
        functools.partial(generator),
        functools.partial(async_generator),
        classmethod(generator),
        staticmethod(generator),
        staticmethod(async_generator),
    ],
    ids=lambda function: f"{type(function).__name__} {getattr(function, '__name__', '')}",
)
def test_generators_are_refused(decorate, function):
    """A generator function is refused when it is decorated, with what to write instead: its call runs nothing of it yet."""
    with pytest.raises(TypeError, match=r"cannot decorate.*generator function runs nothing of it yet\. \w+"):
        decorate(function)


@pytest.mark.parametrize("thing", [5, None, "f", int, Adds])
def test_no_callable(decorate, thing):
    """What is no callable, and a class, are refused when they are decorated."""
    with pytest.raises(TypeError, match="decorate"):
        decorate(thing)


@pytest.mark.parametrize("name", DECORATORS)
def test_pickles_where_the_plain_one_does(name):
    """Functions and class attributes pickle by name, bound methods with their instance, as plain ones."""
    function = globals()[f"at_top_{name}"]
    kind = globals()[f"Service{name.capitalize()}"]
    assert pickle.loads(pickle.dumps(function)) is function
    it = kind()
    for method in (it.method, kind.outer_class, kind.inner_class, it.outer_class, it.inner_class):
        assert pickle.loads(pickle.dumps(method))(1) == method(1)
    for method in (kind.outer_static, kind.inner_static, it.outer_static):
        assert pickle.loads(pickle.dumps(method))(3) == 3
    assert asyncio.run(pickle.loads(pickle.dumps(it.async_method))(1)) == (it, 1)
    assert pickle.loads(pickle.dumps(kind.method))(it, 1) == (it, 1)


def test_copies(decorate):
    """A copy of a function is the function itself, and that of a bound method is bound to the copy, as of plain ones."""
    function, it = decorate(plain), _service(decorate, "Service")()
    assert copy.copy(function) is copy.deepcopy(function) is function
    assert copy.deepcopy({"call": function})["call"] is function
    assert copy.copy(it.method)(1)[0] is it
    copied = copy.deepcopy(it.method)(1)[0]
    assert copied == it
    assert copied is not it
    assert copy.deepcopy(type(it).outer_class)(1) == (type(it), 1)
    assert copy.deepcopy(type(it).inner_static)(1) == 1


BY_VALUE = {
    "retry_backoff": retry_backoff(on=OSError, attempts=2, base=0, ready=path_exists("/")),
    "waits_for": waits_for(path_exists("/"), timeout="1h"),
    "polls_every": polls_every("1h", error_interval="2h"),
}


def times_two(number: int) -> int:
    """Pickle finds this one, and not what decorates it, by its name."""
    return 2 * number


@pytest.mark.parametrize("name", BY_VALUE)
def test_what_is_not_found_by_its_name_is_pickled_by_value(name):
    """A partial, an object, a bound method and a function of another name take their decorator along, where they can go."""
    decorate = BY_VALUE[name]
    things = [functools.partial(times_two, 4), functools.partial(Adds(4), 4), functools.partial(Adds(4).__call__, 4)]
    for thing in things:
        copied = pickle.loads(pickle.dumps(decorate(thing)))
        assert copied() == 8
        assert type(copied) is type(decorate(thing))
    for thing in (times_two, Adds(4), Adds(4).__call__):
        assert pickle.loads(pickle.dumps(decorate(thing)))(4) == 8
    assert pickle.loads(pickle.dumps(decorate(len)))("four") == 4
    awaited = pickle.loads(pickle.dumps(decorate(functools.partial(AddsAsync(2), 5))))
    assert asyncio.run(awaited()) == 7
    assert pickle.loads(pickle.dumps(decorate(decorate(times_two))))(4) == 8


def test_a_pickled_retry_retries():
    """What was given to the decorator is in force on the other side."""
    FAILURES[:] = [OSError("once")]
    copied = pickle.loads(
        pickle.dumps(retry_backoff(on=OSError, attempts=2, base=0)(functools.partial(fails_at_first, 3)))
    )
    assert copied() == 3
    FAILURES[:] = [OSError("once"), OSError("twice")]
    with pytest.raises(OSError, match="twice"):
        copied()


FAILURES: list[Exception] = []


def fails_at_first(number: int) -> int:
    if FAILURES:
        raise FAILURES.pop(0)
    return number


def test_a_pickled_poller_is_started_anew():
    """Pollers stay where they run; the definition goes along."""
    polled = polls_every("1h")(functools.partial(times_two, 1))
    polled.start()
    try:
        copied = pickle.loads(pickle.dumps(polled))
        assert copied.poller is None
        with copied.polling() as poller:
            wait_for(poller.has_run(), LIMIT)
    finally:
        polled.stop()


def test_what_cannot_be_pickled():
    """A limit of this process does not become two, and what the plain one cannot do the decorated one cannot either."""
    for limited in (rate_limited("5/s")(functools.partial(times_two, 1)), rate_limited("5/s", key=abs)(Adds(1))):
        with pytest.raises(
            TypeError, match="keeps its state in this process, and a copy of it would allow as much again"
        ):
            pickle.dumps(limited)
    for decorate in DECORATORS.values():
        with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
            pickle.dumps(decorate(lambda: 1))


@pytest.mark.parametrize("form", ["plain", "coroutine"])
def test_tracebacks_have_at_most_one_frame_of_ours(decorate, form):
    """Between the caller's frame and the function's stands at most one of waitkit."""

    def raises() -> None:
        raise LookupError

    async def raises_async() -> None:
        raise LookupError

    try:
        if form == "plain":
            decorate(raises)()
        else:
            asyncio.run(decorate(raises_async)())
    except LookupError as error:
        files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    assert [file for file in files if "wrapt" in file] == []
    assert len([file for file in files if "/waitkit/" in file and file != __file__]) <= 1
    assert files[-1] == __file__


# A delay that scopes end. Each makes a call that waits for an hour, and counts how often the function ran.


def _retry_delay(ran):
    @retry_backoff(on=OSError, base="1h", max_delay="1h", jitter="none")
    def call() -> None:
        ran.append(1)
        raise OSError

    return call, 1


def _rate_delay(ran):
    limiter = RateLimiter("1/h")
    limiter.acquire()
    return rate_limited(limiter)(lambda: ran.append(1)), 0


def _reserved_delay(ran):
    limiter = RateLimiter("1/h")
    limiter.acquire()

    def call() -> None:
        limiter.reserve().wait()
        ran.append(1)

    return call, 0


def _condition_delay(ran):
    return waits_for(Event(), timeout="1h")(lambda: ran.append(1)), 0


def _async_delay(make):
    """The same of a coroutine function."""

    def made(ran):
        if make is _retry_delay:

            @retry_backoff(on=OSError, base="1h", max_delay="1h", jitter="none")
            async def call() -> None:
                ran.append(1)
                raise OSError

            return call, 1
        if make is _condition_delay:

            @waits_for(Event(), timeout="1h")
            async def call() -> None:
                ran.append(1)

            return call, 0
        limiter = RateLimiter("1/h")
        limiter.acquire()
        if make is _rate_delay:

            @rate_limited(limiter)
            async def call() -> None:
                ran.append(1)

            return call, 0

        async def call() -> None:
            await limiter.reserve().wait_async()
            ran.append(1)

        return call, 0

    return made


DELAYS = [_retry_delay, _rate_delay, _reserved_delay, _condition_delay]


@pytest.mark.parametrize("end", ["cancelled", "expired"])
@pytest.mark.parametrize("form", ["plain", "coroutine"])
@pytest.mark.parametrize("make", DELAYS, ids=lambda make: make.__name__.strip("_"))
def test_scopes_end_every_kind_of_delay(make, form, end):
    """A scope that is cancelled or expires ends a delay of an hour, and no attempt follows."""
    ran: list[int] = []
    call, attempts = make(ran) if form == "plain" else _async_delay(make)(ran)
    scope = CancelScope() if end == "cancelled" else fail_after("50ms")

    def work() -> None:
        with scope:
            if form == "plain":
                call()
            else:
                asyncio.run(call())

    working = Running(work)
    if end == "cancelled":
        until(lambda: len(scope.changed))
        scope.cancel("the test")
        working.result()
        assert scope.cancelled_caught
    else:
        with pytest.raises(WaitTimeout):
            working.result()
    assert len(ran) == attempts


@pytest.mark.parametrize("form", ["plain", "coroutine"])
@pytest.mark.parametrize("make", DELAYS, ids=lambda make: make.__name__.strip("_"))
def test_no_call_in_a_scope_that_was_cancelled(make, form):
    """In a scope that has been cancelled no delay begins, and nothing runs after one."""
    ran: list[int] = []
    call, attempts = make(ran) if form == "plain" else _async_delay(make)(ran)
    with CancelScope() as scope:
        scope.cancel()
        if form == "plain":
            call()
        else:
            asyncio.run(call())
    assert scope.cancelled_caught
    assert len(ran) == attempts


@pytest.mark.parametrize("make", DELAYS, ids=lambda make: make.__name__.strip("_"))
def test_a_cancelled_task_ends_its_delay(make):
    """Cancelling a task ends its delay; the function does not run any more."""
    ran: list[int] = []
    call, attempts = _async_delay(make)(ran)

    async def main() -> None:
        task = asyncio.ensure_future(call())
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, LIMIT)

    asyncio.run(main())
    assert len(ran) == attempts


class Aliased:
    """Methods that are decorated under another name than that of their function."""

    def fetch(self) -> str:
        raise OSError

    @classmethod
    def make(cls) -> str:
        raise OSError

    fetch_safely = retry_backoff(on=OSError, attempts=2, base=0)(fetch)
    make_safely = retry_backoff(on=OSError, attempts=2, base=0)(make)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda method: pickle.loads(pickle.dumps(method))])
@pytest.mark.parametrize("name", ["fetch_safely", "make_safely"])
def test_bound_under_another_name(name, copied):
    """A bound method of another name than its function keeps its decorator in copies and pickles."""
    with pytest.raises(OSError) as caught:
        copied(getattr(Aliased(), name))()
    assert "2 attempts" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("decorator", "error"),
    [
        (waits_for(lambda: False, timeout=0), WaitTimeout),
        (waits_for(lambda: {}["missing"], timeout=0), KeyError),
        (rate_limited("1/h", burst=1, tokens=1, timeout=0), RateLimitExceeded),
    ],
)
def test_our_own_errors_show_no_frame_of_ours(decorator, error):
    """An error of the wait before the call shows who called and what the condition called, and nothing of the inside of waitkit."""

    async def coroutine() -> None: ...

    for function in (decorator(lambda: None), decorator(coroutine)):
        with pytest.raises(error) as caught:
            for _ in range(2):
                result = function()
                if result is not None:
                    asyncio.run(result)
        files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert not [file for file in files if file.startswith(os.path.dirname(waitkit.__file__))]
