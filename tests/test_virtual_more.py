"""Virtual time against nasty programs: pools, threads that do not start, blocks that end badly, loops that go on, forks."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import contextlib
import dis
import gc
import logging
import os
import queue
import random
import subprocess
import sys
import threading
import time
import weakref
from asyncio.base_events import BaseEventLoop
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import _WorkItem
from pathlib import Path
from types import FrameType

import pytest
from support import LIMIT

from waitkit import (
    Event,
    RateLimiter,
    VirtualClockError,
    WaitTimeout,
    after,
    polling,
    virtual_clock,
    wait_for,
    wait_for_async,
)
from waitkit.engine import timers, workers
from waitkit.engine.clock import current_clock


def pass_time(seconds: float) -> None:
    """Wait for nothing but time."""
    wait_for(after(seconds), None)


def thread_of(function: Callable[..., object], *args: object, name: str = "other") -> threading.Thread:
    """A started thread."""
    thread = threading.Thread(target=function, args=args, name=name)
    thread.start()
    return thread


def patched() -> list[object]:
    """All that a block puts something else in the place of."""
    return [
        *(threading.Thread.start, threading.Thread.join, threading.Thread.is_alive, threading._time, queue.time),
        *(threading.Condition.wait, threading.Condition.notify),
        *(
            ThreadPoolExecutor.shutdown,
            ThreadPoolExecutor.submit,
            _WorkItem.__init__,
            _WorkItem.run,
            cf._base.time,
            BaseEventLoop._run_once,
        ),
        *(time.sleep, current_clock(), timers.current, workers._workers),
    ]


@pytest.fixture(autouse=True)
def _everything_is_put_back() -> Iterator[None]:
    """After each of these tests nothing is patched, and no thread of the clock is left."""
    before = patched()
    yield
    assert patched() == before
    assert not [thread for thread in threading.enumerate() if thread.name == "waitkit-virtual-monitor"]


# Pools.


def test_work_that_is_cancelled_by_the_shutdown():
    """Work that a shutdown cancels keeps nobody's turn: time goes on."""
    with virtual_clock() as clock:
        pool = ThreadPoolExecutor(1)
        futures = [pool.submit(pass_time, 10) for _ in range(5)]
        pass_time(5)
        pool.shutdown(wait=False, cancel_futures=True)
        pass_time(20)
        assert clock.elapsed == 25
        assert [future.cancelled() for future in futures] == [False] + [True] * 4


def test_work_that_is_cancelled_one_by_one():
    """A cancelled future is passed over at once, and those behind it keep their times."""
    with virtual_clock() as clock, ThreadPoolExecutor(1) as pool:
        futures = [pool.submit(pass_time, 10) for _ in range(4)]
        pass_time(5)
        assert futures[1].cancel()
        futures[3].result()
        assert clock.elapsed == 30


def test_an_initializer_takes_part():
    """Threads of a pool may wait in their initializer; what they do comes after it."""
    with virtual_clock() as clock:
        with ThreadPoolExecutor(3, initializer=pass_time, initargs=(3,)) as pool:
            for future in [pool.submit(pass_time, 10) for _ in range(3)]:
                future.result()
            assert clock.elapsed == 13
            pass_time(20)
        assert clock.elapsed == 33


def test_an_initializer_that_fails():
    """A pool that breaks in its initializer breaks the futures, not the clock."""
    logging.getLogger("concurrent.futures").setLevel(logging.CRITICAL)

    def fail() -> None:
        raise ZeroDivisionError

    with virtual_clock() as clock:
        pool = ThreadPoolExecutor(2, initializer=fail)
        future = pool.submit(pass_time, 10)
        with pytest.raises(cf.BrokenExecutor):
            future.result()
        pass_time(20)
        pool.shutdown()
        assert clock.elapsed == 20


def test_waiting_for_work_of_which_some_was_cancelled():
    """Who waits for all of it is told of what was cancelled by the thread that comes to it, when it comes to it."""
    for timeout in (None, 100):
        with virtual_clock() as clock, ThreadPoolExecutor(1) as pool:
            work = [pool.submit(pass_time, 1) for _ in range(4)]
            assert work[1].cancel()
            assert work[3].cancel()
            assert len(cf.wait(work, timeout).done) == 4
            assert clock.elapsed == 2


