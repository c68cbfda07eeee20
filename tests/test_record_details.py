"""What records tell of a wait beyond its end: overshoot, thread, task, and what was seen over time."""

from __future__ import annotations

import ast
import asyncio
import pickle
import threading

import pytest

from waitkit import (
    Event,
    RateLimiter,
    Try,
    WaitTimeout,
    after,
    retry_backoff,
    subscribe,
    wait_for,
    wait_for_async,
)
from waitkit.conditions import sources
from waitkit.ground import records as records_module
from waitkit.ground.durations import MILLISECOND
from waitkit.ground.records import note_tries, subscribers


@pytest.fixture
def heard():
    """All records of the waits of a test, with tries."""
    records = []
    with subscribe(records.append, tries=True):
        yield records


def test_tries_tell_what_was_seen(heard, virtual):
    """Equal looks in a row are one try; the last one, which held, is none. The error has them too."""
    answers = iter([None, None, 0, 0, 0, "", 1])
    wait_for(lambda: next(answers), message="one")
    [record] = heard
    assert [(one.looks, one.seen) for one in record.tries] == [(2, "None"), (3, "0"), (1, "''")]
    assert record.looks == 7
    assert record.start == record.tries[0].start <= record.tries[0].end < record.tries[1].start
    with pytest.raises(WaitTimeout) as caught:
        wait_for(lambda: 0, "1s")
    assert caught.value.facts.tries == heard[1].tries != ()
    assert pickle.loads(pickle.dumps(caught.value)).facts == caught.value.facts


def test_a_flutter_keeps_its_begin_and_end(heard, virtual):
    """Of thousands of changes the first 8 and the last 24 are kept."""
    numbers = iter(range(100_000))
    with pytest.raises(WaitTimeout):
        wait_for(lambda: Falsy(next(numbers)), "1m")
    [record] = heard
    assert record.looks > 100
    seen = [int(one.seen) for one in record.tries]
    assert seen == [*range(8), *range(record.looks - 24, record.looks)]


