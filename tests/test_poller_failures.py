"""What counts as a failure of a poller, what does not, and what is told of it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading

import pytest
from support import LIMIT, Running, until

from waitkit import Event, PollRecord, after, polling, polls_every, wait_for, wait_for_async
from waitkit.conditions.condition import Condition, as_condition
from waitkit.engine.clock import now
from waitkit.waits.watching import Context, Watch

MS = 1_000_000


def nothing() -> None:
    """A job with nothing to do."""


def nobody_knows() -> bool:
    """A condition that cannot be looked at."""
    raise KeyError("broken condition")


# Runs that were cancelled.


class FailsThenWaits:
    """A job that fails three times, and then waits for what never comes."""

    def __init__(self) -> None:
        self.runs = 0
        self.waits = threading.Event()
        self.never = Event("what never comes")

    def fails(self) -> bool:
        self.runs += 1
        if self.runs <= 3:
            return True
        self.waits.set()
        return False

    def __call__(self) -> None:
        if self.fails():
            raise OSError(f"run {self.runs}")
        wait_for(self.never, None)

    async def in_a_loop(self) -> None:
        if self.fails():
            raise OSError(f"run {self.runs}")
        await wait_for_async(self.never, None)


def assert_still_ill(poller, caplog) -> None:
    """The three failures are what is known of it; nobody has said that it is well again."""
    status = poller.status()
    assert (status.runs, status.failures, status.failed_runs) == (4, 3, 3)
    assert str(status.last_error) == "run 3"
    assert not [record for record in caplog.records if record.levelname == "INFO"]
    assert poller.error is None


def test_a_cancelled_run_is_no_success(caplog):
    """A run that stop(cancel=True) has ended is neither a failure nor a recovery."""
    job = FailsThenWaits()
    with caplog.at_level(logging.INFO, "waitkit.polls"):
        poller = polling(job, "1us").start()
        until(job.waits)
        poller.stop(cancel=True)
    assert_still_ill(poller, caplog)


def test_a_cancelled_coroutine_is_no_success(caplog):
    """The same of a coroutine, which is cancelled by stop_async(cancel=True)."""
    job = FailsThenWaits()

    async def main():
        poller = polling(job.in_a_loop, "1us").start()
        await wait_for_async(job.waits, LIMIT)
        await poller.stop_async(cancel=True)
        return poller

    with caplog.at_level(logging.INFO, "waitkit.polls"):
        poller = asyncio.run(main())
    assert_still_ill(poller, caplog)


# Cancellations by others.


def test_awaiting_what_others_have_cancelled_is_a_failure():
    """A run that awaits a cancelled task has failed; the poller goes on, at its error interval."""
    told = []

    async def job() -> None:
        if len(told) < 2:
            task = asyncio.ensure_future(asyncio.Future())
            task.cancel()
            await task

    async def main() -> None:
        poller = polling(job, "1h", error_interval="1ms", on_error=told.append).start()
        await poller.has_run(3)
        assert (poller.status().failed_runs, poller.status().failures) == (2, 0)
        await poller.stop_async()

    asyncio.run(main())
    assert [(type(record.error), record.failures) for record in told] == [
        (asyncio.CancelledError, 1),
        (asyncio.CancelledError, 2),
    ]


def test_the_cancellation_of_its_own_task_ends_it():
    """Where the task of a run itself is cancelled, the poller ends; stop_on is not asked."""
    tasks = []

    async def job() -> None:
        tasks.append(asyncio.current_task())
        await asyncio.Future()

    async def main() -> None:
        poller = polling(job, "1ms", stop_on=lambda _: pytest.fail("asked")).start()
        await wait_for_async(lambda: tasks)
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await poller.join_async(LIMIT)
        assert poller.runs == 1

    asyncio.run(main())
    assert tasks[0].cancelled()


def test_a_task_that_is_cancelled_before_it_begins():
    """A run whose task is cancelled before its first step ends the poller, too."""
    ran = []

    async def job() -> None:
        ran.append(1)

    async def main() -> None:
        before = asyncio.all_tasks()
        poller = polling(job, "1ms").start()
        asyncio.get_running_loop().call_soon(lambda: [task.cancel() for task in asyncio.all_tasks() - before])
        with pytest.raises(asyncio.CancelledError):
            await poller.join_async(LIMIT)

    asyncio.run(main())
    assert ran == []


@pytest.mark.parametrize("kind", [concurrent.futures.CancelledError, asyncio.CancelledError])
def test_a_cancelled_future_in_a_plain_function_is_a_failure(kind):
    """What a plain function hears of the cancellation of others does not end its poller."""

    def job() -> None:
        raise kind

    status = polling(job, "1us", max_runs=3).start().join(LIMIT)
    assert (status.runs, status.failed_runs) == (3, 3)


# Coroutines that nobody awaits.


async def coroutine() -> None:
    """What has to be awaited."""


async def coroutine_of_a_coroutine() -> object:
    """What has to be awaited twice."""
    return coroutine()


def test_a_coroutine_that_nobody_awaits_is_a_failure():
    """A plain function that returns a coroutine has done nothing: a TypeError says what to poll, and nothing is warned of."""
    told = []
    polling(lambda: coroutine(), "1us", max_runs=2, on_error=told.append).start().join(LIMIT)
    assert [type(record.error) for record in told] == [TypeError] * 2
    assert "lambda: coroutine() has returned a coroutine" in str(told[0].error)
    assert "give the coroutine function itself" in str(told[0].error)


def test_a_coroutine_that_a_coroutine_returns():
    """The same of a coroutine function."""
    told = []

    async def main() -> None:
        await polling(coroutine_of_a_coroutine, "1us", max_runs=1, on_error=told.append).start().join_async(LIMIT)

    asyncio.run(main())
    assert "coroutine_of_a_coroutine() has returned a coroutine" in str(told[0].error)


# Conditions that raise.


@pytest.mark.parametrize("option", ["trigger", "until"])
def test_a_condition_that_raises_is_told_as_what_it_is(virtual, caplog, option):
    """No run has failed: the record and the log name the condition, and say when it is looked at again, which is true."""
    told: list[tuple[int, PollRecord]] = []
    looks = []

    def condition() -> bool:
        looks.append((now() - began) // MS)
        return nobody_knows()

    began = now()
    words = f"{option} ({as_condition(condition).what})"
    options = {option: condition, "on_error": lambda record: told.append(record)}
    with caplog.at_level(logging.DEBUG, "waitkit.polls"):
        with polling(nothing, "1h", first_delay="1h", **options) as poller:
            wait_for(after("600ms"), None)
    assert looks == [0, 250, 500]
    assert [tuple(record)[1:] for record in told] == [
        (0, 0.0, record.error, failures, 0.25, "", words) for failures, record in enumerate(told, 1)
    ]
    assert (poller.runs, poller.status().failed_runs, poller.status().failures) == (0, 0, 0)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        (level, f"{poller.name}: its {words} could not be looked at ({failures} in a row), again within 0.25 s")
        for failures, level in enumerate(["ERROR", "DEBUG", "DEBUG"], 1)
    ]


def test_a_condition_that_can_be_looked_at_again(virtual):
    """Failures of a condition are counted in a row; those of runs are counted by themselves."""
    told = []
    answers = [KeyError, KeyError, False, KeyError, True]

    def condition() -> bool:
        answer = answers.pop(0) if answers else False
        if not isinstance(answer, bool):
            raise answer
        return answer

    def job() -> None:
        raise OSError

    options = {"trigger": condition, "on_error": told.append}
    with polling(job, "1h", first_delay="1h", **options) as poller:
        wait_for(poller.has_run(1), None)
    assert [(type(record.error), record.run, record.failures) for record in told] == [
        (KeyError, 0, 1),
        (KeyError, 0, 2),
        (KeyError, 0, 1),
        (OSError, 1, 1),
    ]


@pytest.mark.parametrize("broken", ["trigger", "until"])
def test_a_condition_that_raises_keeps_no_other_from_being_heard(broken):
    """Beside a condition that raises an event triggers, and is not taken in vain."""
    event = threading.Event()
    options = {"trigger": (event, nobody_knows)} if broken == "trigger" else {"trigger": event, "until": nobody_knows}
    with polling(nothing, "1h", first_delay="1h", **options) as poller:
        for number in range(1, 4):
            event.set()
            until(poller.has_run(number))
    assert not event.is_set()


# What is refused.


def test_two_threads_start_one_poller():
    """Of two threads that start a poller at the same time, one starts it, and the other gets the error."""
    both = threading.Barrier(2)

    class Slow(Condition[bool]):
        what = "nothing"

        def watch(self, context: Context) -> Watch:
            both.wait(LIMIT)  # both have been found to be the first
            return Event().watch(context)

    ran = []
    poller = polling(lambda: ran.append(1), "1h", trigger=Slow())
    errors = []

    def start() -> None:
        try:
            poller.start()
        except RuntimeError as error:
            errors.append(str(error))

    for thread in [Running(start), Running(start)]:
        thread.result()
    assert errors == [f"{poller} was started before: make another one to start again"]
    until(poller.has_run(1))
    poller.stop()
    assert len(ran) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda: polls_every("1s", bogus=1),
            r"^polls_every\(\) takes no bogus=; its options are error_interval=, .*=$",
        ),
        (
            lambda: polling(nothing, "1s", bogus=1),
            r"^polling\(\) takes no bogus=; its options are error_interval=, .*=$",
        ),
        (lambda: polling("1s", nothing), r"^polling\(\) takes a function and an interval, .*: '1s' cannot be called$"),
        (lambda: polling(Event, "1s"), r"^polling\(\) takes a function and an interval, .*: Event is a class"),
    ],
)
def test_what_was_called_is_named(wrong, message):
    """Errors of the options name the function that the user has called, and what it takes."""
    with pytest.raises(TypeError, match=message):
        wrong()