def test_a_thread_with_a_run_of_its_own():
    """A function that stands in the place of ``run`` is there afterwards, too."""
    thread = threading.Thread()
    thread.run = run = lambda: pass_time(1)  # type: ignore[method-assign]
    with virtual_clock() as clock:
        thread.start()
        thread.join()
        assert clock.elapsed == 1
    assert vars(thread)["run"] is run


@pytest.mark.parametrize("days", [0, 100, 200, 400, 20_000])
def test_a_loop_on_a_machine_that_has_been_up_for_long(days: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timers of a loop are exact, and come, however large the number is that a loop calls the time."""
    real = BaseEventLoop.time
    monkeypatch.setattr(BaseEventLoop, "time", lambda loop: real(loop) + days * 86_400)

    async def main(clock: virtual_clock) -> None:
        for number in range(1, 11):
            await asyncio.sleep(0.1)
            assert clock.elapsed == pytest.approx(number / 10, abs=1e-9)

    async def enters() -> None:
        later = asyncio.get_running_loop().call_later(3_600, pytest.fail)
        with virtual_clock() as clock:
            await main(clock)
        assert later.when() - asyncio.get_running_loop().time() == pytest.approx(3_599, abs=1)
        later.cancel()

    with virtual_clock() as clock:
        asyncio.run(main(clock))
    asyncio.run(enters())


def test_as_completed_and_map_count_virtual_time():
    """The time-outs of ``as_completed`` and ``map`` are those of the virtual clock, to the nanosecond, however often they wait."""
    with virtual_clock() as clock, ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(pass_time, seconds) for seconds in (4, 8, 20)]
        seen = []
        with pytest.raises(TimeoutError):
            for _ in cf.as_completed(futures, timeout=10):
                seen.append(clock.elapsed)
        assert (seen, clock.elapsed) == ([4, 8], pytest.approx(10))
        begun = clock.elapsed
        with pytest.raises(TimeoutError):
            list(pool.map(pass_time, [3, 1], timeout=2))
        assert clock.elapsed - begun == pytest.approx(2)


def test_joining_an_idle_thread_of_a_pool_ends_in_an_error():
    """Who waits for the end of a pool's idle thread, which never comes, is told so after the grace."""
    with virtual_clock(grace="200ms"):
        pool = ThreadPoolExecutor(1)
        pool.submit(pass_time, 1).result()
        (thread,) = pool._threads
        with pytest.raises(VirtualClockError, match="virtual time stands still"):
            thread.join()
        pool.shutdown()


# Threads.


def test_a_thread_started_twice():
    """The second start fails as ever, and who joins the thread is not forgotten."""
    with virtual_clock() as clock:
        thread = thread_of(pass_time, 5)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="once"):
                thread.start()
            thread.join()
        assert clock.elapsed == 5
        pass_time(1)


def test_a_thread_that_cannot_be_started(monkeypatch):
    """Where the system refuses a thread, it does not take part, and may be started later."""

    def refuse(*args: object, **options: object) -> None:
        raise RuntimeError("can't start new thread")

    name = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
    with virtual_clock() as clock:
        thread = threading.Thread(target=pass_time, args=(2,))
        with monkeypatch.context() as patch:
            patch.setattr(threading, name, refuse)
            with pytest.raises(RuntimeError, match="can't start"):
                thread.start()
        pass_time(5)
        assert "run" not in vars(thread)
        thread.start()
        thread.join()
        assert clock.elapsed == 7


def test_a_thread_that_computes_keeps_its_turn():
    """A step that takes its time is not interrupted by others that are ready, so the course stays the same."""
    courses = set()
    for _ in range(3):
        course = []
        with virtual_clock():

            def step(number: int, course: list[int] = course) -> None:
                pass_time(1)
                begun = time.thread_time()
                while time.thread_time() - begun < 0.2 / (number + 1):
                    pass
                course.append(number)

            for thread in [thread_of(step, number) for number in range(4)]:
                thread.join()
        courses.add(tuple(course))
    assert courses == {(0, 1, 2, 3)}


