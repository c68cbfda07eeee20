"""The algebra of conditions, and what of the standard library can be one."""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import queue
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future

import psutil
import pytest
import support
from support import LIMIT, Running, rests, until

import waitkit
from waitkit import (
    Event,
    ProcessExit,
    StoppedHolding,
    Value,
    WaitTimeout,
    after,
    all_of,
    any_of,
    consistently,
    notified,
    process_exited,
    readable,
    wait_for,
    wait_for_async,
)
from waitkit.engine.clock import now


@pytest.fixture(params=["thread", "task"])
def wait(request):
    """``wait_for``, and the same in an event loop."""
    if request.param == "thread":
        return wait_for

    def in_a_loop(condition, *args, **kwargs):
        async def main():
            return await wait_for_async(condition, *args, **kwargs)

        return asyncio.run(main())

    return in_a_loop


def soon(change) -> None:
    """Have *change* happen in another thread, in a moment."""
    threading.Timer(0.01, change).start()


def test_any_of_says_which(wait):
    """The first in order that holds is named, with its place and its value."""
    first, second = Event("first"), Event("second")
    soon(second.set)
    held = wait(any_of(first, second, lambda: 0), LIMIT)
    assert (held.position, held.condition, held.value) == (1, second, True)
    first.set()
    assert wait(first | second, LIMIT).position == 0


def test_all_of_is_one_snapshot(wait):
    """What held earlier is not remembered: all must hold in one look."""
    turns = iter([1, 0, 1, 0, 1])
    others = iter([0, 1, 0, 1, 1])
    assert wait(all_of(lambda: next(turns), lambda: next(others)), LIMIT) == (1, 1)


def test_all_of_names_what_is_missing():
    """The error names the members that do not hold, and what was seen of them, and no others."""
    there, missing = Event("there"), Event("missing")
    there.set()
    with pytest.raises(WaitTimeout) as caught:
        wait_for(there & missing & (lambda: []), 0)
    assert caught.value.last == "missing: missing to be set; lambda: [] to be true ([])"


def test_not(wait):
    """``~`` holds when the condition does not; twice is the condition itself."""
    event = threading.Event()
    event.set()
    soon(event.clear)
    assert wait(~waitkit.conditions.condition.as_condition(event), LIMIT) is True
    own = Event()
    assert ~~own is own


def test_one_ignored_error_does_not_hide_another_member():
    """An exception that is ignored concerns its own member only."""
    assert wait_for(any_of(lambda: 1 / 0, lambda: "held"), 0, ignore=ZeroDivisionError).value == "held"


def test_held_for_begins_anew(virtual):
    """An interruption starts the duration again."""
    start = now()
    down = range(start + 300_000_000, start + 320_000_000)
    wait_for(any_of(lambda: now() not in down).held_for("500ms"), "1h")
    assert 800_000_000 <= now() - start <= 900_000_000


def test_held_for_sees_what_no_look_sees():
    """An event that was cleared and set between two looks was interrupted."""
    event, clock = Event(), []
    event.set()

    def flicker() -> bool:
        if len(clock) < 5:
            clock.append(1)
            event.clear()
            event.set()
        return True

    with pytest.raises(StoppedHolding, match="held and was interrupted once"):
        consistently(event & flicker, "1h")


def test_consistently(virtual):
    """It returns what held at the end, and fails at the first look that finds it false."""
    assert consistently(lambda: "steady", "2s") == "steady"
    start = now()
    with pytest.raises(AssertionError, match="stopped holding after") as caught:
        consistently(lambda: now() < start + 1_000_000_000, "2s")
    assert isinstance(caught.value, StoppedHolding)
    assert now() - start <= 1_060_000_000
    with pytest.raises(StoppedHolding, match="1 look"):
        consistently(lambda: False, "2s")


def test_a_condition_has_no_truth():
    """``if condition`` and ``a and b`` raise, and name the right call."""
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(Event())
    with pytest.raises(TypeError, match=r"combine conditions with \|, & and ~"):
        Event() and Event()


def test_described():
    """A condition can be given words of its own, which combinations show."""
    with pytest.raises(WaitTimeout, match="waiting for the cache to be warm or a bell to be set"):
        wait_for(any_of(lambda: 0).described("the cache to be warm") | Event("a bell"), 0)


def test_await():
    """A condition can be awaited as it is."""

    async def main():
        event = Event()
        soon(event.set)
        return await event, (await after(0))

    assert asyncio.run(main()) == (True, True)


def test_shared_by_threads_and_tasks():
    """One event wakes threads and tasks alike."""
    event = threading.Event()

    async def main():
        tasks = [asyncio.create_task(wait_for_async(event, LIMIT)) for _ in range(20)]
        threads = [Running(wait_for, event, LIMIT) for _ in range(20)]
        soon(event.set)
        return await asyncio.gather(*tasks), [thread.result() for thread in threads]

    assert asyncio.run(main()) == ([True] * 20, [True] * 20)


def test_event(wait):
    """A ``threading.Event`` that is set."""
    event = threading.Event()
    soon(event.set)
    assert wait(event, LIMIT) is True


@pytest.mark.parametrize("kind", [queue.Queue, queue.LifoQueue, queue.PriorityQueue, queue.SimpleQueue])
def test_queue(wait, kind):
    """A queue that has an item; the item stays in it."""
    items = kind()
    soon(lambda: items.put("item"))
    assert wait(items, LIMIT) is items
    assert items.get_nowait() == "item"


