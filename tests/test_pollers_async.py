"""Pollers of coroutine functions: on the loop they were started in."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from support import LIMIT, Running, until

import waitkit
from waitkit import Event, WaitTimeout, http_ok, polling, polls_every, reserved_port, wait_for


def run(main) -> object:
    """Run a coroutine function in a loop of its own, within the limit."""

    async def bounded() -> object:
        return await asyncio.wait_for(main(), LIMIT)

    return asyncio.run(bounded())


def test_runs_on_its_loop():
    """A coroutine function runs in the thread and the loop that started its poller."""
    where = []

    async def job() -> None:
        where.append((threading.get_ident(), asyncio.get_running_loop()))

    async def main() -> None:
        async with polling(job, "1ms") as poller:
            await poller.has_run(5)
        assert set(where) == {(threading.get_ident(), asyncio.get_running_loop())}

    run(main)


def test_runs_never_overlap():
    """Runs that take their time follow one another."""
    inside, most = [], []

    async def job() -> None:
        inside.append(1)
        most.append(len(inside))
        for _ in range(3):
            await asyncio.sleep(0)
        inside.pop()

    async def main() -> None:
        async with polling(job, "1us") as poller:
            for _ in range(100):
                poller.trigger()
                await asyncio.sleep(0)
            await poller.has_run(100)

    run(main)
    assert set(most) == {1}


@pytest.mark.parametrize("make", [threading.Event, waitkit.Event])
def test_triggers_of_another_thread(make):
    """What another thread sets makes it run, and none is lost."""
    event = make()
    seen = waitkit.Value(0)
    asked = [0]

    async def job() -> None:
        seen.set(asked[0])

    def pull() -> None:
        for number in range(1, 501):
            asked[0] = number
            event.set()
            until(seen.satisfies(lambda value, number=number: value >= number))

    async def main() -> None:
        async with polling(job, "1h", trigger=event):
            puller = Running(pull)
            await seen.equals(500)
            await asyncio.get_running_loop().run_in_executor(None, puller.result)

    run(main)


def test_stop_async_waits_for_the_run():
    """stop_async() lets the loop finish the run in progress; stop() refuses to block the loop."""
    gate, began, ended = Event(), Event(), []

    async def job() -> None:
        began.set()
        await waitkit.wait_for_async(gate, None)
        ended.append(1)

    async def main() -> None:
        poller = polling(job, "1us").start()
        await began
        with pytest.raises(RuntimeError, match="await stop_async"):
            poller.stop()
        with pytest.raises(WaitTimeout, match=r"run 1 goes on since .* in job"):
            await poller.stop_async(timeout=0)
        gate.set()
        await poller.stop_async()
        assert (poller.state, poller.runs) == ("stopped", 1)

    run(main)
    assert ended == [1]


def test_stop_from_another_thread():
    """stop() from a thread waits for the run on the loop."""
    began, gate = Event(), Event()

    async def job() -> None:
        began.set()
        await waitkit.wait_for_async(gate, None)

    async def main() -> None:
        poller = polling(job, "1us").start()
        await began
        stopping = Running(poller.stop)
        await waitkit.wait_for_async(lambda: poller.state == "stopping")
        gate.set()
        await poller.stopped
        stopping.result()

    run(main)


@pytest.mark.parametrize("waits_with", ["waitkit", "asyncio"])
def test_stop_can_cancel(waits_with):
    """stop_async(cancel=True) ends what the run awaits, with waitkit or with asyncio; that is no failure."""
    began = Event()

    async def job() -> None:
        began.set()
        if waits_with == "waitkit":
            await waitkit.wait_for_async(Event(), None)
        else:
            await asyncio.Future()

    async def main() -> None:
        poller = polling(job, "1h").start()
        await began
        await poller.stop_async(cancel=True)
        assert poller.status().failed_runs == 0
        assert poller.error is None

    run(main)


def test_stop_from_inside():
    """A run that stops its own poller does not wait for itself."""

    async def job() -> None:
        await poller.stop_async()

    poller = polling(job, "1us")

    async def main() -> None:
        await poller.start().join_async()

    run(main)
    assert poller.runs == 1


def test_errors_and_stop_on():
    """Errors do not end it; those that stop_on names do, and join_async() raises them."""
    count = [0]

    async def job() -> None:
        count[0] += 1
        raise KeyError if count[0] == 3 else ValueError

    async def main() -> None:
        poller = polling(job, "1us", stop_on=KeyError).start()
        with pytest.raises(KeyError):
            await poller.join_async()
        assert poller.status().failed_runs == 3

    run(main)


def test_the_loop_ends_first():
    """A loop that is closed while the poller rests or runs ends the poller; nothing hangs."""
    pollers = []

    async def rests() -> None:
        pass

    async def awaits() -> None:
        await asyncio.Future()

    async def main() -> None:
        pollers.append(polling(rests, "1h").start())
        await pollers[0].has_run(1)
        pollers.append(polling(awaits, "1h").start())
        await waitkit.wait_for_async(lambda: pollers[1].state == "running")

    run(main)
    for poller in pollers:
        poller.stop(timeout=LIMIT)
        assert poller.state == "stopped"


def test_start_needs_a_loop():
    """A coroutine function is polled in a loop; elsewhere start() says so."""

    async def job() -> None:
        pass

    with pytest.raises(RuntimeError, match="start its poller inside the event loop"):
        polling(job, 1).start()


def test_looks_that_block_do_not_block_the_loop():
    """A trigger that talks to the network is looked at elsewhere: the loop goes on, and runs stay on the loop."""
    threads = []

    async def job() -> None:
        threads.append(threading.get_ident())

    async def main() -> None:
        with reserved_port() as port:
            async with polling(job, "1ms", trigger=http_ok(f"http://localhost:{port}/")) as poller:
                await poller.has_run(3)
        assert set(threads) == {threading.get_ident()}

    run(main)


def test_a_decorated_coroutine_method():
    """Each instance polls by itself; the method is awaited as before."""

    class Service:
        def __init__(self) -> None:
            self.count = 0

        @polls_every("1ms")
        async def refresh(self) -> int:
            self.count += 1
            return self.count

    async def main() -> None:
        one, other = Service(), Service()
        assert await one.refresh() == 1
        one.refresh.start()
        await one.refresh.poller.has_run(3)
        assert other.refresh.poller is None
        await one.refresh.stop_async()
        assert other.count == 0

    run(main)


def test_sync_and_async_waiters_of_one_poller():
    """Threads and tasks wait for the same poller."""

    async def job() -> None:
        pass

    async def main() -> None:
        async with polling(job, "1ms") as poller:
            thread = Running(wait_for, poller.has_run(5), LIMIT)
            await poller.has_run(5)
            await asyncio.get_running_loop().run_in_executor(None, thread.result)

    run(main)


def test_a_closed_loop_ends_what_looks_elsewhere():
    """A poller that rests, and whose conditions are looked at in workers, ends with its loop, instead of failing for ever."""
    pollers = []

    async def job() -> None: ...

    async def main() -> None:
        with reserved_port() as port:
            pollers.append(polling(job, "1h", trigger=http_ok(f"http://localhost:{port}/")).start())
            await waitkit.wait_for_async(lambda: pollers[0].runs == 1 and pollers[0].state == "waiting")

    run(main)
    with contextlib.suppress(RuntimeError):  # it may have found out by itself
        pollers[0].trigger()
    assert pollers[0].join(LIMIT).failed_runs == 0
