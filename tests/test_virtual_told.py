"""What errors of virtual time tell: everyone's wait and stack; and how they reach a main thread that blocks."""

from __future__ import annotations

import asyncio
import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from plugin_runs import run_tests
from support import python

from waitkit import Event, VirtualClockError, VirtualDeadlock, after, virtual_clock, wait_for, wait_for_async
from waitkit.virtual.telling import describe_parked


def deadlock(block: Callable[[], object]) -> list[str]:
    """The lines of the error that *block* ends with."""
    with virtual_clock(), pytest.raises(VirtualDeadlock) as caught:
        block()
    return counted(str(caught.value))


def counted(text: str) -> list[str]:
    """Its lines about threads that take part: a worker of pytest-xdist has others, too."""
    return [line.strip() for line in text.partition("not counted")[0].strip().splitlines()]


def names(lines: list[str]) -> list[str]:
    """The functions of the lines of this file, and what is not a line of code."""
    return [line.rpartition(" in ")[2] if f"{__file__}:" in line else line for line in lines]


def outer(items: queue.Queue[int]) -> None:
    inner(items)


def inner(items: queue.Queue[int]) -> None:
    items.get()


def test_a_deadlock_tells_every_line_of_the_users():
    """Each thread's stack is told, the innermost line last, without what waits are made of."""

    def other() -> None:
        with pytest.raises(VirtualDeadlock):
            outer(queue.Queue())

    def block() -> None:
        thread = threading.Thread(target=other, name="other")
        thread.start()
        thread.join()

    assert names(deadlock(block))[1:] == [
        "thread 'MainThread': thread 'other' to end (Thread.join)",
        "test_a_deadlock_tells_every_line_of_the_users",
        "deadlock",
        "block",
        "thread 'other': a notify (threading.Condition.wait)",
        "other",
        "outer",
        "inner",
    ]


def test_a_deadlock_in_a_pool():
    """Who waits for a future is told with his own line, and so is its work."""

    def work() -> None:
        with pytest.raises(VirtualDeadlock):
            wait_for(Event("what never comes"), None)

    def block() -> None:
        with ThreadPoolExecutor(1, "pool") as pool:
            pool.submit(work).result()

    lines = names(deadlock(block))
    assert lines[2:] == [
        "test_a_deadlock_in_a_pool",
        "deadlock",
        "block",
        "thread 'pool_0': what never comes to be set",
        "work",
    ]


def test_a_deadlock_of_tasks():
    """A loop's tasks are told by name, with what each awaits and its lines."""

    async def on_asyncio() -> None:
        await asyncio.Event().wait()

    async def on_waitkit() -> None:
        await wait_for_async(Event("what never comes"), None)

    async def on_a_task(task: asyncio.Task[None]) -> None:
        await task

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(on_asyncio(), name="a")
            group.create_task(on_waitkit(), name="b")
            group.create_task(on_a_task(task), name="c")

    lines = names(deadlock(lambda: asyncio.run(main())))
    assert lines[lines.index("task 'a': asyncio's Event.wait()") :] == [
        "task 'a': asyncio's Event.wait()",
        "on_asyncio",
        "task 'b': what never comes to be set",
        "on_waitkit",
        "task 'c': the end of task 'a'",
        "on_a_task",
    ]
    assert "thread 'MainThread': an event loop, its next task" in lines
    assert any(line.endswith("asyncio's TaskGroup.__aexit__()") for line in lines)


def test_nothing_but_machinery():
    """Where no line is the user's, the last few of what is there are told, but not those of the clock."""
    with virtual_clock() as clock:
        thread = threading.Thread(target=wait_for, args=(after("1h"), None), name="other")
        thread.start()
        clock.block_until(1)
        told = describe_parked(clock._clock)
        thread.join()
    lines = counted(told)
    assert lines[0] == "thread 'other': 1 h to pass"
    assert 1 <= len(lines) - 1 <= 3
    assert "virtual" not in "".join(lines[1:])


def test_a_deep_stack_is_cut():
    """Of a deep stack the innermost lines are told."""

    def deep(depth: int) -> None:
        if depth:
            deep(depth - 1)
        else:
            wait_for(Event(), None)

    lines = names(deadlock(lambda: deep(50)))
    assert lines[2:] == ["...", *["deep"] * 12]


# The main thread, blocked elsewhere.


def test_the_test_fails_that_blocks_elsewhere(pytester):
    """With the fixture a test that blocks elsewhere fails with the error, and the next tests run."""
    result = run_tests(
        pytester,
        """
        import threading
        import pytest
        from waitkit import after, wait_for, VirtualClockError

        def other():
            with pytest.raises(VirtualClockError):
                wait_for(after("1h"), None)

        def test_blocks(virtual_clock):
            virtual_clock._monitor._grace = 10**8
            threading.Thread(target=other).start()
            virtual_clock.block_until(1)
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()

        def test_next(virtual_clock):
            wait_for(after("1h"), None)
        """,
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["E * waitkit.VirtualClockError: virtual time stands still*", "*in test_blocks"])


@pytest.mark.parametrize("place", ["inside", "around"])
def test_asyncio_that_blocks_elsewhere(place):
    """A coroutine that blocks its loop elsewhere gets the error, whatever a runner of asyncio makes of Ctrl-C."""
    done = python(
        f"""
        import asyncio, contextlib, threading
        from waitkit import VirtualClockError, after, virtual_clock, wait_for

        def other():
            with contextlib.suppress(VirtualClockError):
                wait_for(after("1h"), None)

        async def main():
            with virtual_clock(grace="300ms") if {place == "inside"} else contextlib.nullcontext():
                threading.Thread(target=other).start()
                await asyncio.sleep(1)
                lock = threading.Lock()
                lock.acquire()
                lock.acquire()

        try:
            with virtual_clock(grace="300ms") if {place == "around"} else contextlib.nullcontext():
                asyncio.run(main())
        except VirtualClockError as error:
            print("in main" in str(error))
        """
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_a_main_thread_that_tries_again():
    """One that takes the error for one of its own, and blocks in the same place again, gets it again."""
    lock, errors = threading.Lock(), []
    lock.acquire()

    def other() -> None:
        with pytest.raises(VirtualClockError):
            wait_for(after("1h"), None)

    with virtual_clock(grace="50ms") as clock:
        thread = threading.Thread(target=other)
        thread.start()
        clock.block_until(1)
        while len(errors) < 3:
            try:
                lock.acquire()
            except VirtualClockError as error:
                errors.append(error)
        thread.join()


def test_its_signal_is_given_back():
    """Inside one more signal has a handler, and a free one only; afterwards all are as before."""
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    with virtual_clock():
        taken = [number for number, handler in handlers.items() if signal.getsignal(number) is not handler]
        assert [handlers[number] for number in taken] == [signal.SIG_DFL]
        assert signal.SIGINT not in taken
        signal.raise_signal(taken[0])  # from somebody else: it does nothing
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == handlers
