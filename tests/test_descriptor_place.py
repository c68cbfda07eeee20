"""A wait that only descriptors can end: its thread asks the kernel itself, and nothing is lost by that."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from itertools import count

import pytest
from children import nothing_left  # noqa: F401
from support import LIMIT, Running, ctrl_c_when, expect_exit, handler, nudges, rests, send_to_main, until

from waitkit import (
    CancelScope,
    WaitTimeout,
    after,
    all_of,
    any_of,
    fail_after,
    managed_process,
    process_exited,
    readable,
    subscribe,
    virtual_clock,
    wait_for,
)
from waitkit.engine import descriptor_place
from waitkit.engine.descriptor_place import DescriptorPlace
from waitkit.engine.frames import current_frames

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="there are no pidfds here"),
]

CODE = DescriptorPlace.rest.__code__


def rests_alone(running: Running) -> bool:
    """Whether the thread of *running* rests at its descriptors, with no other thread in between."""
    frame = current_frames().get(running.thread.ident or 0)
    return frame is not None and frame.f_code is CODE


@pytest.fixture
def program():
    """A program that runs until its input ends."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def engine_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("waitkit-")}


@pytest.mark.parametrize("limit", [None, "1h", "60d"])
def test_no_other_thread_is_needed(program, limit):
    """The end of a process wakes its waiter, whatever the limit, and no thread was started for that."""
    before = engine_threads()
    waiting = Running(wait_for, process_exited(program), limit)
    until(lambda: rests_alone(waiting))
    assert engine_threads() <= before
    program.kill()
    assert waiting.result().code == -signal.SIGKILL


def test_beyond_what_poll_can_count(program, monkeypatch):
    """A limit of months is rested for in slices, in each of which the end of the process is heard."""
    monkeypatch.setattr(descriptor_place, "_LONGEST", 2)
    ended_early, plain = threading.Event(), DescriptorPlace.rest

    def rest(place, until):
        woken = plain(place, until)
        if not woken:
            ended_early.set()
        return woken

    monkeypatch.setattr(DescriptorPlace, "rest", rest)
    waiting = Running(wait_for, process_exited(program), "1h")
    assert ended_early.wait(LIMIT)
    program.kill()
    assert waiting.result().code == -signal.SIGKILL


def test_conditions_of_several_descriptors():
    """Any or all of several descriptors, ``unless`` among them, are rested at together; the same one twice, too."""
    one, one_writer = os.pipe()
    two, two_writer = os.pipe()
    try:
        anyone = Running(wait_for, any_of(readable(one), readable(two)), LIMIT)
        both = Running(wait_for, all_of(readable(one), readable(one), readable(two)), LIMIT)
        against = Running(lambda: wait_for(readable(one), LIMIT, unless=readable(two)))
        until(lambda: all(map(rests_alone, (anyone, both, against))))
        os.write(one_writer, b"x")
        assert anyone.result().value == against.result() == one
        os.write(two_writer, b"x")
        both.result()
    finally:
        for fd in (one, one_writer, two, two_writer):
            os.close(fd)


@pytest.mark.parametrize("limit", ["700us", "1ms", "2500us", "7ms"])
def test_the_last_look_is_at_the_deadline(program, limit):
    """poll() counts whole milliseconds: the wait ends at its limit, not before, with one look there."""
    with pytest.raises(WaitTimeout) as caught:
        wait_for(program, limit)
    assert caught.value.elapsed >= caught.value.facts.limit
    assert caught.value.looks <= 4


def test_a_scope_is_rested_for_elsewhere(program):
    """Where somebody can cancel the wait, its thread rests where it can be woken."""
    scope = CancelScope()

    def work() -> None:
        with scope:
            wait_for(program, None)

    waiting = Running(work)
    until(lambda: rests(waiting))
    assert not rests_alone(waiting)
    scope.cancel()
    waiting.result()
    assert scope.cancelled_caught
    with pytest.raises(WaitTimeout), fail_after("10ms"):
        wait_for(program, None)


def main_rests() -> bool:
    return current_frames()[threading.main_thread().ident].f_code is CODE


def test_ctrl_c_ends_the_rest(program):
    """KeyboardInterrupt comes out of such a wait at once, and leaves nothing behind."""
    with ctrl_c_when(main_rests), pytest.raises(KeyboardInterrupt):
        wait_for(program, None)


def test_a_handler_that_ends_what_is_awaited(program):
    """A signal handler that kills the process awaited by the thread it interrupts ends that wait."""
    heard = threading.Event()
    with nudges(), handler(signal.SIGUSR1, lambda: (program.kill(), heard.set())):
        sending = Running(lambda: (until(main_rests), send_to_main(signal.SIGUSR1, heard)))
        assert wait_for(program, LIMIT).code == -signal.SIGKILL
        sending.result()


def test_progress_is_told(program):
    """Who listens to progress hears of the wait while it goes on, and of the wake-up at its end: nothing was overshot."""
    told, records = threading.Event(), []
    with subscribe(records.append, on_progress=lambda _: told.set(), progress_after="1ms"):
        waiting = Running(wait_for, process_exited(program), LIMIT)
        assert told.wait(LIMIT)
        program.kill()
        waiting.result()
    [record] = [record for record in records if "exit" in record.what and record.outcome == "held"]
    assert record.overshoot < (record.end - record.start) // 2
    assert record.looks <= 4, "who is told of progress makes nobody look more often"


def test_a_fork_inside(program):
    """A look that forks goes on in both: the child rests at descriptors of its own."""
    looks, pids = count(), []
    reader, writer = os.pipe()

    def forks() -> bool:
        if next(looks) == 2:
            pids.append(os.fork())
            if pids == [0]:
                os.write(writer, b"x")
        return False

    code = 1
    try:
        wait_for(any_of(readable(reader), forks), LIMIT)
        wait_for(readable(reader), LIMIT)
        code = 0
    finally:
        if pids == [0]:
            os._exit(code)
    expect_exit(pids[0])
    os.close(reader)
    os.close(writer)


def test_virtual_time_counts_it_as_at_rest(program):
    """A thread that rests so since before the block does not hold up virtual time, and ends when its process does."""
    waiting = Running(wait_for, process_exited(program), None)
    until(lambda: rests_alone(waiting))
    with virtual_clock(grace="1h") as clock:
        wait_for(after("1d"), None)
        assert clock.elapsed == 86_400
        program.kill()
    assert waiting.result().code == -signal.SIGKILL


def test_a_managed_process_is_awaited_so():
    """The end of a managed process needs the thread of the descriptors for its output alone."""
    with managed_process(["sleep", "infinity"]) as process:
        waiting = Running(wait_for, process.exited, LIMIT)
        until(lambda: rests_alone(waiting))
        process.send_signal(signal.SIGKILL)
        assert waiting.result().code == -signal.SIGKILL
