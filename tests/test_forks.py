"""Forks: a child begins afresh, and a wait that forks from inside goes on in both."""

from __future__ import annotations

import multiprocessing
import os
import queue
import subprocess
import sys
import threading
from concurrent.futures import Future

import pytest
from support import LIMIT, Running, end_if_it_hangs, expect_exit, in_child, rests, until, waiters

from waitkit import (
    CancelScope,
    Event,
    Value,
    WaitTimeout,
    after,
    all_of,
    any_of,
    notified,
    process_exited,
    readable,
    wait_for,
)
from waitkit.engine import descriptors as engine
from waitkit.engine import forks, timers
from waitkit.engine.clock import now
from waitkit.engine.parking import Parker


def watched():
    """How many descriptors the thread of this process watches."""
    return len(engine._descriptors._subscribed)


def use_everything():
    """Wait for one of each kind; in a child this shows that nothing of the parent stands in the way."""
    assert wait_for(after("1ms"), LIMIT)
    for kind in (Event, threading.Event):
        event = kind()
        other = Running(wait_for, event, LIMIT)
        event.set()
        other.result()
    reader, writer = os.pipe()
    waiting = Running(wait_for, any_of(readable(reader), Event()), LIMIT)
    alone = Running(wait_for, readable(reader), LIMIT)
    until(lambda: engine._descriptors._selector is not None and rests(alone))
    os.write(writer, b"x")
    waiting.result()
    alone.result()
    process = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(3)"])
    assert wait_for(process, LIMIT).code == 3
    done = Event()
    timers.call_at(now() + 1_000_000, done.set)
    assert wait_for(done, LIMIT)
    thread = threading.Thread(target=int)
    thread.start()
    assert wait_for(thread, LIMIT) is thread


def test_a_child_can_use_everything_while_others_wait_in_the_parent():
    """A child forked while other threads of the parent wait for everything can itself wait for everything."""
    event, plain, items, future = Event(), threading.Event(), queue.Queue(), Future()
    reader, writer = os.pipe()
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    either = any_of(readable(reader), process_exited(process), Event())
    awaited = [event, plain, items, future, readable(reader), process, either]
    waiting = [Running(wait_for, thing, LIMIT) for thing in awaited]
    tick = Event()
    timers.call_at(now() + 10**9, tick.set)
    until(
        lambda: len(event._signal) and waiters(plain._cond) and waiters(future._condition) and waiters(items.not_empty)
    )
    until(lambda: watched() >= 2)

    in_child(use_everything)

    event.set()
    plain.set()
    items.put(1)
    future.set_result(1)
    os.write(writer, b"x")
    process.communicate(b"\n")
    for running in waiting:
        running.result()
    wait_for(tick, LIMIT)
    os.close(reader)
    os.close(writer)


def test_setting_in_the_child_what_the_parents_threads_wait_for():
    """Setting, in the child, what threads of the parent wait for disturbs nobody, in child or parent."""
    event, plain, value = Event(), threading.Event(), Value(0)
    waiting = [Running(wait_for, thing, LIMIT) for thing in (event, plain, value.equals(1))]
    until(lambda: len(event._signal) and waiters(plain._cond) and len(value._signal))

    def child():
        event.set()
        plain.set()
        value.set(1)
        assert wait_for(all_of(event, plain, value.equals(1)), 1)
        plain.clear()
        other = Running(wait_for, plain, LIMIT)
        until(lambda: waiters(plain._cond))
        plain.set()
        other.result()

    in_child(child)
    assert all(running.thread.is_alive() for running in waiting), "the child's events are its own"
    event.set()
    plain.set()
    value.set(1)
    for running in waiting:
        running.result()


def test_a_condition_that_forks_goes_on_in_both():
    """A wait whose condition forks in a later look goes on, and ends by a wake-up of its own, in parent and child."""
    event, pid = Event(), []

    def forks_in_its_third_look():
        forks_in_its_third_look.looks += 1
        if forks_in_its_third_look.looks == 3:
            pid.append(os.fork())
            Running(lambda: (wait_for(after("20ms")), event.set()))
        return False

    forks_in_its_third_look.looks = 0
    try:
        held = wait_for(any_of(event, forks_in_its_third_look), LIMIT)
    except BaseException:
        if pid == [0]:
            os._exit(1)
        raise
    if pid == [0]:
        os._exit(0 if held.position == 0 and len(event._signal) == 0 else 2)
    assert held.position == 0
    expect_exit(pid[0])
    assert len(event._signal) == 0


