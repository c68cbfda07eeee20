"""Awaiting: the loop is never blocked, cancelling leaves nothing, and threads and tasks share their conditions."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from children import silent
from support import LIMIT, python, waiters

from waitkit import (
    Cancelled,
    CancelScope,
    Event,
    StoppedHolding,
    WaitTimeout,
    after,
    any_of,
    consistently_async,
    fail_after,
    http_ok,
    move_on_after,
    reserved_port,
    subscribe,
    virtual_clock,
    wait_for,
    wait_for_async,
)
from waitkit.engine import timers, workers
from waitkit.engine.workers import Workers, run_in_looker, use_workers


def test_the_loop_goes_on():
    """While one task waits, others run: the waker is a task of the same loop."""

    async def main():
        event = threading.Event()

        async def sets():
            await wait_for_async(lambda: waiters(event._cond), LIMIT)
            event.set()

        held, _ = await asyncio.gather(wait_for_async(event, LIMIT), sets())
        return held

    assert asyncio.run(main()) is True


def test_probes_are_made_in_the_loop():
    """A callable is called in the thread of the loop, so that it may look at what belongs to the loop."""

    async def main():
        return await wait_for_async(lambda: threading.current_thread() is threading.main_thread() and "here")

    assert asyncio.run(main()) == "here"


def test_a_thousand_tasks_are_woken_by_one_event():
    """One event wakes a thousand tasks, and none stays subscribed."""
    event = Event()

    async def main():
        tasks = [asyncio.create_task(wait_for_async(event, LIMIT)) for _ in range(1_000)]
        await wait_for_async(lambda: len(event._signal) == 1_000, LIMIT)
        threading.Thread(target=event.set).start()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [True] * 1_000
    assert len(event._signal) == 0


def test_a_deadline_ends_a_task_that_waits():
    """A timeout and a scope's deadline end an await as they end a wait, each with its own error."""

    async def main():
        with pytest.raises(WaitTimeout):
            await wait_for_async(Event(), "2ms")
        with pytest.raises(WaitTimeout), fail_after("2ms"):
            await wait_for_async(Event())
        with CancelScope("2ms") as scope, pytest.raises(Cancelled):
            await wait_for_async(Event(), None)
        assert not scope.cancelled_caught
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait_for_async(Event(), None), 0.002)

    asyncio.run(main())


def test_a_scope_is_cancelled_from_another_thread():
    """cancel() of another thread ends the awaits of all tasks inside the scope."""

    async def main():
        never = Event()
        scope = CancelScope()

        async def waits():
            with scope:
                await wait_for_async(never, None)
            return "left"

        tasks = [asyncio.create_task(waits()) for _ in range(20)]
        await wait_for_async(lambda: len(never._signal) == 20, LIMIT)
        threading.Thread(target=scope.cancel).start()
        assert await asyncio.gather(*tasks) == ["left"] * 20
        assert len(never._signal) == len(scope.changed) == 0

    asyncio.run(main())


def test_a_loop_that_is_gone_hinders_nobody():
    """A wait abandoned with its loop does not disturb who sets its event afterwards."""
    event = Event()
    loop = asyncio.new_event_loop()
    task = loop.create_task(wait_for_async(event, None))
    loop.run_until_complete(asyncio.sleep(0))
    assert len(event._signal) == 1
    loop.close()
    event.set()
    task._log_destroy_pending = False  # that it was abandoned is the point
    task.get_coro().close()
    assert len(event._signal) == 0


def test_timers_of_tasks_are_dropped():
    """Awaits that end long before their deadline leave no agenda of dead timers behind."""

    async def main():
        for _ in range(2_000):
            await wait_for_async(any_of(Event(), _second_look()), "1h")

    asyncio.run(main())
    assert len(timers.current._agenda) < 200


def _second_look():
    looks = []
    return lambda: looks.append(1) or len(looks) > 1


def test_consistently_in_a_loop():
    """The async form fails as the other does, and gives what it held with."""

    async def main():
        assert await consistently_async(lambda: "fine", "5ms") == "fine"
        with pytest.raises(AssertionError, match="stopped holding"):
            await consistently_async(lambda: "", "5ms")

    asyncio.run(main())


def test_awaiting_in_an_exit_handler():
    """An event loop run by an exit handler can wait with a deadline, though no thread can be started any more."""
    done = python("""
        import asyncio, atexit
        from waitkit import Event, WaitTimeout, wait_for_async
        async def main():
            try:
                await wait_for_async(Event(), "5ms")
            except WaitTimeout:
                print("timed out")
        atexit.register(lambda: asyncio.run(main()))
        """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "timed out\n", "")


def test_tasks_do_not_see_the_scopes_of_each_other():
    """A scope entered in one task does not limit another that was made before."""

    async def main():
        entered, leave = asyncio.Event(), asyncio.Event()

        async def inside():
            with CancelScope() as scope:
                scope.cancel()
                entered.set()
                await leave.wait()

        task = asyncio.create_task(inside())
        await entered.wait()
        assert await wait_for_async(lambda: "free") == "free"
        leave.set()
        await task

    asyncio.run(main())