def test_a_time_out_that_is_taken_in_pieces():
    """A queue that is asked at broken intervals, and woken in between, neither loops at a deadline nor misses it."""
    for seed in range(100):
        items: queue.Queue[int] = queue.Queue()
        other: queue.Queue[int] = queue.Queue()
        with virtual_clock(seed=seed) as clock:

            def disturb(items: queue.Queue[int] = items) -> None:
                for _ in range(7):
                    pass_time(0.1)
                    with items.not_empty:
                        items.not_empty.notify()

            thread = thread_of(disturb)
            for count in range(1, 6):
                with pytest.raises(queue.Empty):
                    items.get(timeout=0.7)
                with pytest.raises(queue.Empty):
                    other.get(timeout=0.3)
                assert clock.elapsed == pytest.approx(count, abs=2e-8)
            thread.join()


# Blocks in which time stands still, and uses outside of the block.


def test_a_wait_for_time_where_it_stands_still():
    """In a paused block a wait that only time could end is an error that says so, not a hang."""
    with virtual_clock(grace="200ms") as clock:
        with clock.paused(), pytest.raises(VirtualClockError, match=r"one that waits is in paused\(\)"):
            pass_time(1)
        pass_time(1)
        assert clock.elapsed == 1


def test_in_a_paused_block_others_can_be_waited_for():
    """In a paused block a thread waits for what those do that never take part: a loop and an event of before the block."""
    loop, asked, answered = asyncio.new_event_loop(), threading.Event(), Event()

    def answer() -> None:
        asked.wait(LIMIT)
        answered.set()

    others = [thread_of(loop.run_forever), thread_of(answer)]
    with virtual_clock() as clock, clock.paused():
        assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01, "result"), loop).result(LIMIT) == "result"
        asked.set()
        wait_for(answered, None)
        assert clock.elapsed == 0
    loop.call_soon_threadsafe(loop.stop)
    for thread in others:
        thread.join()
    loop.close()


def test_a_paused_thread_outlives_the_block():
    """A thread that comes out of its paused block when the clock was left goes on."""
    gate, inside = threading.Lock(), threading.Lock()
    gate.acquire()
    inside.acquire()
    with virtual_clock() as clock:

        def other() -> None:
            with clock.paused():
                inside.release()
                gate.acquire()

        thread = thread_of(other)
        with clock.paused():
            inside.acquire()
    gate.release()
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_a_clock_is_of_use_inside_of_its_block_only():
    """Before and after its block a clock refuses what would never end, and it is not entered twice."""
    clock = virtual_clock()
    for _ in range(2):
        for use in (lambda: clock.advance(1), lambda: clock.block_until(1), clock.paused().__enter__):
            with pytest.raises(RuntimeError, match="only inside of its with block"):
                use()
        if not clock._used:
            with clock:
                pass
    with pytest.raises(RuntimeError, match="was used already"), clock:
        pass


@pytest.mark.parametrize("method", ["start", "stop"])
def test_a_library_that_fails(monkeypatch, method):
    """Where what drives the time of day fails, all else is put back, and the error is seen."""
    from waitkit.virtual.outer_time import _TimeMachine

    original = getattr(_TimeMachine, method)

    def fail(self: object, *args: object) -> None:
        if method == "stop":
            original(self)
        raise OSError("no")

    monkeypatch.setattr(_TimeMachine, method, fail)
    with pytest.raises(OSError, match="no"), virtual_clock(drive="time-machine"):
        pass


#: What leaves a ``with`` block: three times None, and the call of its ``__exit__``.
LEAVES = [bytes([dis.opmap["LOAD_CONST"]] * 3 + [dis.opmap[name]]) for name in ("PRECALL", "CALL") if name in dis.opmap]


