"""Runs so short that the thread of the timers makes them itself: they end, stop and go wrong as those of the workers do."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest
from support import LIMIT, Running, until

from waitkit import Poller, WaitTimeout, after, polling, wait_for
from waitkit.engine import timers
from waitkit.polls.history import History


class Job:
    """Short runs, until it is told to do something else in one of them."""

    def __init__(self, then: Callable[[], object], **options: object) -> None:
        self.threads: list[str] = []
        self._then = then
        self._now = False
        self.poller: Poller = polling(self._run, "1ms", **options)

    def _run(self) -> None:
        self.threads.append(threading.current_thread().name)
        if self._now:
            self._now = False
            self._then()

    def start(self) -> None:
        """Start it, and wait until a run was made in the thread of the timers."""
        self.poller.start()
        until(lambda: "waitkit-timers" in self.threads[-1:])

    def then(self) -> None:
        """Do what it was made for, in a run that the thread of the timers makes."""
        self.start()
        self._now = True


def test_short_runs_are_made_where_the_timers_are():
    """The first run, of which nobody knows how long it takes, is a worker's; those that follow are not."""
    job = Job(lambda: None)
    job.start()
    assert job.threads[0] == "waitkit-worker"
    job.poller.stop()


def test_the_first_that_takes_long_holds_up_nobody():
    """A run that takes long, though the one before did not, lets the others go on; from then on it is the workers'."""
    gate = threading.Event()
    slow, other = Job(lambda: gate.wait(LIMIT)), Job(lambda: None)
    other.start()
    slow.then()
    until(lambda: slow.poller.state == "running" and timers.current_timers()._out == 1)
    made = other.poller.runs
    wait_for(other.poller.has_run(made + 20), LIMIT)
    assert slow.poller.state == "running"
    with pytest.raises(WaitTimeout, match="goes on since"):
        slow.poller.stop(timeout=0)
    gate.set()
    slow.poller.stop()
    other.poller.stop()
    until(lambda: timers.current_timers()._out == 0)


def test_runs_that_take_long_are_left_to_the_workers():
    """After a long run the next is a worker's."""
    threads: list[str] = []
    poller = polling(lambda: (threads.append(threading.current_thread().name), wait_for(after("1ms"))), "1ms")
    poller.start()
    wait_for(poller.has_run(5), LIMIT)
    poller.stop()
    assert set(threads) == {"waitkit-worker"}


def test_it_stops_itself():
    """A run that stops its own poller is the last."""
    job = Job(lambda: job.poller.stop())
    job.then()
    assert job.poller.join(LIMIT).state == "stopped"
    runs = len(job.threads)
    assert job.poller.runs == runs


def test_stop_waits_for_a_run_in_progress():
    """stop() from elsewhere returns when the run has ended."""
    gate, ended = threading.Event(), []
    job = Job(lambda: (gate.wait(LIMIT), ended.append(True)))
    job.then()
    until(lambda: job.poller.state == "running" and timers.current_timers()._out == 1)
    stopping = Running(job.poller.stop)
    until(lambda: job.poller.state == "stopping")
    assert not ended
    gate.set()
    stopping.result()
    assert ended == [True]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_exit_ends_the_poller_alone(error: type[BaseException]):
    """What is no failure of a run ends its poller, and neither the timers nor other pollers."""

    def leaves() -> None:
        raise error

    job, other = Job(leaves), Job(lambda: None)
    other.start()
    job.then()
    with pytest.raises(error):
        job.poller.join(LIMIT)
    wait_for(other.poller.has_run(other.poller.runs + 3), LIMIT)
    other.poller.stop()


def test_a_trigger_in_the_run_is_another_run():
    """trigger() from inside of a run has one more run follow."""
    job = Job(lambda: job.poller.trigger())
    job.then()
    wait_for(job.poller.has_run(job.poller.runs + 3), LIMIT)
    job.poller.stop()


def test_a_run_that_forks():
    """The child of a run that forks runs nothing of the parent's pollers; the parent goes on."""
    reader, writer = os.pipe()
    child: list[int] = []

    def forks() -> None:
        child.append(os.fork())
        if child == [0]:
            mine = threading.current_thread()
            job.threads.clear()
            threading.Thread(
                target=lambda: (mine.join(), os.write(writer, b"%d" % len(job.threads)), os._exit(0))
            ).start()

    job = Job(forks)
    job.then()
    until(lambda: child)
    os.close(writer)
    assert os.waitpid(child[0], 0)[1] == 0
    assert os.read(reader, 9) == b"0"
    os.close(reader)
    wait_for(job.poller.has_run(job.poller.runs + 3), LIMIT)
    job.poller.stop()


def test_hooks_count() -> None:
    """A run is short only together with what is called after it: that holds up the timers as well."""
    history = History()
    assert not history.was_short
    for with_hooks, short in ((20_000, True), (1_000_000, False), (20_000, True)):
        history.begun = 0
        history.end(10_000, None)
        history.over(with_hooks)
        assert history.was_short is short
    assert history.duration_in_seconds == 10e-6
    assert history.runs == 3