class Falsy:
    """Says a number, and is not true."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return str(self.number)


def test_overshoot_of_a_probed_wait_is_the_last_gap(heard, virtual):
    """A probed condition came true at some time after the last look that did not hold: that bounds the overshoot."""
    answers = iter([0] * 50 + [1])
    wait_for(lambda: next(answers))
    [record] = heard
    assert record.overshoot == record.end - record.tries[-1].end
    assert 0 < record.overshoot <= max(10**6, 0.06 * (record.end - record.start))


def test_overshoot_of_a_timeout_is_since_the_limit(heard, virtual):
    """A wait that timed out overshot by what it took beyond its limit."""

    def slow() -> None:
        virtual.advance(3)

    with pytest.raises(WaitTimeout):
        wait_for(slow, "1s")
    [record] = heard
    assert record.overshoot == record.end - record.start - 10**9 > 0


def test_overshoot_of_a_woken_wait_is_since_the_wakeup(heard):
    """A signalled condition tells when it changed: the overshoot is a small part of the wait."""
    event = Event()
    threading.Timer(0.2, event.set).start()
    wait_for(event)
    [record] = heard
    assert 0 < record.overshoot < (record.end - record.start) / 2


TIMES = {
    "a delay": lambda: wait_for(after("1h"), None),
    "a limiter's turn": lambda: _full_limiter().acquire(timeout=None),
    "a reservation": lambda: _full_limiter().reserve().wait(),
    "the first of several": lambda: wait_for(after("1h") | after("2h") | Event(), None),
    "the last of several": lambda: wait_for(after("1h") & after("2h"), None),
    "held for a while": lambda: wait_for((~Event()).held_for("1h"), None),
    "the delay of a retry": lambda: _fails_once(iter([0, 1])),
}


def _full_limiter():
    limiter = RateLimiter("1/h")
    limiter.acquire()
    return limiter


@retry_backoff(on=ZeroDivisionError, base="1h", max_delay="1h", jitter="none")
def _fails_once(answers):
    return 1 / next(answers)


@pytest.mark.parametrize("wait", TIMES.values(), ids=TIMES)
def test_overshoot_of_a_wait_for_time_is_since_its_instant(heard, virtual, wait):
    """What time alone brings about begins to hold at a known instant: in virtual time no such wait is late."""
    wait()
    assert heard[-1].elapsed >= 3600
    assert heard[-1].overshoot == 0


def test_overshoot_of_a_delay_in_real_time(heard):
    """In real time it is what the delay took too long."""
    wait_for(after("20ms"))
    [record] = heard
    assert record.overshoot == record.end - record.start - 20 * MILLISECOND > 0


def test_overshoot_of_what_is_looked_at_beside_a_delay(heard, virtual):
    """A callable may have come true at any time since the last look, whatever else is awaited with it."""
    answers = iter([0] * 50 + [1])
    wait_for((lambda: next(answers)) | after("1h"), None)
    [record] = heard
    assert record.overshoot == record.end - record.tries[-1].end > 0


def test_a_wait_that_held_at_once_overshot_nothing_known(heard):
    """Nobody can tell since when a condition holds that held at the first look."""
    wait_for(lambda: 1)
    assert (heard[0].overshoot, heard[0].tries) == (0, ())


def test_the_task_and_the_thread_are_told(heard):
    """A record names the task that waited, and its thread by number too; outside of tasks there is none."""

    async def named() -> None:
        task = asyncio.create_task(wait(), name="reader")
        await task

    async def wait() -> None:
        await wait_for_async(lambda: 1)

    asyncio.run(named())
    wait_for(lambda: 1)
    assert [record.task for record in heard] == ["reader", ""]
    assert {record.thread_id for record in heard} == {threading.get_ident()}


def test_without_a_wish_for_tries_nothing_is_seen_twice(monkeypatch):
    """Only a subscriber that asks for tries makes looks be noted; one that asks nothing else hears nothing."""
    monkeypatch.setattr(records_module, "_subscribers", ())  # our own pytest plugin asks for them
    reprs = []

    class Counting(Falsy):
        def __repr__(self) -> str:
            reprs.append(1)
            return "counting"

    records = []
    with subscribe(records.append), pytest.raises(WaitTimeout):
        wait_for(lambda: Counting(0), 0.02)
    assert records[0].looks > 2
    assert records[0].tries == ()
    assert len(reprs) <= 3
    notes = note_tries()
    with pytest.raises(WaitTimeout) as caught:
        wait_for(lambda: Counting(0), 0.02)
    assert len(reprs) >= caught.value.looks
    [one] = caught.value.facts.tries
    assert one == Try(one.start, one.end, caught.value.looks, "counting")
    notes.close()
    assert subscribers() == ()


def test_a_bad_wish_is_refused():
    """``tries`` is a bool."""
    with pytest.raises(TypeError, match="tries='yes' is neither True nor False"):
        subscribe(print, tries="yes")


@pytest.mark.parametrize(("failures", "words"), [(2, "lambda: 1 + 1 to be true"), (99, "test_no_wait_ends_by")])
def test_no_wait_ends_by_the_words_for_its_lambda(heard, monkeypatch, failures, words):
    """Where Python cannot parse (3.11 fails at times when other threads parse, too), it is tried again, or named otherwise."""
    really_parse, calls = ast.parse, []

    def parse(text: str, *args: object, **options: object) -> ast.Module:
        if args or options:
            return really_parse(text, *args, **options)  # pytest's, to show a failure
        calls.append(text)
        if len(calls) <= failures:
            raise SystemError("AST constructor recursion depth mismatch (before=51, after=47)")
        return really_parse(text)

    monkeypatch.setattr(ast, "parse", parse)
    sources._parsed.cache_clear()
    sources._lambda_source.cache_clear()
    assert wait_for(lambda: 1 + 1) == 2
    assert heard[0].what.startswith(words)
    assert len(calls) == 3
    sources._parsed.cache_clear()
    sources._lambda_source.cache_clear()
