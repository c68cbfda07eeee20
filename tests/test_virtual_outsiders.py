"""Virtual time and threads that do not take part: whoever is woken from inside counts as running until he rests again."""

from __future__ import annotations

import asyncio
import http.server
import os
import queue
import threading
from collections.abc import Callable

import pytest
from support import LIMIT, Running, in_child

from waitkit import Event, Value, VirtualClockError, VirtualDeadlock, after, virtual_clock, wait_for, wait_for_async
from waitkit.engine.clock import current_clock
from waitkit.engine.frames import current_frames
from waitkit.engine.parking import Parker
from waitkit.virtual.clock import VirtualClock


def compute() -> None:
    """Take the processor until somebody waits on the virtual clock, and for some turns more."""
    clock = current_clock()
    assert isinstance(clock, VirtualClock)
    while not clock.parked_others():
        os.sched_yield()
    for _ in range(100):
        os.sched_yield()


def resting(function: Callable[[], object], place: str) -> Running:
    """A function in a thread of its own, once that rests in a function of this name."""
    running = Running(function)
    while True:
        frame = current_frames().get(running.thread.ident)
        if frame is not None and frame.f_code.co_name == place:
            return running
        os.sched_yield()


@pytest.mark.parametrize("timeout", ["10s", None])
def test_a_wait_of_waitkit_from_before_is_woken(timeout):
    """A thread that waits for an event since before the block computes before it answers: no jump, and no deadlock."""
    go, done = Event(), Event("the answer")
    other = resting(lambda: (wait_for(go, None), compute(), done.set()), "rest")
    with virtual_clock() as clock:
        go.set()
        wait_for(done, timeout)
        assert clock.elapsed == 0
    other.result()


@pytest.mark.parametrize("timeout", [10, None])
def test_a_queue_from_before_is_fed(timeout):
    """A worker that waits in ``queue.get`` since before the block, and again inside, answers in no time."""
    asked, answers = queue.Queue(), queue.Queue()

    def work() -> None:
        while (item := asked.get()) is not None:
            compute()
            answers.put(item)

    other = resting(work, "wait")
    with virtual_clock() as clock:
        for number in range(20):
            asked.put(number)
            assert answers.get(timeout=timeout) == number
        assert clock.elapsed == 0
        asked.put(None)
    other.result()


def test_a_condition_from_before_is_notified():
    """All that wait for one ``threading.Condition`` since before the block count when they are notified."""
    condition, done = threading.Condition(), Value(0)

    def work() -> None:
        with condition:
            condition.wait()
        compute()
        done.set(done.get() + 1)

    others = [resting(work, "wait") for _ in range(3)]
    with virtual_clock() as clock:
        for count in (1, 2, 3):
            with condition:
                condition.notify()
            wait_for(done.satisfies(lambda value, count=count: value == count), "1h")
            assert clock.elapsed == 0
    for other in others:
        other.result()


def test_one_from_before_wakes_another():
    """Who was woken from inside counts whom he wakes in turn."""
    first, second, done = queue.Queue(), queue.Queue(), Event()
    others = [
        resting(lambda: (first.get(), compute(), second.put(1)), "wait"),
        resting(lambda: (second.get(), compute(), done.set()), "wait"),
    ]
    with virtual_clock() as clock:
        first.put(1)
        wait_for(done, "1h")
        assert clock.elapsed == 0
    for other in others:
        other.result()


def test_a_wake_up_before_the_rest():
    """A wake-up that comes while the other is on the way to his rest ends that, and counts then."""
    looked, set_, done, box = threading.Lock(), threading.Lock(), Event(), Value(0)
    looked.acquire()
    set_.acquire()

    def judge(value: int) -> bool:
        if value == 0 and looked.locked():
            looked.release()
            set_.acquire()
        return value == 2

    def work() -> None:
        wait_for(box.satisfies(judge), None)
        compute()
        done.set()

    other = Running(work)
    looked.acquire()
    looked.release()
    with virtual_clock() as clock:
        box.set(1)
        set_.release()
        box.set(2)
        wait_for(done, "1h")
        assert clock.elapsed == 0
    other.result()


def test_time_passes_again_when_he_rests():
    """Once the woken one rests again, time jumps as before, beside a thread that rests all the time."""
    asked, never = queue.Queue(), queue.Queue()

    def work() -> None:
        while asked.get() is not None:
            compute()

    others = [resting(work, "wait"), resting(never.get, "wait")]
    with virtual_clock() as clock:
        for hours in range(1, 4):
            asked.put(1)
            wait_for(after("1h"), None)
            assert clock.elapsed == hours * 3600
        asked.put(None)
        never.put(None)
    for other in others:
        other.result()


