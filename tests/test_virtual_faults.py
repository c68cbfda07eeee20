"""Virtual time where something is wrong: blocked threads, deadlocks, errors, forks, real processes, event loops that end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from children import http_server
from support import LIMIT, Running, python

from waitkit import (
    Event,
    VirtualClockError,
    VirtualDeadlock,
    WaitTimeout,
    after,
    managed_process,
    output_matches,
    polling,
    port_listening,
    process_exited,
    reserved_port,
    virtual_clock,
    wait_for,
    wait_for_async,
)
from waitkit.engine.clock import SystemClock, current_clock
from waitkit.engine.frames import current_frames
from waitkit.engine.parking import Parker
from waitkit.virtual import monitor
from waitkit.virtual.clock import VirtualClock


def reader_of_input() -> subprocess.Popen[bytes]:
    """A process that ends with its standard input."""
    return subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)


def thread_of(function: object, name: str = "other") -> threading.Thread:
    """A started thread."""
    thread = threading.Thread(target=function, name=name)
    thread.start()
    return thread


def test_a_thread_blocked_in_foreign_code_is_named():
    """A thread that blocks elsewhere stops time; after the grace the wait fails, with its name and its line."""
    lock = threading.Lock()
    lock.acquire()
    with virtual_clock(grace="200ms"):
        thread = thread_of(lock.acquire, "blocks")
        with pytest.raises(VirtualClockError, match="thread 'blocks' runs, or blocks outside of waitkit") as caught:
            wait_for(after("1h"), None)
        assert "thread 'MainThread': 1 h to pass\n    " in str(caught.value)
        lock.release()
        thread.join()


def test_the_main_thread_blocked_in_foreign_code():
    """Where the main thread itself blocks, it is interrupted, and the block raises the error that says so."""
    done = python(
        """
        import sys, threading
        from waitkit import after, virtual_clock, wait_for

        lock = threading.Lock()
        lock.acquire()

        def other():
            try:
                wait_for(after(1), None)
            except Exception as error:
                sys.stdout.write(f"{type(error).__name__}\\n")

        try:
            with virtual_clock(grace="200ms"):
                threading.Thread(target=other).start()
                lock.acquire()
        except Exception as error:
            sys.stdout.write(f"{type(error).__name__} {'in <module>' in str(error)}\\n")
        """
    )
    assert sorted(done.stdout.split("\n")) == ["", "VirtualClockError", "VirtualClockError True"], done.stderr


def test_a_lock_held_by_a_thread_whose_turn_it_is_not():
    """A thread that needs a lock which another holds gets it: that one has its turn, too."""
    lock, order = threading.Lock(), []
    with virtual_clock():

        def holder() -> None:
            with lock:
                wait_for(ready, None)
                order.append("holder")

        ready = Event()
        thread = thread_of(holder)
        wait_for(after(1), None)
        ready.set()
        with lock:
            order.append("main")
        thread.join()
    assert order == ["holder", "main"]


def test_a_deadlock_says_who_waits_for_what():
    """Where all wait and nothing is due, every wait fails at once, with everybody's condition and line."""
    errors = []
    with virtual_clock():

        def other() -> None:
            try:
                wait_for(Event("the other half"), None)
            except VirtualDeadlock as error:
                errors.append(error)

        thread = thread_of(other)
        with pytest.raises(VirtualDeadlock) as caught:
            wait_for(Event("one half"), None)
        thread.join()
    text = str(caught.value)
    assert "thread 'MainThread': one half to be set\n    " in text
    assert "thread 'other': the other half to be set\n    " in text
    assert text.count("test_virtual_faults.py:") == 2
    assert len(errors) == 1


def test_a_deadlock_of_the_standard_library():
    """A queue nobody fills is a deadlock, too, not a hang."""
    import queue

    with virtual_clock(), pytest.raises(VirtualDeadlock, match="a notify"):
        queue.Queue().get()


def test_an_exception_in_a_thread(monkeypatch):
    """A thread that dies of an exception takes part no longer; time goes on."""
    shown = []
    monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(args.exc_type))

    def fail() -> None:
        wait_for(after(1), None)
        raise ZeroDivisionError

    with virtual_clock() as clock:
        thread = thread_of(fail)
        wait_for(after("1h"), None)
        thread.join()
        assert clock.elapsed == 3600
    assert shown == [ZeroDivisionError]


