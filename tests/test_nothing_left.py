"""After any number of waits, however they ended, nothing of them is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import multiprocessing
import os
import queue
import socket
import subprocess
import threading
import weakref
from concurrent.futures import Future
from operator import mul

import psutil
import pytest
from support import descriptors, foreign_threads, waiters

import waitkit
from waitkit import (
    CancelScope,
    Value,
    WaitFailed,
    WaitTimeout,
    after,
    any_of,
    notified,
    path_exists,
    port_free,
    port_listening,
    process_exited,
    readable,
    reserved_port,
    unix_socket_listening,
    wait_for,
    wait_for_async,
)
from waitkit.engine import descriptors as engine
from waitkit.ground import records

#: How often each kind is waited for. WAITKIT_TEST_WAITS=10000 takes a minute, and finds no more.
MANY = int(os.environ.get("WAITKIT_TEST_WAITS", "3000"))
SOME = 1_000
#: Looks at what is outside of this process ask the system, which takes longer.
OUTSIDE = {
    **dict.fromkeys(("Popen", "psutil.Process", "pid", "connection", "socket", "descriptor", "unix socket"), MANY // 5),
    "port that listens": MANY // 10,
    "port that is free": MANY // 30,
}
SOON = "100us"  # long enough to look, subscribe, look again and rest


def _times_out(condition: object) -> None:
    with pytest.raises(WaitTimeout):
        wait_for(condition, SOON)


@pytest.fixture(autouse=True)
def _nothing_left(monkeypatch):
    """The same threads and descriptors before and after."""
    monkeypatch.setattr(engine, "LINGER", 1_000_000)
    left, right = socket.socketpair()
    with left, right:  # if the thread of descriptors rests already, for seconds, this wakes it
        _times_out(readable(left))
    wait_for(lambda: not any("descriptors" in thread.name for thread in threading.enumerate()), 20)
    threads, opened = foreign_threads(), descriptors()
    yield
    wait_for(lambda: not any("descriptors" in thread.name for thread in threading.enumerate()), 20)
    assert foreign_threads() == threads
    assert descriptors() <= opened  # fewer, where the guardian of an earlier file's processes has ended meanwhile


def _kinds(tmp_path, stack):
    """One condition of each kind, none of which holds."""
    idle = stack.enter_context(subprocess.Popen(["sleep", "infinity"]))
    stack.callback(idle.kill)
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    stack.callback(thread.join)
    stack.callback(event.set)
    left, right = socket.socketpair()
    stack.enter_context(left)
    stack.enter_context(right)
    reader, writer = multiprocessing.Pipe(duplex=False)
    stack.enter_context(reader)
    stack.enter_context(writer)
    held = stack.enter_context(reserved_port())
    condition = threading.Condition()
    return {
        "callable": lambda: False,
        "threading.Event": threading.Event(),
        "threading.Thread": thread,
        "threading.Condition": notified(condition, lambda: False),
        "queue.Queue": queue.Queue(),
        "Future": Future(),
        "Popen": idle,
        "psutil.Process": psutil.Process(idle.pid),
        "pid": process_exited(idle.pid),
        "multiprocessing.Event": multiprocessing.Event(),
        "connection": reader,
        "socket": left,
        "descriptor": readable(right.fileno()),
        "waitkit.Event": waitkit.Event(),
        "waitkit.Value": Value(0).equals(1),
        "time": after("1h"),
        "held_for": Value(1).equals(1).held_for("1h"),
        "all_of": waitkit.Event() & threading.Event(),
        "not": ~after(0),
        "path": path_exists(tmp_path / "nothing"),
        "unix socket": unix_socket_listening(tmp_path / "no.socket"),
        "port that listens": port_listening(held),
        "port that is free": port_free(stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]),
    }


@pytest.mark.slow
def test_thousands_of_waits_of_each_kind(tmp_path, monkeypatch):
    """Thousands of waits of each kind that look, subscribe, look again and end: no descriptor, thread or object is left."""
    monkeypatch.setattr(
        records, "_subscribers", ()
    )  # the plugin has all waits note their looks, which doubles the time
    with contextlib.ExitStack() as stack:
        kinds = _kinds(tmp_path, stack)
        objects = {}
        for kind, thing in kinds.items():
            looks = itertools.count()
            waited_for = any_of(thing, lambda looks=looks: next(looks) % 2)  # holds at each second look
            rounds = OUTSIDE.get(kind, MANY)
            for number in range(rounds):
                assert wait_for(waited_for, 20).position == 1
                if number == rounds // 10:  # by now all is there that is made once
                    gc.collect()
                    before, opened = len(gc.get_objects()), descriptors()
            gc.collect()
            objects[kind] = (len(gc.get_objects()) - before) / rounds
            assert descriptors() <= opened + 3, (
                kind
            )  # those of the thread that watches descriptors, which comes and goes
        assert {kind: left for kind, left in objects.items() if left > 0.1} == {}


def test_event():
    """A ``threading.Event`` has no waiters left."""
    event = threading.Event()
    for _ in range(SOME):
        _times_out(event)
    assert waiters(event._cond) == 0


def test_queue_and_future():
    """A queue and a future have no waiters and no callbacks left."""
    items, future = queue.Queue(), Future()
    for _ in range(SOME):
        _times_out(any_of(items, future))
    assert waiters(items.not_empty) == waiters(items.not_full) == waiters(future._condition) == 0
    assert future._done_callbacks == []


def test_own_conditions():
    """An Event and a Value have no subscribers left."""
    event, value = waitkit.Event(), Value(0)
    for _ in range(SOME):
        _times_out(event | value.equals(1))
    assert len(event._signal) == len(value._signal) == 0


def test_thread():
    """A thread has no subscribers left, and ends as it would have."""
    event = threading.Event()
    thread = threading.Thread(target=event.wait)
    thread.start()
    for _ in range(SOME):
        _times_out(thread)
    assert len(thread.__dict__["_delete"].signal) == 0
    event.set()
    wait_for(thread, 20)
    assert thread not in threading.enumerate()


def test_process():
    """Waiting for a process leaves no pidfd, and one descriptor thread at most, which ends."""
    with subprocess.Popen(["sleep", "infinity"]) as process:
        for _ in range(SOME // 2):
            _times_out(process)
        process.kill()
        assert wait_for(process, 20).code == -9


def test_descriptors():
    """Waiting for a socket and a connection leaves nothing registered."""
    left, right = socket.socketpair()
    reader, writer = multiprocessing.Pipe(duplex=False)
    with left, right, reader, writer:
        for _ in range(SOME // 2):
            _times_out(any_of(left, readable(reader)))


def test_held_failed_and_cancelled():
    """Waits that hold, fail or are cancelled leave as little as those that time out."""
    event, done, scope_event = waitkit.Event(), waitkit.Event(), waitkit.Event()
    done.set()
    for _ in range(SOME):
        wait_for(any_of(event, done), None)
        with pytest.raises(WaitFailed):
            wait_for(event, None, unless=done)
        with CancelScope() as scope:
            scope.cancel()
            wait_for(scope_event, None)
        assert scope.cancelled_caught
        assert len(scope.changed) == 0
    assert len(event._signal) == len(done._signal) == len(scope_event._signal) == 0


def test_cancelled_tasks():
    """Tasks that are cancelled in the middle of a wait leave no subscription, and their timers are dropped."""
    event, outer = threading.Event(), waitkit.Event()

    async def main() -> None:
        for _ in range(20):
            tasks = [asyncio.create_task(wait_for_async(event | outer, "1h")) for _ in range(100)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)

    asyncio.run(main())
    assert waiters(event._cond) == 0
    assert len(outer._signal) == 0


@pytest.mark.parametrize("ends", ["held", "timeout"])
@pytest.mark.parametrize("driver", ["thread", "task"])
def test_no_garbage(driver, ends):
    """What a wait that is over has held goes with its last reference, not with the next garbage collection."""
    looks = []

    def wait(timeout):
        looks.clear()
        awaited = any_of(threading.Event(), lambda: looks.append(1) or (ends == "held" and len(looks) > 3))

        async def task():
            with contextlib.suppress(WaitTimeout):
                await wait_for_async(awaited, timeout)

        if driver == "task":
            asyncio.run(task())
        else:
            with contextlib.suppress(WaitTimeout):
                wait_for(awaited, timeout)
        return weakref.ref(awaited)

    timeouts = itertools.repeat(20) if ends == "held" else itertools.accumulate(itertools.repeat(2), mul, initial=0.005)
    gc.disable()
    try:
        while len(looks) <= 2:  # it has not come to rest: on a busy machine that takes longer
            assert wait(next(timeouts))() is None
    finally:
        gc.enable()
