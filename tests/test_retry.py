"""Retries: what is tried again, when, how often, and what is left of it all. Both drivers run the same tests."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import logging
import pickle
import random
import threading
import traceback
from functools import partial
from unittest.mock import AsyncMock

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import LIMIT, Running, until

import waitkit
from waitkit import (
    Backoff,
    Cancelled,
    CancelScope,
    Event,
    RetryBudget,
    WaitTimeout,
    current_attempt,
    fail_after,
    retry_backoff,
    retrying,
    virtual_clock,
    wait_for,
    waits_for,
)
from waitkit.engine.clock import now
from waitkit.testing import retries


@pytest.fixture(params=["plain", "coroutine", "block", "async block"])
def call(request):
    """Run a function of no arguments under a retry with these options, in each of the four forms."""

    def in_form(function, **options):
        if request.param == "plain":
            return retry_backoff(**options)(function)()
        if request.param == "coroutine":

            async def coroutine():
                return function()

            return asyncio.run(retry_backoff(**options)(coroutine)())
        if request.param == "block":
            for attempt in retrying(**options):
                with attempt:
                    result = function()
            return result

        async def block():
            async for attempt in retrying(**options):
                with attempt:
                    result = function()
            return result

        return asyncio.run(block())

    return in_form


class Failing:
    """Fails so many times, with this exception, and counts its calls; it keeps which attempts it ran in."""

    def __init__(self, times: int, error: Exception | None = None) -> None:
        self.times = times
        self.error = error
        self.attempts: list[tuple[int, str]] = []

    def __call__(self) -> str:
        attempt = current_attempt()
        self.attempts.append((attempt.number, type(attempt.previous).__name__))
        if len(self.attempts) <= self.times:
            raise self.error or ConnectionError(f"refused {len(self.attempts)}")
        return "done"


def test_until_it_succeeds(call):
    """A call that fails twice succeeds at the third attempt, which knows its number and what came before."""
    failing = Failing(2)
    assert call(failing, on=ConnectionError, base=0) == "done"
    assert failing.attempts == [(1, "NoneType"), (2, "ConnectionError"), (3, "ConnectionError")]
    assert current_attempt() is None


def test_the_last_exception_itself(call):
    """When attempts run out the last exception is raised, with a note on all of them."""
    failing = Failing(99)
    with pytest.raises(ConnectionError, match="refused 4") as caught:
        call(failing, on=ConnectionError, attempts=4, base=0)
    assert len(failing.attempts) == 4
    (note,) = caught.value.__notes__
    assert note.startswith("gave up after 4 attempts in ")
    assert "(4 attempts made): 1: ConnectionError: refused 1; 2: " in note
    assert caught.value.__context__ is None


def test_what_was_not_asked_for_passes(call):
    """Another exception comes through at once, as it is, without a note."""
    failing = Failing(9, LookupError("other"))
    with pytest.raises(LookupError) as caught:
        call(failing, on=ConnectionError, base=0)
    assert len(failing.attempts) == 1
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_never_retried(kind):
    """Interrupts, exits and cancellations pass, whatever is asked."""
    calls: list[int] = []

    @retry_backoff(on=lambda error: True, base=0)
    def fails() -> None:
        calls.append(1)
        raise kind

    with pytest.raises(kind):
        fails()
    assert len(calls) == 1


def test_on_oserror_retries_our_own_timeout():
    """``WaitTimeout`` is a TimeoutError, so an OSError, and retried as one."""
    calls: list[int] = []

    @retry_backoff(on=OSError, attempts=3, base=0)
    def waits() -> None:
        calls.append(1)
        wait_for(Event(), 0)

    with pytest.raises(WaitTimeout):
        waits()
    assert len(calls) == 3


def test_delays_follow_the_formula(virtual):
    """Without jitter the delays are base, base * factor, ... up to the maximum."""
    times: list[int] = []

    @retry_backoff(on=OSError, attempts=6, base="1s", factor=3, max_delay="20s", jitter="none")
    def fails() -> None:
        times.append(now())
        raise OSError

    with pytest.raises(OSError):
        fails()
    delays = [(after - before) / 1e9 for before, after in zip(times, times[1:], strict=False)]
    assert delays == [1, 3, 9, 20, 20]


def test_the_timeout_counts_delays(virtual):
    """No attempt starts after the deadline; a delay that would end after it is not begun."""
    start, times = now(), []

    @retry_backoff(on=OSError, attempts=None, timeout="10s", base="4s", factor=1, jitter="none")
    def fails() -> None:
        times.append((now() - start) // 10**9)
        raise OSError

    with pytest.raises(OSError) as caught:
        fails()
    assert times == [0, 4, 8]
    assert now() - start == 8 * 10**9
    assert "10 s would be over before the next attempt" in caught.value.__notes__[0]


def test_elapsed_is_measured_after_the_attempt(virtual):
    """An attempt that takes the whole time is the last one."""
    calls: list[int] = []

    @retry_backoff(on=OSError, timeout="5s", base=0)
    def slow() -> None:
        calls.append(1)
        virtual.advance(6)
        raise OSError

    with pytest.raises(OSError):
        slow()
    assert len(calls) == 1


def test_asked_for_delays(virtual):
    """A function may return the delay that the other side asked for: never shorter, spread a little, capped."""
    times: list[int] = []

    def policy(error: Exception):
        return "5s" if len(times) == 1 else "1h"

    @retry_backoff(on=policy, attempts=3, base="100ms", max_delay="30s")
    def fails() -> None:
        times.append(now())
        raise OSError

    with pytest.raises(OSError):
        fails()
    first, second = ((after - before) / 1e9 for before, after in zip(times, times[1:], strict=False))
    assert 5 <= first <= 5.1
    assert 29.9 <= second <= 30


def test_results_can_be_retried():
    """A result that says "not yet" is tried again; the last one is returned."""
    results = iter([None, None, "ready"])
    assert (
        retry_backoff(on=OSError, on_result=lambda result: result is None, base=0)(lambda: next(results))() == "ready"
    )
    assert retry_backoff(on=OSError, on_result=lambda result: True, attempts=2, base=0)(lambda: "last")() == "last"


def test_ready_ends_the_delay():
    """A condition that comes to hold ends a delay of an hour."""
    ready, failed = Event(), Event()

    def connect() -> str:
        if not ready.is_set():
            failed.set()
            raise ConnectionError
        return "connected"

    connecting = Running(
        retry_backoff(on=ConnectionError, ready=ready, base="1ms", max_delay="1h", factor=1e9, jitter="none")(connect)
    )
    until(failed)
    ready.set()
    assert connecting.result() == "connected"


def test_ready_that_holds_already_shortens_nothing(virtual):
    """What held right after the failure was not its cause: the delay is served in full."""
    ready, times = Event(), []
    ready.set()

    @retry_backoff(on=OSError, attempts=3, ready=ready, base="1s", factor=1, jitter="none")
    def fails() -> None:
        times.append(now())
        raise OSError

    with pytest.raises(OSError):
        fails()
    assert [after - before for before, after in zip(times, times[1:], strict=False)] == [10**9] * 2


@pytest.mark.parametrize("form", ["plain", "coroutine"])
@pytest.mark.parametrize("late", [False, True])
def test_ready_that_raises_shortens_nothing(virtual, caplog, form, late):
    """What is wrong with the condition is logged; the call ends with its own error, and is given up on as any other."""
    looks, times, given_up = [], [], []

    def ready() -> bool:
        looks.append(1)
        if late and len(looks) == 1:
            return False
        raise ZeroDivisionError("the look")

    def fails() -> None:
        looks.clear()
        times.append(now())
        raise OSError("the call")

    async def coroutine() -> None:
        fails()

    options = {"on": OSError, "attempts": 3, "base": "1s", "factor": 1, "jitter": "none", "on_give_up": given_up.append}
    with pytest.raises(OSError, match="the call"), caplog.at_level("WARNING", "waitkit.retry"):
        if form == "plain":
            retry_backoff(ready=ready, **options)(fails)()
        else:
            asyncio.run(retry_backoff(ready=ready, **options)(coroutine)())
    assert [after - before for before, after in zip(times, times[1:], strict=False)] == [10**9] * 2
    assert [record.attempt for record in given_up] == [3]
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError] * 2
    assert "fails: ready= raised" in caplog.text or "coroutine: ready= raised" in caplog.text


@pytest.mark.parametrize("form", ["plain", "coroutine"])
@pytest.mark.parametrize("ready", [False, True])
def test_a_cancelled_scope_ends_the_delay_and_no_attempt_follows(form, ready):
    """Cancelling ends a delay of an hour at once; no further attempt runs."""
    calls, failed = [], Event()
    scope = CancelScope()
    options = {"on": OSError, "base": "1h", "max_delay": "1h", "jitter": "none", "ready": Event() if ready else None}

    def fails() -> None:
        calls.append(1)
        failed.set()
        raise OSError

    def work() -> None:
        with scope:
            if form == "plain":
                retry_backoff(**options)(fails)()

            async def coroutine() -> None:
                fails()

            asyncio.run(retry_backoff(**options)(coroutine)())

    working = Running(work)
    until(failed)
    until(lambda: len(scope.changed))
    scope.cancel()
    working.result()
    assert (len(calls), scope.cancelled_caught) == (1, True)


def test_a_scope_that_ends_within_an_attempt_lets_none_follow():
    """Also without any delay, an attempt in a scope that has ended is the last."""
    calls: list[int] = []

    @retry_backoff(on=OSError, attempts=9, base=0)
    def fails() -> None:
        calls.append(1)
        scope.cancel()
        raise OSError

    with CancelScope() as scope:
        fails()
    assert (len(calls), scope.cancelled_caught) == (1, True)


def test_an_expired_scope(virtual):
    """A deadline that comes during a delay ends the call there."""
    calls: list[int] = []

    @retry_backoff(on=OSError, base="10s", jitter="none")
    def fails() -> None:
        calls.append(1)
        raise OSError

    with pytest.raises(WaitTimeout), fail_after("3s"):
        fails()
    assert len(calls) == 1


def test_nested_retries_do_not_multiply(call):
    """What an inner retry has given up on is not retried outside, also when it was raised anew from it."""
    inner = Failing(99)

    def outer() -> None:
        try:
            retry_backoff(on=ConnectionError, attempts=3, base=0)(inner)()
        except ConnectionError as error:
            raise OSError("wrapped") from error

    with pytest.raises(OSError, match="wrapped"):
        call(outer, on=OSError, attempts=5, base=0)
    assert len(inner.attempts) == 3
    with pytest.raises(OSError):
        call(outer, on=OSError, attempts=2, base=0, nested=True)
    assert len(inner.attempts) == 3 + 2 * 3


def test_budget_is_shared():
    """Calls share a budget: without tokens none retries; successes fill it up again."""
    budget = RetryBudget(tokens=10, cost=5)
    failing = Failing(99)
    fails = retry_backoff(on=OSError, attempts=9, base=0, budget=budget)(failing)
    with pytest.raises(OSError) as caught:
        fails()
    assert (len(failing.attempts), budget.tokens) == (3, 0)
    assert "the retry budget is spent" in caught.value.__notes__[0]
    works = retry_backoff(on=OSError, budget=budget)(lambda: 1)
    for _ in range(20):
        works()
    assert budget.tokens == 10
    recovers = retry_backoff(on=OSError, base=0, budget=budget)(Failing(1))
    recovers()
    assert budget.tokens == 10


def test_hooks_and_log(caplog, call):
    """Each failure is told in one record; the log has names and types, and nothing that could be secret."""
    caplog.set_level(logging.INFO, "waitkit.retry")
    retried, given_up = [], []
    with pytest.raises(ConnectionError):
        call(
            Failing(99, ConnectionError("password=hunter2")),
            on=ConnectionError,
            attempts=3,
            base=0,
            on_retry=retried.append,
            on_give_up=given_up.append,
        )
    assert [(record.attempt, record.delay, type(record.error).__name__) for record in retried] == [
        (1, 0, "ConnectionError"),
        (2, 0, "ConnectionError"),
    ]
    assert [(record.attempt, record.delay, record.why) for record in given_up] == [(3, None, "3 attempts made")]
    assert "attempt 1 ended in ConnectionError, next in 0 s" in caplog.text
    assert "hunter2" not in caplog.text


def test_a_hook_that_raises_changes_nothing(caplog):
    """A hook that raises is logged, and the retry goes on."""
    assert retry_backoff(on=OSError, base=0, on_retry=lambda record: 1 / 0)(Failing(1))() == "done"
    assert "ZeroDivisionError" in caplog.text


def test_for_a_test_session():
    """``retries`` sets attempts and takes delays away, for the length of a block."""
    failing = Failing(99)
    fails = retry_backoff(on=OSError, attempts=50, base="1h", max_delay="1h")(failing)
    with retries(attempts=2, delays=False), pytest.raises(OSError):
        fails()
    assert len(failing.attempts) == 2
    with pytest.raises(ValueError, match="attempts=0"), retries(attempts=0):
        pass


@pytest.mark.parametrize("anew", [True, False], ids=["new ones", "one and the same"])
def test_tracebacks_have_no_frame_of_ours(anew):
    """After the caller's frame comes the function's, though it was called again and again, and raised what it had raised before."""
    same = OSError("same")

    def fails() -> None:
        raise OSError if anew else same

    async def fails_async() -> None:
        fails()

    retries_thrice = retry_backoff(on=OSError, attempts=3, base=0)
    for call in (retries_thrice(fails), lambda: asyncio.run(retries_thrice(fails_async)())):
        with pytest.raises(OSError) as caught:
            call()
        files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert files.count(__file__) >= 2
        assert not [file for file in files if "waitkit/retry" in file]
        same = OSError("same")


class Service:
    """All kinds of methods, in both orders of the decorators."""

    @retry_backoff(on=OSError)
    def method(self, number: int) -> tuple[object, int]:
        """Doc."""
        return self, number

    @classmethod
    @retry_backoff(on=OSError)
    def outer_class(cls, number: int) -> tuple[object, int]:
        return cls, number

    @retry_backoff(on=OSError)
    @classmethod
    def inner_class(cls, number: int) -> tuple[object, int]:
        return cls, number

    @staticmethod
    @retry_backoff(on=OSError)
    def outer_static(number: int) -> int:
        return number

    @retry_backoff(on=OSError)
    @staticmethod
    def inner_static(number: int) -> int:
        return number

    @retry_backoff(on=OSError)
    @classmethod
    async def coroutine(cls) -> object:
        return cls


@retry_backoff(on=OSError)
def top_level(number: int) -> int:
    """Its own words."""
    return number


def test_methods_of_all_kinds():
    """Instances and classes are bound as without the decorator."""
    service = Service()
    assert service.method(1) == Service.method(service, 1) == (service, 1)
    assert (
        Service.outer_class(2)
        == service.outer_class(2)
        == Service.inner_class(2)
        == service.inner_class(2)
        == (Service, 2)
    )
    assert Service.outer_static(3) == service.inner_static(3) == Service.inner_static(3) == 3
    assert asyncio.run(service.coroutine()) is Service
    assert inspect.iscoroutinefunction(service.coroutine)


def test_name_signature_and_pickle():
    """What describes a function stays; it pickles where the plain function does."""
    assert (top_level.__name__, top_level.__doc__) == ("top_level", "Its own words.")
    assert str(inspect.signature(top_level)) == "(number: 'int') -> 'int'"
    assert pickle.loads(pickle.dumps(top_level)) is top_level
    assert pickle.loads(pickle.dumps(Service.outer_class))(1) == (Service, 1)
    assert pickle.loads(pickle.dumps(Service.method)).__qualname__ == "Service.method"


def test_no_state_on_the_decorator():
    """One decorator on several functions, called from several threads: each call counts its own attempts."""
    decorate = retry_backoff(on=OSError, attempts=3, base=0)
    failing = [Failing(2) for _ in range(20)]
    running = [Running(decorate(one)) for one in failing]
    assert [one.result() for one in running] == ["done"] * 20
    assert all([number for number, _ in one.attempts] == [1, 2, 3] for one in failing)


def _generator():
    yield 1


async def _async_generator():
    yield 1


@pytest.mark.parametrize(
    ("bad", "names"),
    [
        (lambda: retry_backoff(on=OSError)(_generator), "generator"),
        (lambda: retry_backoff(on=OSError)(_async_generator), "async generator"),
        (lambda: retry_backoff(on=OSError)(Service), "Service"),
        (lambda: retry_backoff(on=OSError)(5), "5"),
        (lambda: retry_backoff(on=KeyboardInterrupt), "KeyboardInterrupt"),
        (lambda: retry_backoff(on=(OSError, BaseException)), "BaseException"),
        (lambda: retry_backoff(on=()), r"on=\(\)"),
        (lambda: retry_backoff(on=[OSError]), "on="),
        (lambda: retry_backoff(on=OSError, attempts=0), "attempts=0"),
        (lambda: retry_backoff(on=OSError, attempts=True), "attempts=True"),
        (lambda: retry_backoff(on=OSError, attempts=None), "would try for ever"),
        (lambda: retry_backoff(on=OSError, timeout=-1), "timeout=-1"),
        (lambda: retry_backoff(on=OSError, base="soon"), "base='soon'"),
        (lambda: retry_backoff(on=OSError, base="20s"), "max_delay=10 s is shorter than base=20 s"),
        (lambda: retry_backoff(on=OSError, factor=0.5), "factor=0.5"),
        (lambda: retry_backoff(on=OSError, factor=float("nan")), "factor=nan"),
        (lambda: retry_backoff(on=OSError, jitter="some"), "jitter='some'"),
        (lambda: retry_backoff(on=OSError, ready=5), "ready=5"),
        (lambda: retry_backoff(on=OSError, tries=5), "on_result"),
        (lambda: retries(delays="no").__enter__(), "delays='no'"),
        (lambda: retry_backoff(on=OSError, budget=5), "budget=5"),
        (lambda: retry_backoff(on=OSError, on_retry=5), "on_retry=5"),
        (lambda: retrying(on=5), "on=5"),
        (lambda: RetryBudget(tokens=1, cost=2), "exceeds"),
        (lambda: RetryBudget(tokens=0), "tokens=0"),
        (lambda: waits_for(5), "5"),
        (lambda: waits_for(Event())(_generator), "generator"),
    ],
)
def test_bad_input(bad, names):
    """Bad options are refused when they are written."""
    with pytest.raises((TypeError, ValueError), match=names):
        bad()


def test_an_attempt_that_is_not_entered():
    """A loop that forgets ``with attempt`` is told so, instead of turning for ever."""
    with pytest.raises(RuntimeError, match="with attempt"):
        for _ in retrying(on=OSError):
            pass


def test_waits_for():
    """The call begins when the condition holds; where it does not come, the function is not called."""
    gate, calls = Event(), []

    @waits_for(gate, timeout="5ms")
    def enter(name: str) -> str:
        calls.append(name)
        return name

    @waits_for(gate, timeout="5ms")
    async def enter_async(name: str) -> str:
        return enter(name)

    with pytest.raises(WaitTimeout):
        enter("early")
    with pytest.raises(WaitTimeout):
        asyncio.run(enter_async("early"))
    gate.set()
    assert (enter("in"), asyncio.run(enter_async("too"))) == ("in", "too")
    assert calls == ["in", "too"]


@given(
    base=st.integers(0, 10**12),
    more=st.integers(0, 10**12),
    factor=st.floats(1, 1e6),
    jitter=st.sampled_from(["full", "equal", "decorrelated", "none"]),
    failures=st.integers(1, 5_000),
    previous=st.integers(0, 10**13),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_backoff_stays_within_its_bounds(base, more, factor, jitter, failures, previous, chance):
    """No delay is negative, exceeds the maximum, or overflows, at any number of failures."""
    backoff = Backoff(base=base / 1e9, factor=factor, max_delay=(base + more) / 1e9, jitter=jitter)
    delay = backoff.delay(failures, lambda: chance, min(previous, backoff.max_delay))
    assert 0 <= delay <= backoff.max_delay
    assert backoff.cap(failures) <= backoff.cap(failures + 1)
    if jitter == "equal":
        assert delay >= backoff.cap(failures) // 2
    if jitter == "decorrelated":
        assert delay >= backoff.base


@pytest.mark.parametrize("jitter", ["full", "equal", "decorrelated"])
def test_jitter_does_not_vanish_at_the_cap(jitter):
    """After many failures the delays are still spread: their deviation is a good part of the maximum."""
    backoff = Backoff(base="100ms", max_delay="10s", jitter=jitter)
    chance, previous, delays = random.Random(7), 0, []
    for failures in range(1, 2_000):
        previous = backoff.delay(failures, chance.random, previous)
        delays.append(previous)
    late = delays[100:]
    mean = sum(late) / len(late)
    deviation = (sum((delay - mean) ** 2 for delay in late) / len(late)) ** 0.5
    assert deviation > backoff.max_delay * 0.1
    assert len(set(late)) > len(late) * 0.99


def course(run, script, options):
    """When the attempts of *run* began, how it ended, and what the hooks heard."""
    steps, calls, told = iter([*script, "ok"]), [], []

    def hear(record) -> None:
        told.append((record.attempt, record.delay, record.why))

    with virtual_clock() as clock:

        def step() -> str:
            calls.append(clock.elapsed)
            kind = next(steps)
            if kind == "slow retry":
                clock.advance(2)
            if "retry" in kind:
                raise ConnectionError
            if kind == "other":
                raise LookupError
            return kind

        try:
            end = run(step, {**options, "on_retry": hear, "on_give_up": hear})
        except Exception as error:
            end = type(error).__name__
    return calls, end, told


def called(step, options):
    return retry_backoff(on_result=lambda result: result == "not yet", **options)(step)()


def called_in_a_task(step, options):
    @retry_backoff(on_result=lambda result: result == "not yet", **options)
    async def in_a_thread():  # where time may be moved on
        return await asyncio.to_thread(step)

    return asyncio.run(in_a_thread())


def block(step, options):
    for attempt in retrying(**options):
        with attempt:
            result = step()
    return result


def block_in_a_task(step, options):
    async def main():
        async for attempt in retrying(**options):
            with attempt:
                result = await asyncio.to_thread(step)
        return result

    return asyncio.run(main())


OUTCOMES = ["ok", "retry", "other", "not yet", "slow retry"]


@given(
    st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=8),
    st.integers(1, 5),
    st.sampled_from(["0s", "1s"]),
    st.sampled_from([None, "2500ms"]),
)
def test_both_drivers_agree(script, attempts, base, timeout):
    """Any script of outcomes gives the same attempts, at the same instants, and the same end: in a thread and in a task."""
    options = {
        "on": ConnectionError,
        "attempts": attempts,
        "base": base,
        "max_delay": "10s",
        "timeout": timeout,
        "jitter": "none",
    }
    assert course(called, script, options) == course(called_in_a_task, script, options)
    assert course(block, script, options) == course(block_in_a_task, script, options)


def test_cancelled_is_never_kept():
    """Our own Cancelled is no Exception: a policy that retries everything does not see it."""
    assert not issubclass(Cancelled, Exception)
    assert threading.active_count() >= 1
    assert waitkit.retry_backoff is retry_backoff
    assert LIMIT


def test_a_delay_asks_for_no_notes(virtual, monkeypatch):
    """The look at ready= is a question: nobody is asked who holds the port, as the error of that look is never seen."""
    from waitkit import path_exists
    from waitkit.conditions import paths

    asked = []
    monkeypatch.setattr(paths._PathWatch, "explain", lambda watch: asked.append(watch) or ())

    @retry_backoff(on=KeyError, attempts=3, base="10ms", ready=path_exists("/nowhere/at/all"))
    def fails():
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert asked == []


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 30))
def test_jitter_is_uniform(draw, failures):
    """Each jitter is a straight line from its least to its greatest delay, so that what is uniform stays uniform."""
    for jitter, least, greatest in [("full", 0.0, 1.0), ("equal", 0.5, 1.0), ("none", 1.0, 1.0)]:
        backoff = Backoff(base="100ms", max_delay="1h", jitter=jitter)
        cap = backoff.cap(failures)
        assert backoff.delay(failures, lambda: draw) == pytest.approx(cap * (least + (greatest - least) * draw), abs=1)
    backoff = Backoff(base="100ms", max_delay="1h", jitter="decorrelated")
    for previous in (backoff.base, 60 * backoff.base, backoff.max_delay):
        most = min(backoff.max_delay, 3 * previous)
        expected = backoff.base + draw * (most - backoff.base)
        assert backoff.delay(failures, lambda: draw, previous) == pytest.approx(expected, abs=1)


def test_all_are_not_told_to_come_at_once(virtual):
    """What the other side asks for is spread by chance, at the maximum, too."""
    delays = set()

    def hear(record) -> None:
        delays.add(record.delay)

    for _ in range(20):
        with pytest.raises(OSError):
            retry_backoff(on=lambda error: 30, attempts=2, on_retry=hear)(raise_oserror)()
    assert len(delays) == 20
    assert all(9.9 <= delay <= 10 for delay in delays)


def raise_oserror() -> None:
    raise OSError


def test_a_fallback_is_retried():
    """Who is called because another call has failed for good is retried itself: it is not inside of that one."""
    calls = []

    @retry_backoff(on=OSError, attempts=2, base=0)
    def primary() -> None:
        raise OSError("primary")

    @retry_backoff(on=OSError, attempts=3, base=0)
    def secondary() -> None:
        calls.append(1)
        raise OSError("secondary")

    with pytest.raises(OSError, match="secondary"):
        try:
            primary()
        except OSError:
            secondary()
    assert len(calls) == 3


def test_one_exception_raised_again_and_again():
    """An exception object that is raised by every call, as by a mock, was not given up on within the next call."""
    same = OSError("same")
    calls = []

    @retry_backoff(on=OSError, attempts=3, base=0)
    def fails() -> None:
        calls.append(1)
        raise same

    for _ in range(2):
        with pytest.raises(OSError):
            fails()
    assert len(calls) == 6


def test_nested_in_tasks():
    """What retries have given up on in tasks of an attempt is known to the attempt: the context goes with them."""
    calls = []

    @retry_backoff(on=OSError, attempts=2, base=0)
    async def inner() -> None:
        calls.append(1)
        raise OSError

    @retry_backoff(on=OSError, attempts=5, base=0)
    async def outer() -> None:
        await asyncio.gather(inner(), inner())

    with pytest.raises(OSError):
        asyncio.run(outer())
    assert len(calls) == 4


@pytest.mark.parametrize("frozen", [attrs.frozen, dataclasses.dataclass(frozen=True)])
def test_exceptions_that_cannot_be_changed(frozen):
    """An exception whose class refuses attributes comes out with its note, and inner retries are known by it, too."""

    @frozen
    class Refused(Exception):
        code: int

    inner = retry_backoff(on=Refused, attempts=2, base=0)(lambda: (_ for _ in ()).throw(Refused(7)))
    with pytest.raises(Refused) as caught:
        retry_backoff(on=Refused, attempts=3, base=0)(lambda: inner())()
    notes = caught.value.__notes__
    assert len(notes) == 2
    assert "2 attempts made" in notes[0]
    assert "an inner retry has given up" in notes[1]


@pytest.mark.parametrize(
    "judge", [lambda error: error.response.status == 503, lambda error: object(), lambda error: -1.0]
)
def test_a_judgement_that_fails_keeps_the_error(judge):
    """Where ``on=`` itself raises or returns nonsense, that comes out, in the context of the exception it was asked about."""
    with pytest.raises((AttributeError, TypeError, ValueError)) as caught:
        retry_backoff(on=judge)(raise_oserror)()
    assert type(caught.value.__context__) is OSError


@pytest.mark.parametrize("form", ["call", "block", "async call"])
def test_giving_up_in_a_delay_is_told(virtual, form):
    """A delay that lasts until the deadline ends the call for good, and ``on_give_up`` hears of it as of any other end."""
    told = []
    options = {
        "on": OSError,
        "ready": Event(),
        "timeout": "100ms",
        "base": "1m",
        "max_delay": "1m",
        "jitter": "none",
        "on_retry": lambda record: (told.append("retry"), virtual.advance("60ms")),
        "on_give_up": lambda record: told.append(record.why),
    }

    def block() -> None:
        for attempt in retrying(**options):
            with attempt:
                raise OSError

    async def fails() -> None:
        raise OSError

    if form == "async call":
        options["on_retry"] = lambda record: told.append("retry")
    calls = {
        "call": lambda: retry_backoff(**options)(raise_oserror)(),
        "block": block,
        "async call": lambda: asyncio.run(retry_backoff(**options)(fails)()),
    }
    with pytest.raises(OSError):
        calls[form]()
    assert told == ["retry", "100 ms would be over before the next attempt"] or told == [
        "retry",
        "the deadline has come",
    ]
    assert virtual.elapsed == 0.1, "what the hook has taken is part of the delay"


def test_logs_tell_no_arguments(caplog):
    """What a partial has bound, and what an object says of itself, is in no log."""

    class Client:
        def __call__(self) -> None:
            raise OSError

        def __repr__(self) -> str:
            return "<Client password=hunter2>"

    def login(name: str, password: str) -> None:
        raise OSError

    with caplog.at_level(logging.INFO, "waitkit.retry"):
        for function in (partial(login, "bob", password="hunter2"), Client()):
            with pytest.raises(OSError):
                retry_backoff(on=OSError, attempts=2, base=0)(function)()
    assert len(caplog.records) == 4
    assert "login: attempt 1" in caplog.text
    assert "Client: attempt 1" in caplog.text
    assert "hunter2" not in caplog.text


def test_coroutines_that_nobody_awaits():
    """A plain function that returns a coroutine is no success: it says what to decorate."""

    async def fetch() -> None: ...

    with pytest.raises(TypeError, match="has returned a coroutine .*fetch.*decorate the coroutine function itself"):
        retry_backoff(on=OSError)(lambda: fetch())()


def test_mocks_of_coroutine_functions():
    """An ``AsyncMock``, and what is marked as a coroutine function, is awaited and retried as one."""
    mock = AsyncMock(side_effect=[OSError, OSError, "there"])
    assert asyncio.run(retry_backoff(on=OSError, base=0)(mock)()) == "there"
    if hasattr(inspect, "markcoroutinefunction"):
        steps = iter([OSError, None])

        async def step() -> str:
            error = next(steps)
            if error:
                raise error
            return "done"

        marked = inspect.markcoroutinefunction(lambda: step())
        assert asyncio.run(retry_backoff(on=OSError, base=0)(marked)()) == "done"


def test_a_loop_that_is_used_twice():
    """The attempts of one block are used once: a second loop over them says so, and does not do nothing."""
    attempts = retrying(on=OSError)
    for attempt in attempts:
        with attempt:
            pass
    with pytest.raises(RuntimeError, match="call it anew"):
        for _ in attempts:
            pass


def test_an_attempt_that_another_task_closes():
    """An async generator with an attempt around its ``yield`` may be closed by another task than it was entered in."""

    async def pages():
        async for attempt in retrying(on=OSError):
            with attempt:
                yield 1

    async def main() -> None:
        pages_of_it = pages()
        await asyncio.create_task(anext(pages_of_it))
        await asyncio.create_task(pages_of_it.aclose())

    asyncio.run(main())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: retry_backoff(on=OSError, attemps=3),
            r"retry_backoff\(\) takes no attemps=; its options are on=.*attempts=",
        ),
        (lambda: retrying(on=OSError, on_result=bool), r"retrying\(\) takes no on_result="),
        (lambda: retry_backoff(on=OSError, factor=10**400), "factor=1000.* that a float can hold"),
    ],
)
def test_unknown_options(make, message):
    """An option that there is not is refused in the name of what was called."""
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_nested_in_a_group_of_errors():
    """What an inner retry in a task has given up on comes out in a group, and is not tried again for that."""
    calls = []

    @waitkit.retry_backoff(on=OSError, attempts=3, base=0)
    async def inner():
        calls.append(1)
        raise OSError("down")

    @waitkit.retry_backoff(on=ExceptionGroup, attempts=3, base=0)
    async def outer():
        async with asyncio.TaskGroup() as group:
            group.create_task(inner())

    with pytest.raises(ExceptionGroup):
        asyncio.run(outer())
    assert len(calls) == 3


@pytest.mark.parametrize("nested", ["no", 1, None])
def test_nested_is_a_bool(nested):
    """What is neither True nor False is refused."""
    with pytest.raises(TypeError, match=f"nested={nested!r} is neither True nor False"):
        waitkit.retry_backoff(on=OSError, nested=nested)