def test_clocks_do_not_nest():
    """A second virtual clock inside the first is refused."""
    with virtual_clock(), pytest.raises(RuntimeError, match="do not nest"), virtual_clock():
        pass
    assert isinstance(current_clock(), SystemClock)


def test_left_by_an_exception():
    """A block left by an exception puts everything back, and ends the waits that go on."""
    errors = []

    def other() -> None:
        try:
            wait_for(Event(), "1h")
        except VirtualClockError as error:
            errors.append(error)

    with pytest.raises(ZeroDivisionError), virtual_clock() as clock:
        thread = thread_of(other)
        clock.block_until(1)
        1 / 0
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert len(errors) == 1
    assert isinstance(current_clock(), SystemClock)


def test_left_while_threads_wait(monkeypatch):
    """Leaving the block while a thread waits in it is an error that names the thread and its wait."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    with pytest.raises(VirtualClockError, match="left while threads wait on it") as caught, virtual_clock() as clock:
        thread = thread_of(lambda: wait_for(Event("what never comes"), "1h"), "left behind")
        clock.block_until(1)
    thread.join(LIMIT)
    assert "thread 'left behind': what never comes to be set" in str(caught.value)


def test_a_fork_inside():
    """A forked child goes on alone in its own virtual time."""
    with virtual_clock() as clock:
        thread = thread_of(lambda: wait_for(after("2h"), None))

        def child() -> None:
            wait_for(after("1h"), None)
            assert clock.elapsed == 3600
            with pytest.raises(VirtualDeadlock):
                wait_for(Event(), None)

        in_child_of_virtual(child, clock)
        thread.join()


def in_child_of_virtual(child: object, clock: virtual_clock) -> None:
    """As support.in_child, whose own waiting is for a real process."""
    with clock.paused():
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                clock._clock._holders.clear()
                child()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_real_process_takes_real_time():
    """While a process is awaited time does not jump: it passes as fast as real time, and the deadline holds."""
    with virtual_clock() as clock:
        child = reader_of_input()
        begun = time.monotonic()
        with pytest.raises(WaitTimeout):
            wait_for(child, "50ms")
        assert 0.05 <= clock.elapsed <= time.monotonic() - begun + 0.001
        child.stdin.close()
        assert wait_for(process_exited(child), None).code == 1
        assert clock.elapsed < LIMIT
        wait_for(after("1d"), None)
        assert clock.elapsed >= 86_400


def test_real_things_may_be_ignored():
    """Where it is told to, time jumps although a process is awaited."""
    with virtual_clock(real_things=False) as clock:
        child = reader_of_input()
        with pytest.raises(WaitTimeout):
            wait_for(child, "10h")
        assert clock.elapsed == 36_000
    child.stdin.close()
    child.wait(LIMIT)


def test_what_is_real_ends_in_real_time():
    """Where time jumps over real things, a managed process is ended as ever: with its grace, and without an error of its own."""
    code = "trap 'echo bye; exit 3' TERM; echo up; while :; do read -t 0.01 x; done"
    polite = managed_process(["bash", "-c", code], ready=output_matches("up"), ready_timeout=LIMIT).start()
    with virtual_clock(real_things=False):
        with pytest.raises(WaitTimeout, match="the user's own"):
            with managed_process(["sh", "-c", "sleep 1000; :"]) as process:
                wait_for(process.exited, "1h", message="the user's own")
        assert process.exit_code is not None
        assert polite.stop() == 3
    assert polite.output.stdout == "up\nbye\n"


@pytest.mark.parametrize("condition", [Event("never"), lambda: False], ids=["event", "callable"])
def test_time_that_passes_for_nothing(condition):
    """A wait without a limit, for which pollers run and looks are made for ever, ends with an error that says so."""
    with virtual_clock(grace="50ms"), polling(lambda: None, "1s"):
        with pytest.raises(VirtualDeadlock, match=r"nothing else happens.* went by.*\n *thread 'MainThread'") as caught:
            wait_for(condition, None)
        assert "test_virtual_faults.py" in str(caught.value)


def test_time_that_passes_for_something():
    """As long as other threads come to other waits, or one lets time pass by hand, a wait without a limit goes on."""
    with virtual_clock(grace="50ms") as clock:
        event, begun = Event(), time.monotonic()

        def work() -> None:
            while time.monotonic() - begun < 0.8:  # longer than what passes for nothing: twelve times the grace
                wait_for(after("1s"), None)
                clock.advance("1s")
            event.set()

        thread = threading.Thread(target=work)
        thread.start()
        with polling(lambda: None, "1s"):
            wait_for(event, None)
        thread.join()


def test_a_thread_that_was_there_before_takes_part_from_its_first_wait():
    """A thread of before the block waits in virtual time inside, and its wake-ups are counted."""
    gate, done = threading.Event(), []

    def job() -> None:
        gate.wait(LIMIT)
        wait_for(after("1h"), None)
        done.append(1)

    thread = Running(job)
    with virtual_clock() as clock:
        gate.set()
        with clock.paused():
            until_parked(clock, 1)
        wait_for(after("2h"), None)
    thread.result()
    assert done == [1]


def until_parked(clock: virtual_clock, count: int) -> None:
    """Look in real time until so many wait."""
    while clock._clock.parked_others() < count:
        os.sched_yield()


def test_ctrl_c_in_a_virtual_wait():
    """Ctrl-C ends a virtual wait of the main thread at once, and the block is left as by any exception."""
    done = python(
        """
        import os, signal, threading
        from waitkit import Event, after, virtual_clock, wait_for

        def interrupt():
            wait_for(after(5), None)
            os.kill(os.getpid(), signal.SIGINT)

        try:
            with virtual_clock() as clock:
                thread = threading.Thread(target=interrupt)
                thread.start()
                wait_for(Event(), "1h")
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_a_signal_handler_wakes_a_virtual_wait():
    """A handler that sets an event ends the wait of the very thread it interrupts."""
    event = Event()
    previous = signal.signal(signal.SIGUSR1, lambda *_: event.set())
    try:
        with virtual_clock() as clock:

            def send() -> None:
                wait_for(after(5), None)
                while not event.is_set():  # one that comes right before the main thread rests is handled after it
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
                    os.sched_yield()

            thread = thread_of(send)
            wait_for(event, None)
            assert clock.elapsed == 5
            thread.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)