@pytest.mark.parametrize("kind", ["event", "plain", "pipe", "process", "queue", "scope"])
def test_a_forking_wait_hears_again_in_the_child(kind):
    """In the child, a wait under way subscribes anew: each kind of wake-up reaches it there without polling."""
    event, plain, items, scope = Event(), threading.Event(), queue.Queue(), CancelScope()
    condition = threading.Condition()
    reader, writer = os.pipe()
    process = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    awaited, happens = {
        "event": (event, event.set),
        "plain": (plain, plain.set),
        "queue": (items, lambda: items.put(1)),
        "pipe": (readable(reader), lambda: os.write(writer, b"x")),
        "process": (process_exited(process.pid), lambda: process.stdin.write(b"\n") + (process.stdin.flush() or 0)),
        "scope": (Event(), scope.cancel),
    }[kind]
    pid, looks = [], []

    def forks():
        looks.append(1)
        if len(looks) == 2:
            pid.append(os.fork())
            if pid == [0]:
                end_if_it_hangs(LIMIT)
                Running(lambda: (wait_for(after("30ms")), happens()))
        return bool(pid) and pid != [0]  # the parent is done; the child waits for the rest

    try:
        with scope:
            # looked at only when something happens, and without a limit: neither polling nor a last look at the
            # deadline makes good what is lost
            wait_for(any_of(awaited, notified(condition, forks)), None)
    except BaseException:
        if pid == [0]:
            os._exit(1)
        raise
    if pid == [0]:
        os._exit(0 if scope.cancelled_caught == (kind == "scope") and len(looks) < 12 else 2)
    expect_exit(pid[0])
    process.communicate(b"\n")
    os.close(reader)
    os.close(writer)


def test_a_parker_of_the_parent_ignores_the_childs_wake_ups():
    """A wake-up for a thread that stayed in the parent does nothing in the child, and the parent's still arrives."""
    parker = Parker()
    resting = Running(parker.park, None)
    in_child(parker.unpark)
    assert resting.thread.is_alive()
    parker.unpark()
    assert resting.result() is True


def test_a_lock_held_at_the_fork_does_not_stop_the_child():
    """A child whose wait listened to a descriptor goes on, even where the listening thread held its lock at the fork."""
    reader, writer = os.pipe()
    inside, leave, pid, looks = threading.Event(), threading.Event(), [], []
    owner, holding = engine._descriptors, []

    def holds():
        with owner._lock:
            inside.set()
            assert leave.wait(LIMIT)

    def forks():
        looks.append(1)
        if len(looks) == 3:
            holding.append(Running(holds))
            assert inside.wait(LIMIT)
            pid.append(os.fork())
            if pid == [0]:
                end_if_it_hangs(3)
            leave.set()
        return len(looks) > 5

    code = 1
    try:
        wait_for(any_of(readable(reader), forks), None)
        code = 0
    finally:
        if pid == [0]:
            os._exit(code)
    holding[0].result()
    os.close(reader)
    os.close(writer)
    expect_exit(pid[0])


def test_a_child_inherits_no_descriptors_of_the_engine():
    """The selector and its pipe are closed in the child."""
    reader, writer = os.pipe()
    waiting = Running(wait_for, any_of(readable(reader), Event()), LIMIT)
    until(watched)
    ours = engine._descriptors
    mine = {fd: _opened(fd) for fd in ours.own()}

    def child():
        assert [fd for fd in mine if _opened(fd) == mine[fd]] == []

    in_child(child)
    os.write(writer, b"x")
    waiting.result()
    os.close(reader)
    os.close(writer)


def _opened(fd):
    """What the kernel says a descriptor is; ``None``: closed."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None


def test_a_child_of_a_child():
    """A grandchild begins afresh as well, and each fork is another generation."""
    generation = forks.generation()

    def child():
        use_everything()
        assert forks.generation() == generation + 1
        in_child(use_everything)

    in_child(child)
    assert forks.generation() == generation


def test_a_thread_of_the_parent_has_ended_in_the_child():
    """In the child a thread of the parent does not run: waiting for it ends."""
    leave = threading.Event()
    running = Running(leave.wait, LIMIT)
    with pytest.raises(WaitTimeout):
        wait_for(running.thread, "5ms")
    in_child(lambda: wait_for(running.thread, LIMIT))
    leave.set()
    running.result()


def test_multiprocessing_by_fork_works_inside_a_scope():
    """A process of multiprocessing, started by fork while waits go on, waits for its own events."""
    event = Event()
    waiting = Running(wait_for, event, LIMIT)
    until(lambda: len(event._signal))
    process = multiprocessing.get_context("fork").Process(target=use_everything)
    process.start()
    assert wait_for(process, 2 * LIMIT).code == 0
    event.set()
    waiting.result()