def test_a_loop_from_before_is_given_work():
    """A loop that runs in a thread since before the block is on the clock once it gets work, and goes on after the block."""
    loop = asyncio.new_event_loop()
    other = resting(loop.run_forever, "select")

    async def work() -> int:
        await asyncio.to_thread(compute)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        await wait_for_async(after(5), None)
        return 7

    with virtual_clock() as clock:
        for count in (1, 2):
            assert asyncio.run_coroutine_threadsafe(work(), loop).result(timeout=60) == 7
            assert clock.elapsed == 10 * count
        never = asyncio.run_coroutine_threadsafe(asyncio.Event().wait(), loop)
        with pytest.raises(VirtualDeadlock):
            never.result()
        never.cancel()
    assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0, 5), loop).result(LIMIT) == 5
    loop.call_soon_threadsafe(loop.stop)
    other.result()
    loop.close()


def test_a_server_started_where_time_stands_still():
    """A server thread that polls in real time is given time to end, before a deadlock is told."""
    with virtual_clock() as clock:
        server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        with clock.paused():
            thread.start()
        wait_for(after("1h"), None)
        assert clock.elapsed == 3600
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_foreign_lock_and_a_thread_that_runs():
    """Before time passes it is seen that one whom nobody counted runs; and before a deadlock, that one will move."""
    gate, done, begun = threading.Lock(), Event(), threading.Lock()
    gate.acquire()
    begun.acquire()

    def work() -> None:
        gate.acquire()
        begun.release()
        compute()
        done.set()

    other = resting(work, "work")
    with virtual_clock() as clock:
        gate.release()
        begun.acquire()  # it runs
        wait_for(done, "1h")
        assert clock.elapsed == 0
    other.result()


def test_a_poller_of_real_time_before_a_deadlock():
    """One who blocks in real time, for short, and looks may end what seems a deadlock."""
    flag, done, never = [], Event(), threading.Lock()
    never.acquire()

    def work() -> None:
        while not flag:
            never.acquire(timeout=0.001)
        done.set()

    other = Running(work)
    with virtual_clock():
        flag.append(1)
        wait_for(done, None)
    other.result()


def test_one_that_never_rests_again():
    """Who was woken, and does not rest again, is named after the grace, as one that takes part would be."""
    go, gate = Event(), threading.Lock()
    gate.acquire()

    def work_for_ever() -> None:
        wait_for(go, None)
        gate.acquire()

    other = resting(work_for_ever, "rest")
    with virtual_clock(grace="200ms") as clock:
        go.set()
        with pytest.raises(VirtualClockError, match="in work_for_ever") as caught:
            wait_for(after("1h"), None)
        assert not isinstance(caught.value, VirtualDeadlock)
        wait_for(after("1h"), None)  # he is waited for no longer
        assert clock.elapsed == 3600
    gate.release()
    other.result()


def test_one_that_has_nothing_to_do_with_it():
    """A thread that computes all the time is waited for only once, for the grace."""
    over = []

    def work() -> None:
        while not over:
            pass

    other = Running(work)
    with virtual_clock(grace="100ms") as clock:
        for _ in range(100):
            wait_for(after("1h"), None)
        assert clock.elapsed == 360_000
        with pytest.raises(VirtualDeadlock, match="not counted, as they do not take part"):
            wait_for(Event(), None)
    over.append(1)
    other.result()


def test_one_that_blocks_elsewhere_costs_no_jump_its_time():
    """A thread that reads a pipe since before the block does not hold up time, and a deadlock is told before the grace."""

    def child() -> None:
        reader, writer = os.pipe()
        other = resting(lambda: os.read(reader, 1), "<lambda>")
        with virtual_clock(grace="1h") as clock:
            for _ in range(1000):
                wait_for(after("1h"), None)
            assert clock.elapsed == 3_600_000
            with pytest.raises(VirtualDeadlock):
                wait_for(Event(), None)
        os.write(writer, b"x")
        other.result()

    in_child(child)  # which has no other thread that might yet do something


def test_a_forked_child_has_none_of_them():
    """In a forked child nobody is waited for that stayed in the parent."""
    asked = queue.Queue()
    other = resting(asked.get, "wait")

    def child() -> None:
        with virtual_clock():
            wait_for(after("1h"), None)
            asked.put(1)
            with pytest.raises(VirtualDeadlock):
                wait_for(Event(), None)

    in_child(child)
    asked.put(1)
    other.result()


def test_what_raises_when_asked_while_one_is_awake():
    """Where what is waited for begins to raise while time is held up, the waits end with an error, and nothing hangs."""
    go, gate, raises = Event(), threading.Lock(), []
    gate.acquire()

    class Raises:
        @property
        def outside(self):
            if raises:
                raise LookupError("gone")
            raises.append(1)
            return False

    other = resting(lambda: (wait_for(go, None), gate.acquire()), "rest")
    with virtual_clock() as clock:
        go.set()
        with pytest.raises(VirtualClockError, match="LookupError"):
            Parker(Raises()).park(None)
        gate.release()
        wait_for(after(1), None)
        assert clock.elapsed == 1
    other.result()