def may_be_interrupted(code: bytes, at: int) -> bool:
    """Whether a signal could be handled around this bytecode, as far as it matters.

    None is at the first one of a handler, nor between the end of a ``with`` block and the call that leaves it, where the lock of
    the clock would stay locked: the monitor, should it look just then, would wait for it for ever.
    """
    around = code[max(0, at - 8) : at + 12 : 2]
    return dis.opname[code[at]] != "PUSH_EXC_INFO" and not any(leaving in around for leaving in LEAVES)


@pytest.mark.slow
def test_ctrl_c_on_the_way_in_and_out():
    """Ctrl-C at any bytecode of entering or leaving puts everything back, except at the very edges of the two methods."""
    before = patched()

    def interrupted_at(number: int) -> bool:
        count = 0

        def trace(frame: FrameType, kind: str, _: object) -> object:
            nonlocal count
            code = frame.f_code
            if "virtual" not in Path(code.co_filename).parts or code.co_name in ("__enter__", "__exit__", "_put_back"):
                return trace if code.co_name in ("__enter__", "__exit__", "_put_back") else None
            frame.f_trace_opcodes = True
            # An interpreter that does not tell of bytecodes (3.12.1) tells of lines.
            if kind in ("opcode", "line") and may_be_interrupted(code.co_code, frame.f_lasti):
                count += 1
                if count == number:
                    sys.settrace(None)
                    raise KeyboardInterrupt
            return trace

        outer = sys.gettrace()
        sys.settrace(trace)
        try:
            with virtual_clock():
                pass
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(outer)
        return False

    points, step = 0, 23
    while interrupted_at(points * step + 1):
        points += 1
        assert patched() == before, points
    assert points > 50


# Event loops.


def test_a_task_goes_on_after_the_block():
    """A timer of a task that goes on has as long to go as before: the loop does not wait for the virtual hours again."""

    async def main() -> None:
        ticks, more = [], asyncio.Event()

        async def tick() -> None:
            while True:
                ticks.append(1)
                if len(ticks) > 6_000 + 5:
                    more.set()
                await asyncio.sleep(0.001)

        task = asyncio.create_task(tick())
        with virtual_clock():
            await asyncio.sleep(6)
        assert not more.is_set()
        async with asyncio.timeout(LIMIT):
            await more.wait()
        task.cancel()

    asyncio.run(main())


def test_a_task_that_is_left_waiting():
    """A task that waits when the block is left is named: its deadline would never come."""

    async def main() -> None:
        with pytest.raises(VirtualClockError, match="a task: what never comes to be set"), virtual_clock():
            task = asyncio.create_task(wait_for_async(Event("what never comes"), "100s"))
            await asyncio.sleep(10)
        task.cancel()

    asyncio.run(main())


# Forks.


def in_child(function: Callable[[], object], clock: virtual_clock) -> int:
    """The exit code of a forked child that runs *function* and is given LIMIT seconds."""
    with clock.paused():
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                function()
                code = 0
            finally:
                os._exit(code)
    with virtual_child(pid) as descriptor:
        import select

        with clock.paused():
            assert select.select([descriptor], [], [], LIMIT)[0], "the child hangs"
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class virtual_child:
    """A descriptor that is readable when the child has ended; a child that hangs is killed."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __enter__(self) -> int:
        self._descriptor = os.pidfd_open(self._pid)
        return self._descriptor

    def __exit__(self, kind: object, *rest: object) -> None:
        os.close(self._descriptor)
        if kind is not None:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)


def test_timers_of_one_instant_come_in_one_order():
    """Which of two timers of a loop comes first does not hang on for how long the machine has been up."""
    orders = set()

    async def pauses(name: str, order: list[str], *seconds: float) -> None:
        for pause in seconds:
            await asyncio.sleep(pause)
        order.append(name)

    async def main(order: list[str]) -> None:
        pauses_of = {"a": (0.1, 0.2), "b": (0.3,), "c": (0.1, 0.1, 0.1), "d": (0.2, 0.1)}
        await asyncio.gather(*(pauses(name, order, *seconds) for name, seconds in pauses_of.items()))

    chance = random.Random(1)
    for _ in range(100):
        loop, order = asyncio.new_event_loop(), list[str]()
        up = chance.uniform(0, 2e6)
        with virtual_clock() as clock, contextlib.closing(loop):
            loop.time = lambda up=up: up  # type: ignore[method-assign, misc]
            loop.run_until_complete(main(order))
            assert clock.elapsed == pytest.approx(0.3)
        orders.add("".join(order))
    assert len(orders) == 1


def test_a_forked_child_joins_threads_it_does_not_have():
    """Threads that stayed in the parent have ended for the child, as without virtual time."""
    with virtual_clock() as clock:
        thread = thread_of(pass_time, 100)
        pass_time(1)
        assert in_child(thread.join, clock) == 0
        thread.join()


def test_a_forked_child_has_threads_of_its_own_after_the_block():
    """Those of real time, which the block has put aside, are the parent's: a child that leaves the block begins anew."""
    first = [threading.Event() for _ in range(3)]

    def use(events: list[threading.Event]) -> bool:
        workers.run_in_worker(events[0].set)
        workers.run_in_looker(events[1].set)
        timers.call_at(current_clock().now(), events[2].set)
        return all(wait_for(event, LIMIT) for event in events)

    assert use(first)  # their threads stay for a while
    with virtual_clock():
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if use([threading.Event() for _ in range(3)]) else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert use([threading.Event() for _ in range(3)])