# Event loops.


def test_asyncio_on_virtual_time():
    """Waits of waitkit and asyncio's own sleeps share the virtual clock, on one loop."""
    instants = []

    async def waits() -> None:
        await wait_for_async(after("30m"), None)
        instants.append(("waitkit", clock.elapsed))

    async def sleeps() -> None:
        await asyncio.sleep(3600)
        instants.append(("asyncio", clock.elapsed))

    async def main() -> None:
        await asyncio.gather(sleeps(), waits())

    with virtual_clock() as clock:
        asyncio.run(main())
    assert instants == [("waitkit", 1800), ("asyncio", 3600)]


def test_a_clock_inside_a_running_loop():
    """The block may stand in a coroutine; afterwards the loop goes on in real time."""

    async def main() -> float:
        with virtual_clock() as clock:
            with pytest.raises(WaitTimeout):
                await wait_for_async(Event(), "1d")
            elapsed = clock.elapsed
        await asyncio.sleep(0.001)
        return elapsed

    assert asyncio.run(main()) == 86_400


def test_loops_and_threads_together():
    """A thread wakes a task and a task a thread, at exact instants."""
    to_task, to_thread, seen = Event(), Event(), []

    def thread_side() -> None:
        wait_for(after(10), None)
        to_task.set()
        wait_for(to_thread, None)
        seen.append(clock.elapsed)

    async def task_side() -> None:
        await wait_for_async(to_task, None)
        seen.append(clock.elapsed)
        await asyncio.sleep(5)
        to_thread.set()
        await asyncio.to_thread(wait_for, after(7), None)
        seen.append(clock.elapsed)

    with virtual_clock() as clock:
        thread = thread_of(thread_side)
        asyncio.run(task_side())
        thread.join()
    assert seen == [10, 15, 22]


def test_a_deadlock_in_a_loop():
    """A task that waits for what never comes is a deadlock, which says what the tasks of the loop wait for."""

    async def main() -> None:
        await wait_for_async(Event("what never comes"), None)

    with virtual_clock(), pytest.raises(VirtualDeadlock, match="task 'Task-.*': what never comes to be set"):
        asyncio.run(main())


