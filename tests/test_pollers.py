"""Pollers: when they run, how they stop, what errors do to them, what they tell."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest
from support import LIMIT, Running, foreign_threads, until

from waitkit import (
    Backoff,
    Event,
    Value,
    WaitFailed,
    WaitTimeout,
    after,
    fail_after,
    polling,
    polls_every,
    wait_for,
)
from waitkit.engine.clock import now


class Job:
    """A function that blocks in each run until it is let through."""

    def __init__(self) -> None:
        self.begun = Value(0)
        self.gate = threading.Semaphore(0)

    def __call__(self) -> None:
        self.begun.set(self.begun.get() + 1)
        assert self.gate.acquire(timeout=2 * LIMIT)

    def in_run(self, number: int) -> None:
        """Wait until it is in its so-manieth run."""
        until(self.begun.satisfies(lambda begun: begun >= number))


def own_threads() -> int:
    """How many threads waitkit has."""
    return sum(thread.name.startswith("waitkit-") for thread in threading.enumerate())


def nothing() -> None:
    """A job with nothing to do."""


def test_runs_again_and_again():
    """A poller runs its function at once, then again and again, until the block is left; no run follows."""
    ran = []
    with polling(lambda: ran.append(1), "1ms") as poller:
        until(poller.has_run(5))
    assert len(ran) == poller.runs >= 5
    assert poller.state == "stopped"


def test_the_first_delay():
    """With a first delay no run begins before it is over."""
    with polling(nothing, "1h", first_delay="1h") as poller:
        assert poller.state == "waiting"
    assert poller.runs == 0


def test_runs_never_overlap():
    """However short the interval, and however often it is triggered, two runs never overlap."""
    inside, most = [], []

    def job() -> None:
        inside.append(1)
        most.append(len(inside))
        inside.pop()

    with polling(job, "1us") as poller:
        for _ in range(2_000):
            poller.trigger()
        until(poller.has_run(2_000))
    assert set(most) == {1}


def test_rests_without_a_thread():
    """A hundred pollers that wait take no thread of their own."""
    before, ours = len(foreign_threads()), own_threads()
    pollers = [polling(nothing, "1h").start() for _ in range(100)]
    for poller in pollers:
        until(poller.has_run(1))
    assert len(foreign_threads()) == before
    assert own_threads() - ours < 66
    for poller in pollers:
        poller.stop()


def test_a_slow_one_does_not_delay_the_others():
    """While runs of one poller block, others run."""
    slow = Job()
    with polling(slow, "1ms") as blocked, polling(nothing, "1ms") as quick:
        slow.in_run(1)
        until(quick.has_run(10))
        assert blocked.state == "running"
        slow.gate.release(1_000)


# How they stop.


def test_stop_while_waiting_is_immediate():
    """A poller whose next run is an hour away stops without waiting for anything."""
    poller = polling(nothing, "1h").start()
    until(poller.has_run(1))
    poller.stop(timeout=0)
    assert poller.state == "stopped"
    poller.stop()


def test_stop_waits_for_the_run_in_progress():
    """stop() returns when the run in progress has ended, and none follows it."""
    job = Job()
    poller = polling(job, "1us").start()
    job.in_run(1)
    stopping = Running(poller.stop)
    until(lambda: poller.state == "stopping")
    assert stopping.thread.is_alive()
    job.gate.release(10)
    stopping.result()
    assert (poller.state, poller.runs, job.begun.get()) == ("stopped", 1, 1)


def test_stop_names_what_still_runs():
    """A stop() that times out says since when the run goes on, and in which line."""
    job = Job()
    poller = polling(job, "1s").start()
    job.in_run(1)
    with pytest.raises(WaitTimeout, match=r"run 1 goes on since .* s at .*test_pollers.py:\d+ in __call__"):
        poller.stop(timeout=0)
    assert poller.state == "stopping"
    job.gate.release()
    poller.stop()


def test_stop_can_cancel_the_run():
    """stop(cancel=True) ends the waits of the run in progress, which counts as no failure."""
    waits = threading.Event()
    never = Event("what never comes")

    def job() -> None:
        waits.set()
        wait_for(never, None)

    poller = polling(job, "1h").start()
    until(waits)
    poller.stop(cancel=True)
    assert poller.status().failed_runs == 0
    assert poller.error is None


def test_a_block_left_by_an_exception_cancels_the_run():
    """An exception in the block is not held up by a run that waits."""
    waits = threading.Event()

    def job() -> None:
        waits.set()
        wait_for(Event(), None)

    with pytest.raises(ZeroDivisionError), polling(job, "1h"):
        until(waits)
        1 / 0


def test_stop_from_inside():
    """A run that stops its own poller is the last one, and does not wait for itself."""
    poller = polling(lambda: poller.stop(), "1us")
    poller.start().join(LIMIT)
    assert poller.runs == 1


def test_stop_before_the_start():
    """Stopping what was never started does nothing."""
    poller = polling(nothing, 1)
    poller.stop()
    assert poller.state == "new"


def test_a_poller_is_started_once():
    """What was started is not started again."""
    poller = polling(nothing, 1).start()
    poller.stop()
    with pytest.raises(RuntimeError, match="was started before"):
        poller.start()
    with pytest.raises(RuntimeError, match="there is nothing to trigger"):
        poller.trigger()
    with pytest.raises(RuntimeError, match="was not started"):
        polling(nothing, 1).join()


def test_max_runs():
    """A poller with max_runs ends after so many."""
    poller = polling(nothing, "1us", max_runs=7).start()
    assert poller.join(LIMIT).runs == 7


def test_until():
    """A poller ends as soon as its condition holds, though the next run is an hour away."""
    enough = Event()
    poller = polling(nothing, "1h", until=enough).start()
    until(poller.has_run(1))
    enough.set()
    assert poller.join(LIMIT).runs == 1


def test_until_a_time(virtual):
    """A poller can end after a time: what is due at that very instant is not run any more."""
    began = now()
    assert polling(nothing, "1ms", until=after("5ms")).start().join(LIMIT).runs == 5
    assert now() - began == 5_000_000


def test_until_that_holds_already():
    """Where the condition holds at the start, nothing is run."""
    done = Event()
    done.set()
    assert polling(nothing, 1, until=done).start().join(LIMIT).runs == 0


def test_waiting_for_runs_that_never_come():
    """Waiting for more runs than there will be is ended by unless=poller.stopped."""
    poller = polling(nothing, "1us", max_runs=2).start()
    with pytest.raises(WaitFailed):
        wait_for(poller.has_run(3), LIMIT, unless=poller.stopped)


def test_the_scopes_around_the_start_do_not_reach_the_runs(virtual):
    """A run does not obey the deadline of the block that started the poller."""
    ended = []

    def job() -> None:
        wait_for(gate, None)
        ended.append(1)

    gate = Event()
    with fail_after("20ms"):
        poller = polling(job, "1h").start()
        until(lambda: poller.state == "running")
    wait_for(after("25ms"))
    gate.set()
    until(poller.has_run(1))
    poller.stop()
    assert ended == [1]


# What errors do.


def test_errors_do_not_end_it(caplog):
    """A run that fails is counted, told and logged with its traceback once per streak; the poller goes on."""
    told = []
    left = [3, 0, 2]

    def job() -> None:
        if left[0]:
            left[0] -= 1
            raise ValueError("broken")
        left.pop(0)

    with caplog.at_level(logging.INFO, "waitkit.polls"):
        poller = polling(job, "1us", max_runs=8, on_error=told.append).start()
        status = poller.join(LIMIT)
    assert (status.runs, status.failed_runs, status.failures) == (8, 5, 0)
    assert [(record.run, record.failures) for record in told] == [(1, 1), (2, 2), (3, 3), (6, 1), (7, 2)]
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 2
    assert all(record.exc_info for record in errors)
    assert [record.message for record in caplog.records if record.levelname == "INFO"] == [
        f"{poller.name}: well again after 3 failed runs",
        f"{poller.name}: well again after 2 failed runs",
    ]


def test_the_error_interval():
    """After a failure the next run comes after the error interval, after a success after the interval."""
    told = []

    def job() -> None:
        if not told:
            raise ValueError

    with polling(job, "1h", error_interval="1ms", on_error=told.append) as poller:
        until(poller.has_run(2))
        due = poller.status().next_due
    assert told[0].next_in <= 0.001
    assert due is not None
    assert due - datetime.now(UTC) > timedelta(minutes=59)


def test_error_intervals_that_grow():
    """With a Backoff the announced delays grow with the failures in a row."""
    told = []
    backoff = Backoff(base="1ms", factor=2, max_delay="8ms", jitter="none")

    def job() -> None:
        raise ValueError

    polling(job, "1h", error_interval=backoff, on_error=told.append, max_runs=6).start().join(LIMIT)
    assert [round(record.next_in * 1_000) for record in told] == [1, 2, 4, 8, 8, 8]


@pytest.mark.parametrize("stop_on", [ValueError, (KeyError, ValueError), lambda error: "fatal" in str(error)])
def test_errors_that_end_it(stop_on):
    """An error that stop_on names ends the poller; join() and the end of the block raise the error itself."""

    def job() -> None:
        raise ValueError("fatal")

    with pytest.raises(ValueError, match="fatal") as caught, polling(job, "1us", stop_on=stop_on) as poller:
        until(poller.stopped)
    assert poller.error is caught.value
    with pytest.raises(ValueError, match="fatal"):
        poller.join()
    frames = [entry.path.name for entry in caught.traceback]
    assert frames.count("test_pollers.py") == 2


def test_an_exit_ends_it_and_is_not_lost():
    """SystemExit in a run ends the poller, and join() raises it."""

    def job() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        polling(job, 1).start().join(LIMIT)


def test_a_stop_on_that_raises_ends_nothing(caplog):
    """A stop_on function that raises is logged, and the poller goes on."""

    def judge(error: Exception) -> bool:
        raise KeyError("judge")

    def job() -> None:
        raise ValueError

    assert polling(job, "1us", stop_on=judge, max_runs=3).start().join(LIMIT).runs == 3
    assert any("stop_on of the poller" in record.message for record in caplog.records)


def test_a_hook_that_raises_changes_nothing(caplog):
    """A hook that raises is logged; the poller goes on."""

    def job() -> None:
        raise ValueError

    def hook(record: object) -> None:
        raise KeyError

    assert polling(job, "1us", on_error=hook, max_runs=3).start().join(LIMIT).runs == 3
    assert sum("a hook of" in record.message for record in caplog.records) == 3


def test_a_condition_that_raises_ends_nothing():
    """A trigger that raises is told as an error is, and the poller goes on."""
    told = []

    def broken() -> bool:
        raise KeyError("broken trigger")

    with polling(nothing, "1ms", trigger=broken, on_error=told.append) as poller:
        until(poller.has_run(3))
    assert isinstance(told[0].error, KeyError)


# What takes too long.


def test_a_run_that_hangs_is_told():
    """A run that takes longer than hang_after is told once, with the line it is in; it is not interrupted."""
    told, job = [], Job()
    heard = threading.Event()

    def on_hang(record: object) -> None:
        told.append(record)
        heard.set()

    with polling(job, "1h", hang_after="50ms", on_hang=on_hang) as poller:
        until(heard)
        job.gate.release()
        until(poller.has_run(1))
    (record,) = told
    assert record.run == 1
    assert "test_pollers.py" in record.where
    assert record.where.endswith("in __call__")
    assert record.error is None


def test_a_run_in_time_is_not_told():
    """A run that ends in time is not told, and leaves no timer behind."""
    told = []
    polling(nothing, "1us", hang_after="1h", on_hang=told.append, max_runs=50).start().join(LIMIT)
    assert told == []


def test_an_own_thread():
    """Pollers with own_thread run even where all workers are busy."""
    jobs = [Job() for _ in range(64)]
    busy = [polling(job, "1h").start() for job in jobs]
    for job in jobs:
        job.in_run(1)
    assert polling(nothing, 1, own_thread=True, max_runs=1).start().join(LIMIT).runs == 1
    for job in jobs:
        job.gate.release()
    for poller in busy:
        poller.stop()


# What they tell.


def test_status():
    """The status says all there is to say, at every stage."""
    job = Job()
    poller = polling(job, "1h")
    assert poller.status()[:3] == (f"{poller.name}", "new", 0)
    assert poller.status().last_started is None
    poller.start()
    job.in_run(1)
    running = poller.status()
    assert (running.state, running.next_due) == ("running", None)
    job.gate.release()
    until(poller.has_run(1))
    waiting = until(lambda: (status := poller.status()).state == "waiting" and status)
    assert waiting.runs == 1
    assert waiting.last_duration > 0
    assert abs(datetime.now(UTC) - waiting.last_started) < timedelta(minutes=1)
    assert timedelta(minutes=59) < waiting.next_due - datetime.now(UTC) <= timedelta(hours=1)
    poller.stop()
    assert (poller.status().state, poller.status().next_due) == ("stopped", None)
    assert repr(poller).endswith("stopped, 1 runs>")


def test_fixed_rate_does_not_drift():
    """At a fixed rate runs are due on the grid of the first, whenever they really begin."""
    dues = []
    poller = polling(lambda: dues.append(poller._machine._course._tick.at), "1ms", timing="fixed_rate", max_runs=50)
    poller.start().join(LIMIT)
    assert {(due - dues[0]) % 1_000_000 for due in dues} == {0}


@pytest.mark.slow
def test_ten_thousand_pollers():
    """Ten thousand pollers run, and stop, on a few threads."""
    ran, ours = [], own_threads()
    pollers = [polling(lambda: ran.append(1), "1h", max_runs=2) for _ in range(10_000)]
    for poller in pollers:
        poller.start()
    for poller in pollers:
        until(poller.has_run(1))
    assert own_threads() - ours < 66
    for poller in pollers:
        poller.stop()
    assert len(ran) == 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_runs": 0}, "max_runs=0"),
        ({"max_runs": True}, "max_runs=True"),
        ({"on_error": 5}, "on_error=5"),
        ({"hang_after": 0}, "hang_after=0"),
        ({"on_hang": print}, "without hang_after"),
        ({"hang_after": 1, "on_hang": 5}, "on_hang=5"),
        ({"own_thread": "yes"}, "own_thread='yes'"),
        ({"stop_on": KeyboardInterrupt}, "stop_on="),
        ({"stop_on": "ValueError"}, "stop_on='ValueError'"),
        ({"stop_on": ()}, r"stop_on=\(\)"),
        ({"trigger": 5}, "trigger=5 is not a condition"),
        ({"trigger": (Event(), None)}, "None is not a condition"),
        ({"until": "later"}, "until='later' is not a condition"),
        ({"stop_at_exit": -1}, "stop_at_exit=-1"),
        ({"interval": 0}, "interval=0"),
        ({"missed": "delay"}, "fixed_rate"),
    ],
)
def test_bad_options(options, message):
    """A bad option is refused when it is written, with its value: by the decorator and by the block form."""
    options = {"interval": 1, **options}
    with pytest.raises((TypeError, ValueError), match=message):
        polls_every(**options)
    with pytest.raises((TypeError, ValueError), match=message):
        polling(nothing, **options)


def test_unknown_options_are_refused():
    """An option that does not exist is refused."""
    with pytest.raises(TypeError, match="intervall"):
        polls_every(1, intervall=2)


def test_has_run_wants_a_number():
    """has_run() refuses what is no number of runs."""
    with pytest.raises(ValueError, match="times=0"):
        polling(nothing, 1).has_run(0)