def test_future(wait):
    """A future that is done, whatever with; its value is the future."""
    for finish in (lambda f: f.set_result(0), lambda f: f.set_exception(OSError()), lambda f: f.cancel()):
        future: Future = Future()
        soon(lambda future=future, finish=finish: finish(future))
        assert wait(future, LIMIT) is future


def test_thread(wait):
    """A thread that has ended: not one that has not begun."""
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    with pytest.raises(WaitTimeout, match="last: not started"):
        wait(thread, "5ms")
    thread.start()
    soon(go.set)
    assert wait(thread, LIMIT) is thread
    assert not thread.is_alive()
    assert wait(thread, 0) is thread


def test_thread_is_not_polled():
    """Waiting for a thread looks a handful of times, however long it takes."""
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    with waitkit.subscribe(lambda record: looks.append(record.looks)):
        looks: list[int] = []
        with pytest.raises(WaitTimeout):
            wait_for(thread, "100ms")
    go.set()
    assert looks[0] <= 4


def test_popen(wait):
    """A ``Popen`` that has exited: pid and code."""
    with subprocess.Popen(["sh", "-c", "exit 5"]) as process:
        assert wait(process, LIMIT) == ProcessExit(process.pid, 5)
    assert str(wait(process, 0)) == "exit code 5"


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_multiprocessing_process(wait, method):
    """A ``multiprocessing.Process``: ended, though a grandchild holds its sentinel open."""
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=support.leave_grandchild, args=(theirs,))
    process.start()
    with ours, theirs:
        assert wait_for(ours, LIMIT) is ours
        grandchild = ours.recv()
        try:
            assert wait(process, LIMIT).code == 7
        finally:
            os.kill(grandchild, 9)
    process.join()
    process.close()


def test_psutil_and_pid(wait):
    """A ``psutil.Process`` and a bare pid; a zombie has ended, and so has what does not exist."""
    process = subprocess.Popen(["sleep", "infinity"])
    known, condition = psutil.Process(process.pid), process_exited(process.pid)
    with pytest.raises(WaitTimeout, match="last: still running"):
        wait(condition, "5ms")
    soon(process.kill)
    assert wait(known, LIMIT).pid == wait(condition, LIMIT).pid == process.pid
    process.wait()
    assert wait(process_exited(process.pid), 0).code is None


def test_multiprocessing_event(wait):
    """A ``multiprocessing.Event`` set by another process."""
    context = multiprocessing.get_context("spawn")
    event = context.Event()
    process = context.Process(target=support.set_shared, args=(event,))
    process.start()
    assert wait(event, LIMIT) is True
    wait_for(process, LIMIT)
    process.join()


def test_descriptors(wait):
    """Connections, sockets and pipes that can be read, or have ended."""
    left, right = socket.socketpair()
    with left, right:
        soon(lambda: right.send(b"x"))
        assert wait(left, LIMIT) is left
    reader, writer = os.pipe()
    soon(lambda: os.close(writer))
    assert wait(readable(reader), LIMIT) == reader
    os.close(reader)
    with open(__file__) as regular:
        assert wait(readable(regular), LIMIT) is regular


def test_a_number_that_came_back():
    """A descriptor closed under a waiter, whose number comes back as another file, is watched anew by the next who comes."""
    left, right = socket.socketpair()
    number = left.fileno()
    beside = readable(number) | waitkit.Event()  # so that it is the thread of all descriptors that waits
    stale = Running(wait_for, beside, None)
    until(lambda: rests(stale))
    other, end = socket.socketpair()
    os.dup2(other.fileno(), number)  # closes the one and puts the other in its place
    soon(lambda: end.send(b"x"))
    assert wait_for(beside, LIMIT).value == number
    assert stale.result().value == number
    for sock in (left, right, other, end):
        sock.close()


def test_notified(wait):
    """A predicate is looked at when its condition is notified, and not otherwise."""
    condition, looks, ready = threading.Condition(), [], []

    def change() -> None:
        with condition:
            ready.append(1)
            condition.notify_all()

    soon(change)
    assert wait(notified(condition, lambda: looks.append(1) or list(ready)), LIMIT) == [1]
    assert len(looks) <= 4


def test_value(wait):
    """A value that satisfies a predicate, or equals another; a false value is returned like any."""
    level = Value(3, "level")
    soon(lambda: level.set(0))
    assert wait(level.equals(0), LIMIT) == 0
    with pytest.raises(WaitTimeout, match=r"waiting for level to satisfy lambda v: v > 3: .*last: 0"):
        wait(level.satisfies(lambda v: v > 3), "5ms")


async def _coroutine_function() -> bool:
    return True


def _generator_function():
    yield True


class _Called:
    async def __call__(self) -> bool:
        return True


@pytest.mark.parametrize(
    "always_true",
    [
        _coroutine_function,
        _generator_function,
        functools.partial(_coroutine_function),
        _Called(),
        _Called,
        threading.Event,
        (x for x in ()),
        lambda x: x,
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_would_always_be_true_is_refused(always_true):
    """What is true whatever happens, and what cannot be called, is refused when it is written."""
    with pytest.raises(TypeError, match=r"always (be )?true|needs arguments"):
        wait_for(always_true)


def test_a_returned_coroutine_is_refused():
    """A plain function that returns a coroutine is found out at its first look."""
    with pytest.raises(TypeError, match="returned a coroutine, which is always true"):
        wait_for(lambda: _coroutine_function())


def test_hooks_work_here():
    """On this interpreter nothing of the standard library has to be polled for want of a hook."""
    assert waitkit.engine.signals.ConditionHook.works_on(threading.Condition())
    assert sys.version_info >= (3, 11)
