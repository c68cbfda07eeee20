"""Records: what subscribers hear of waits, and that hearing does not disturb them."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import threading

import pytest
from support import Running

from waitkit import (
    CancelScope,
    Event,
    StoppedHolding,
    WaitFailed,
    WaitTimeout,
    consistently,
    log_long_waits,
    readable,
    subscribe,
    unix_socket_listening,
    wait_for,
    wait_for_async,
)
from waitkit.engine.clock import now


@pytest.fixture
def heard():
    """All records of the waits of a test."""
    records = []
    with subscribe(records.append):
        yield records


def test_each_way_to_end_has_its_outcome(heard):
    """A record says how its wait ended: held, timeout, failed, cancelled or error."""
    wait_for(lambda: 1)
    with pytest.raises(WaitTimeout):
        wait_for(lambda: 0, 0)
    with pytest.raises(WaitFailed):
        wait_for(lambda: 0, unless=lambda: 1)
    with pytest.raises(StoppedHolding):
        consistently(lambda: 0, "1s")
    with CancelScope() as scope:
        scope.cancel()
        wait_for(lambda: 1)
    with pytest.raises(ZeroDivisionError):
        wait_for(lambda: 1 / 0)
    with pytest.raises(KeyboardInterrupt):
        wait_for(_interrupts)
    assert [record.outcome for record in heard] == [
        "held", "timeout", "failed", "failed", "cancelled", "error", "error",
    ]  # fmt: skip


def _interrupts():
    raise KeyboardInterrupt


def test_a_record_has_the_facts(heard, virtual):
    """A record names condition, thread, limit, looks and caller, and its time is the clock's."""
    began = now()
    with pytest.raises(WaitTimeout) as caught:
        wait_for(lambda: None, "2s", message="the tide")
    [record] = heard
    assert (record.what, record.limit, record.last) == ("the tide", 2 * 10**9, "None")
    assert (record.start, record.end, record.elapsed) == (began, now(), 2.0)
    assert record.thread == threading.current_thread().name
    assert record.looks == caught.value.looks > 50
    assert record.caller == caught.value.facts.caller
    file, _, line = record.caller.rpartition(":")
    assert (os.path.basename(file), int(line)) == (os.path.basename(__file__), caught.traceback[0].lineno + 1)
    assert str(record) == f"the tide: 2 s of 2 s, {record.looks} looks, last: None"


def test_the_label_is_the_callers_line(heard):
    """The label is the line of the call, of a wait in a condition or in a coroutine too."""
    import inspect

    here = inspect.currentframe()
    line = here.f_lineno + 1
    wait_for(lambda: wait_for(lambda: 1))
    async_line = []

    async def main():
        async_line.append(inspect.currentframe().f_lineno + 1)
        await wait_for_async(lambda: 1)
        await Event.__invert__(Event())

    asyncio.run(main())
    expected = [line, line, async_line[0], async_line[0] + 1]
    assert [int(record.caller.rpartition(":")[2]) for record in heard] == expected
    assert {os.path.basename(record.caller.rpartition(":")[0]) for record in heard} == {os.path.basename(__file__)}


def test_the_label_of_a_wait_that_is_a_task(heard):
    """A wait handed to create_task() is labelled with the line that made it, not with asyncio's."""

    async def main():
        await asyncio.create_task(wait_for_async(lambda: 1))

    asyncio.run(main())
    assert "asyncio" not in heard[0].caller


def test_the_label_of_an_async_wait_that_looks_in_a_thread():
    """An async wait whose looks are made in another thread is labelled with its caller, not with the executor."""
    from waitkit import port_listening

    async def main():
        with pytest.raises(WaitTimeout) as caught:
            await wait_for_async(port_listening(1, "ip6-localhost"), 0)
        return caught.value.facts.caller

    assert os.path.basename(__file__) in asyncio.run(main())