def test_a_forked_child_waits_for_real_things():
    """In a forked child real time passes where a process is awaited, and its deadline comes."""

    def child() -> None:
        process = subprocess.Popen(["sleep", "infinity"])
        try:
            with pytest.raises(WaitTimeout):
                wait_for(process, "50ms")
        finally:
            process.kill()
            process.wait()

    with virtual_clock() as clock:
        assert in_child(child, clock) == 0


# All together.


def course() -> list[tuple[object, ...]]:
    """Ten threads, a poller, a pool and a loop that act at the same instants; what happened when."""
    trace: list[tuple[object, ...]] = []
    limiter = RateLimiter("3/s")
    with virtual_clock() as clock:

        def note(*what: object) -> None:
            trace.append((clock.elapsed, *what))

        def act(number: int) -> None:
            for step in range(8):
                pass_time((number * 7 + step * 5) % 3 + 1)
                note("thread", number)
                if (number + step) % 4 == 0:
                    limiter.acquire()
                    note("token", number)

        async def tick(seconds: int) -> None:
            for _ in range(6):
                await asyncio.sleep(seconds)
                note("task", seconds)

        async def tasks() -> None:
            await asyncio.gather(*map(tick, (1, 2, 3)), asyncio.to_thread(pass_time, 4))

        with polling(lambda: note("poller"), "2s", timing="fixed_rate"), ThreadPoolExecutor(3) as pool:
            threads = [thread_of(act, number) for number in range(10)]
            threads.append(thread_of(lambda: asyncio.run(tasks())))
            for future in [pool.submit(lambda n=n: (pass_time(n % 4), note("work", n))) for n in range(12)]:
                future.result()
            for thread in threads:
                thread.join()
    return trace


@pytest.mark.slow
def test_a_bigger_scenario_takes_the_same_course():
    """Fifty runs of ten threads, a poller, a pool and a loop give one trace."""
    first = course()
    assert len(first) > 100
    assert all(course() == first for _ in range(49))


@pytest.mark.slow
def test_blocks_leave_nothing():
    """A hundred blocks with threads, a pool, a poller and a loop leave no thread, no descriptor and no clock."""

    def block() -> weakref.ref[object]:
        with virtual_clock() as clock:
            thread_of(pass_time, 1).join()
            with ThreadPoolExecutor(2) as pool:
                pool.submit(pass_time, 1).result()
            asyncio.run(asyncio.sleep(1))
            with polling(lambda: None, "1s") as poller:
                wait_for(poller.has_run(2), None)
        return weakref.ref(clock._clock)

    block()
    gc.collect()
    descriptors = len(os.listdir("/proc/self/fd"))
    clocks = [block() for _ in range(100)]
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert sum(clock() is not None for clock in clocks) <= 1