def test_a_process_awaited_in_a_loop_takes_real_time():
    """A task that waits for a process keeps time from jumping."""

    async def main() -> None:
        child = reader_of_input()
        with pytest.raises(WaitTimeout):
            await wait_for_async(child, "50ms")
        assert clock.elapsed < LIMIT
        child.stdin.close()
        await wait_for_async(child, None)

    with virtual_clock() as clock:
        asyncio.run(main())


def test_streams_in_a_loop_take_real_time():
    """I/O of asyncio itself works, in real time."""

    async def main() -> bytes:
        async def answer(reader, writer) -> None:
            writer.write(await reader.readline())
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"echo\n")
        line = await reader.readline()
        writer.close()
        server.close()
        return line

    with virtual_clock() as clock:
        assert asyncio.run(main()) == b"echo\n"
        assert clock.elapsed < LIMIT


# The clocks of the standard library.


@pytest.mark.parametrize("library", ["time-machine", "freezegun"])
def test_driving_the_time_of_day(library):
    """Where asked to, the time of day moves along, and time.sleep is a virtual wait."""
    with virtual_clock(drive=library) as clock:
        before = time.time()
        wait_for(after("10h"), None)
        assert time.time() - before == pytest.approx(36_000)
        time.sleep(3600)
        assert clock.elapsed == 39_600
        assert time.time() - before == pytest.approx(39_600)
    assert abs(time.time() - before) < 1_000


def test_driving_monotonic_time():
    """Freezegun moves time.monotonic as well."""
    with virtual_clock(drive="freezegun"):
        before = time.monotonic()
        wait_for(after("10h"), None)
        assert time.monotonic() - before == pytest.approx(36_000)


def test_pollers_and_pools_inside():
    """Pollers in worker threads and futures of a pool live on one clock."""
    from concurrent.futures import ThreadPoolExecutor

    instants = []
    with virtual_clock() as clock, ThreadPoolExecutor(2) as pool:
        with polling(lambda: instants.append(clock.elapsed), "1m", timing="fixed_rate"):
            futures = [pool.submit(wait_for, after(f"{minutes}m"), None) for minutes in (3, 2, 1)]
            for future in futures:
                future.result()
        assert clock.elapsed == 180  # two workers: the third piece of work began when the second ended
    assert instants[:3] == [0, 60, 120]


def test_a_managed_process_inside():
    """A managed process is started and proven ready in real time; afterwards time jumps while it runs."""
    with virtual_clock() as clock:
        with reserved_port() as port:
            server = http_server(port)
            with managed_process(server, ready=port_listening(port)) as process:
                assert clock.elapsed < LIMIT
                wait_for(after("1d"), None)
                assert clock.elapsed >= 86_400
                assert process.exit_code is None


def test_what_raises_when_asked_is_not_left_parked():
    """Where a wait breaks off because what it waits for raises when the clock asks about it, nothing of it stays parked."""

    class Raises:
        @property
        def outside(self):
            raise LookupError

    with virtual_clock() as clock:
        with pytest.raises(LookupError):
            Parker(Raises()).park(None)
        wait_for(after(1), None)
        assert clock.elapsed == 1


def test_a_thread_that_starts_while_the_dead_are_looked_for(monkeypatch):
    """Only who has ended is dropped: not one that begins between the two questions of who runs, and who exists."""
    clock, begun, may_end = VirtualClock(auto=True, real_things=True, seed=1), threading.Event(), threading.Event()

    def begins() -> None:
        clock.enter()
        begun.set()
        assert may_end.wait(LIMIT)

    def asked_too_early():
        existing = current_frames()
        started.append(Running(begins))
        assert begun.wait(LIMIT)
        return existing

    started: list[Running] = []
    monkeypatch.setattr(monitor, "current_frames", asked_too_early)
    monitor.Monitor(clock, 1)._drop_the_dead()
    assert clock.running() == [started[0].thread.ident]
    monkeypatch.undo()
    may_end.set()
    started[0].result()
    monitor.Monitor(clock, 1)._drop_the_dead()
    assert clock.running() == []