def test_a_cancelled_task_is_cancelled(heard):
    """A wait whose task is cancelled is recorded as cancelled, not as an error of the condition."""

    async def main():
        task = asyncio.create_task(wait_for_async(Event()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert heard[0].outcome == "cancelled"


def test_progress_comes_at_growing_gaps(virtual):
    """Progress is reported when the wait has lasted 1, 2, 4, 8 ... times the first gap, as pending, before the end."""
    reports, ends = [], []
    with subscribe(ends.append, on_progress=reports.append, progress_after="1s"), pytest.raises(WaitTimeout):
        wait_for(Event("the flood"), "20s")
    assert [report.elapsed for report in reports] == [1, 2, 4, 8, 16]
    assert {report.outcome for report in reports} == {"pending"}
    assert [record.outcome for record in ends] == ["timeout"]


def test_who_listens_to_progress_makes_nobody_look(virtual):
    """A wait is looked at as often with a subscriber as without, for what is heard and for what is looked at."""

    def looks_of(condition):
        with pytest.raises(WaitTimeout) as caught:
            wait_for(condition, "20s")
        return caught.value.looks

    alone = looks_of(Event()), looks_of(lambda: False)
    reports = []
    with subscribe(on_progress=reports.append, progress_after="10ms", progress_growth=1.01):
        assert (looks_of(Event()), looks_of(lambda: False)) == alone
    assert len(reports) > 1_000
    assert alone[0] == 3


def test_progress_of_a_task_makes_it_not_look(virtual):
    """The same for a wait of a task: it reports, and looks no more often."""
    reports, event = [], Event()

    def third(record):
        reports.append(record)
        if len(reports) == 3:
            event.set()

    async def main():
        with subscribe(on_progress=third, progress_after="1ms", progress_growth=1.5):
            await wait_for_async(event, None)

    asyncio.run(main())
    assert [(report.elapsed, report.looks) for report in reports] == [(0.001, 2), (0.0015, 2), (0.00225, 2)]


def test_a_busy_look_delays_progress_and_does_not_pile_it_up(virtual):
    """A look that takes longer than several gaps is followed by one report, not by all that were missed."""
    reports = []
    with subscribe(on_progress=reports.append, progress_after="1s"), pytest.raises(WaitTimeout):
        wait_for(lambda: virtual.advance(10), "21s")
    assert [report.elapsed for report in reports] == [10, 20]


def test_each_subscriber_has_its_own_gaps(virtual):
    """Two subscribers are told at their own times."""
    slow, fast = [], []
    with (
        subscribe(on_progress=slow.append, progress_after="3s", progress_growth=3),
        subscribe(on_progress=fast.append, progress_after="1s", progress_growth=1.5),
        pytest.raises(WaitTimeout),
    ):
        wait_for(Event(), "10s")
    assert [record.elapsed for record in slow] == [3, 9]
    assert [record.elapsed for record in fast] == [1, 1.5, 2.25, 3.375, 5.0625, 7.59375]


def test_a_subscriber_that_raises_is_logged_and_ends_nothing(caplog, virtual):
    """What a subscriber raises goes to the log, and the wait and the other subscribers go on."""
    heard = []

    def bad(record):
        raise RuntimeError("no ears")

    with subscribe(bad, on_progress=bad, progress_after="1s"), subscribe(heard.append), pytest.raises(WaitTimeout):
        wait_for(Event(), "1500ms")
    assert [record.outcome for record in heard] == ["timeout"]
    assert [record.name for record in caplog.records] == ["waitkit", "waitkit"]
    assert "no ears" in caplog.text


def test_a_closed_subscription_hears_nothing():
    """After close(), which may be called twice, no record comes; a wait under way tells whom it began with."""
    heard = []
    subscription = subscribe(heard.append)
    wait_for(lambda: subscription.close() or True)
    assert len(heard) == 1
    subscription.close()
    wait_for(lambda: True)
    assert len(heard) == 1


def test_long_waits_are_logged(caplog, virtual):
    """A wait that takes long is logged as still waiting, with its limit, looks and line, and a short one is not."""
    with caplog.at_level(logging.INFO, "waitkit"), log_long_waits("5s"):
        wait_for(lambda: True)
        with pytest.raises(WaitTimeout):
            wait_for(Event("the bus"), "30s")
    assert [record.levelno for record in caplog.records] == [logging.INFO] * 3
    assert caplog.messages[0].startswith("still waiting for the bus to be set: 5 s of 30 s, 2 looks (")
    assert caplog.messages[0].endswith(")") and os.path.basename(__file__) in caplog.messages[0]
    assert ": 20 s of 30 s, " in caplog.messages[2]


def test_the_level_of_long_waits(caplog, virtual):
    """The level is the caller's choice."""
    with log_long_waits("1s", level=logging.ERROR), pytest.raises(WaitTimeout):
        wait_for(Event(), "1500ms")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_records_come_from_the_thread_that_waits(heard):
    """A subscriber is called in the waiting thread, which the record names."""
    named = []
    with subscribe(lambda record: named.append(threading.current_thread().name)):
        Running(wait_for, lambda: True).result()
    assert named == [heard[0].thread] != [threading.current_thread().name]


def test_a_message_function_is_not_called_for_a_wait_that_holds(heard):
    """A message function speaks only when the wait has failed; the record names the condition."""
    wait_for(Event("it") | (lambda: True), message=lambda value: pytest.fail("called"))
    assert heard[0].what.startswith("it to be set or ")


def test_an_infinite_growth_ends_no_wait(virtual):
    """A growth without end means one report, or is refused; it must not end the waits of others."""
    try:
        subscribe(on_progress=lambda record: None, progress_after="1s", progress_growth=float("inf"))
    except ValueError:
        return
    with pytest.raises(WaitTimeout):
        wait_for(Event(), "2s")


def test_a_look_that_raises_is_counted():
    """The record of a wait whose first look has raised tells of one look."""
    records = []
    with subscribe(records.append), pytest.raises(ZeroDivisionError):
        wait_for(lambda: 1 / 0)
    assert [(record.outcome, record.looks) for record in records] == [("error", 1)]


def test_subscribers_that_wait_are_not_told_of_it():
    """A subscriber that waits itself hears nothing of its own waits, so it is not called within itself for ever."""
    heard = []

    def hear(record):
        wait_for(lambda: True)
        heard.append(record.what)

    with subscribe(hear):
        wait_for(lambda: True, message="the first")
        wait_for(lambda: True, message="the second")
    assert heard == ["the first", "the second"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: log_long_waits(level="INFO"), "level='INFO' is not a number such as logging.INFO"),
        (lambda: subscribe(print, progress_growth="x"), "progress_growth='x' is not a number"),
        (lambda: wait_for(lambda: True, message=""), "message='' says nothing"),
        (lambda: Event(5), "name=5 is no text"),
        (lambda: CancelScope().cancel(5), "reason=5 is no text"),
        (lambda: wait_for(lambda *, name: True), r"needs arguments \(name=\)"),
        (lambda: wait_for(lambda: True, -4e-10), "-4e-10 is negative"),
        (lambda: unix_socket_listening(""), "path='' is empty"),
        (lambda: readable(io.StringIO()), "in memory alone"),
    ],
)
def test_bad_input(make, message):
    """What cannot be is refused when it is written, naming it."""
    with pytest.raises((TypeError, ValueError), match=message):
        make()
