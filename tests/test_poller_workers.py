"""Pollers while every worker is busy: what does not run is stopped at once, and what hangs is told."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from typing import Self

import pytest
from support import LIMIT, Running, until

from waitkit import Event, PollRecord, Value, after, polling, stop_pollers_on, virtual_clock, wait_for
from waitkit.engine.background import CannotStart
from waitkit.engine.clock import now
from waitkit.engine.workers import Workers, use_workers


@pytest.fixture
def one_worker() -> Iterator[None]:
    """A process with one worker instead of 64, so that one run keeps all of them busy."""
    before = use_workers(Workers(most=1))
    yield
    use_workers(*before)


class Hanging:
    """A poller whose run holds the only worker, for the length of a block."""

    def __init__(self, **options: object) -> None:
        self._begun, self._gate = threading.Event(), threading.Event()
        self.poller = polling(self._run, "1h", **options)

    def _run(self) -> None:
        self._begun.set()
        self._gate.wait(4 * LIMIT)

    def __enter__(self) -> Self:
        self.poller.start()
        until(self._begun)
        return self

    def __exit__(self, *_: object) -> None:
        self._gate.set()
        self.poller.stop()


def test_stop_waits_for_no_worker(one_worker):
    """A poller that is due, but has found no free worker, stops at once, and never runs."""
    with Hanging():
        late = polling(lambda: None, "1us").start()
        late.trigger()
        Running(late.stop).result()
        assert (late.state, late.runs) == ("stopped", 0)
        assert late._machine.ended
    polling(lambda: None, "1us", max_runs=1).start().join(LIMIT)  # the worker is free, and has come by what was queued
    assert late.runs == 0


def test_stop_between_two_runs_waits_for_no_worker(one_worker):
    """Likewise one that has run before."""
    late = polling(lambda: None, "1h").start()
    until(lambda: late.runs == 1 and late.state == "waiting")
    with Hanging():
        late.trigger()
        Running(late.stop).result()
    assert (late.state, late.runs) == ("stopped", 1)


def test_a_stop_by_a_signal_waits_for_no_worker(one_worker):
    """After SIGTERM join() returns for each poller of which nothing runs."""
    before = signal.getsignal(signal.SIGUSR1)
    stop_pollers_on(signal.SIGUSR1)
    with Hanging() as hanging:
        resting = polling(lambda: None, "1h", first_delay="1h").start()
        due = polling(lambda: None, "1h").start()
        joins = [Running(poller.join) for poller in (resting, due)]
        until(lambda: all(len(poller._machine.changed) > 0 for poller in (resting, due)), "both to be waited for")
        os.kill(os.getpid(), signal.SIGUSR1)
        assert [joining.result().runs for joining in joins] == [0, 0]
        assert hanging.poller.state == "stopping"
    assert signal.getsignal(signal.SIGUSR1) == before


def test_stop_before_the_loop_has_begun():
    """In an event loop a poller whose first step has not begun is stopped at once, by stop() too."""

    async def job() -> None: ...

    async def main() -> None:
        poller = polling(job, "1h").start()
        poller.stop()
        assert (poller.state, poller.runs) == ("stopped", 0)

    asyncio.run(main())


def test_hangs_are_told_where_everything_hangs():
    """With all workers in runs that hang, each of them is told, at the very instant."""
    with virtual_clock():
        before = use_workers(Workers(most=2))
        try:
            gate, told, began = Event(), [], now()

            def on_hang(record: PollRecord) -> None:
                told.append((now() - began, record.run))

            hanging = [
                polling(lambda: wait_for(gate, None), "1h", hang_after=limit, on_hang=on_hang).start()
                for limit in ("50ms", "70ms")
            ]
            wait_for(after("1s"), None)
            assert told == [(50_000_000, 1), (70_000_000, 1)]
            gate.set()
            for poller in hanging:
                poller.stop()
        finally:
            use_workers(*before)


def refuse(*_: object) -> None:
    """No thread is to be had."""
    raise CannotStart("no more threads")


def test_a_hang_without_a_thread_is_told_by_a_worker(monkeypatch):
    """Where no thread can be started, a worker tells of a hang, as soon as one is free."""
    monkeypatch.setattr("waitkit.polls.hangs.start_thread", refuse)
    told = Value(0)
    with Hanging(hang_after="1ms", on_hang=lambda record: told.set(record.run)):
        until(told.equals(1))


def test_a_hang_that_nobody_can_tell_does_no_harm(monkeypatch):
    """Where there is neither thread nor worker, nothing is told, and timers go on."""
    asked = threading.Event()
    monkeypatch.setattr("waitkit.polls.hangs.start_thread", refuse)
    monkeypatch.setattr("waitkit.polls.hangs.run_in_worker", lambda _: (asked.set(), refuse()))
    with Hanging(hang_after="1ms"):
        until(asked)
        assert polling(lambda: None, "1ms", max_runs=3).start().join(LIMIT).runs == 3


def test_no_timer_for_a_hang(monkeypatch):
    """Where no timer is to be had, as the interpreter goes down, the run is made all the same."""
    monkeypatch.setattr("waitkit.polls.hangs.call_at", refuse)
    assert polling(lambda: None, "1ms", hang_after="1h", max_runs=1).start().join(LIMIT).failed_runs == 0