def test_any_exception_of_a_look_in_a_thread():
    """A look that is made in a thread may raise what no future can hold; the wait ends with it."""
    with reserved_port() as port:
        page = http_ok(f"http://127.0.0.1:{port}/")  # which may block, so the look at both is made in a thread

        async def main() -> None:
            await wait_for_async(page | (lambda: next(iter(()))), LIMIT)

        with pytest.raises(RuntimeError) as caught:  # as a coroutine lets none out
            asyncio.run(main())
    assert type(caught.value.__cause__) is StopIteration


def test_consistently_tells_who_waits():
    """The error names the line that called, though the wait is made by a task and looked at in a thread."""

    async def main() -> None:
        await consistently_async(http_ok("http://127.0.0.1:9/"), "100ms")

    with pytest.raises(StoppedHolding, match=r"waited at tests/test_async.py:\d+"):
        asyncio.run(main())


def test_a_busy_executor_holds_up_no_look():
    """The threads of the loop's executor may all be busy: looks have their own."""
    leave, ran = threading.Event(), []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, leave.wait, LIMIT)
        with reserved_port() as port:
            page = http_ok(f"http://127.0.0.1:{port}/")
            await wait_for_async(page | (lambda: ran.append(threading.current_thread().name) or True), LIMIT)
        leave.set()
        return await busy

    assert asyncio.run(main())
    assert ran == ["waitkit-looker"]


@pytest.mark.parametrize("scoped", [False, True], ids=["limit", "scope"])
def test_no_thread_is_free_for_a_look(scoped):
    """Where all threads that look are busy, a wait ends at its deadline all the same, and says why."""
    leave = threading.Event()
    before = use_workers(workers._workers, Workers(most=1, name="looker"))

    async def main():
        with silent() as url, contextlib.ExitStack() as stack:
            waits = wait_for_async(http_ok(url, look_timeout="1h"), None if scoped else "20ms")
            if scoped:
                stack.enter_context(fail_after("20ms"))
            await waits

    try:
        run_in_looker(lambda: leave.wait(LIMIT))
        with pytest.raises(WaitTimeout, match="no thread was free to look at the deadline") as caught:
            asyncio.run(main())
        assert caught.value.looks == 0
    finally:
        leave.set()
        use_workers(*before)


@pytest.mark.parametrize("begun", [True, False])
def test_a_loop_that_ends_under_a_look(begun):
    """A task that is cancelled in a look, whose loop is gone when the look is over, leaves no subscription behind."""
    event, leave, records = Event(), threading.Event(), []
    before = use_workers(workers._workers, Workers(most=1, name="looker"))
    looking = threading.Event()

    def looks():
        if event._signal:  # the first look is made before anything is subscribed to
            looking.set()
            leave.wait(LIMIT)
        return False

    async def main():
        with reserved_port() as port:
            waited_for = http_ok(f"http://127.0.0.1:{port}/") | event | looks
            waiting = asyncio.create_task(wait_for_async(waited_for, None), name="the one that waits")
            await wait_for_async(looking if begun else lambda: len(event._signal), LIMIT)
            if not begun:
                run_in_looker(lambda: leave.wait(LIMIT))
                event.becomes_set.notify()
            waiting.cancel()

    try:
        with subscribe(records.append):
            asyncio.run(main())
            if begun:
                assert len(event._signal) == 1
            leave.set()
            wait_for(lambda: len(event._signal) == 0, LIMIT)
            wait_for(lambda: any(record.task == "the one that waits" for record in records), LIMIT)
    finally:
        leave.set()
        use_workers(*before)
    (record,) = (record for record in records if record.task == "the one that waits")
    assert (record.outcome, record.thread) == ("cancelled", "MainThread")


@pytest.mark.parametrize(
    "call",
    [
        lambda: wait_for_async(Event(), "1s"),
        lambda: consistently_async(lambda: True, "1s"),
        lambda: wait_for_async(http_ok("http://127.0.0.1:9/"), "1s", ignore=OSError),
    ],
    ids=["wait_for", "consistently", "http"],
)
def test_a_wait_begins_when_it_is_awaited(call):
    """Time, and scopes, are those of the one who awaits, however long before the call was made."""

    async def main():
        with move_on_after(0):
            called_in_a_scope = call()
        called_before = call()
        await after(5)
        begun = clock.elapsed
        with contextlib.suppress(WaitTimeout):
            await called_in_a_scope
        assert clock.elapsed == pytest.approx(begun + 1)
        with fail_after("300ms"):
            await called_before

    with virtual_clock(real_things=False) as clock:
        with pytest.raises(WaitTimeout, match="300 ms are over"):
            asyncio.run(main())
        assert clock.elapsed == pytest.approx(6.3)
