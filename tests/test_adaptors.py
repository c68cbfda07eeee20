"""Adaptors where it gets hard: shared processes, threads that end otherwise, locks held by others, what is always true."""

from __future__ import annotations

import copy
import gc
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from unittest.mock import MagicMock, Mock

import pytest
from support import LIMIT, Running, python, rests, together, until, waiters

from waitkit import Value, WaitTimeout, notified, path_exists, readable, wait_for


def lingering():
    """A process that ends when its standard input does."""
    return subprocess.Popen([sys.executable, "-S", "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)


def test_many_threads_wait_for_one_process():
    """Fifty threads that wait for one process all get its exit code, though only one of them can reap it."""
    with lingering() as process:
        waiting = [Running(wait_for, process, LIMIT) for _ in range(50)]
        with pytest.raises(WaitTimeout):
            wait_for(process, "20ms")
        process.stdin.close()
        assert {running.result().code for running in waiting} == {0}


def test_many_threads_wait_for_one_thread():
    """All who wait for a thread are woken by its end, and one hook serves them."""
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    waiting = [Running(wait_for, thread, LIMIT) for _ in range(50)]
    thread.start()
    until(lambda: len(thread.__dict__["_delete"].signal) == 50)
    leave.set()
    assert {running.result() for running in waiting} == {thread}
    assert len(thread.__dict__["_delete"].signal) == 0


def test_threads_that_end_as_they_are_awaited():
    """A thread that ends at any moment of the beginning wait is noticed."""

    def rounds():
        for _ in range(300):
            thread = threading.Thread(target=int)
            thread.start()
            assert wait_for(thread, LIMIT) is thread

    together(rounds, rounds)


def test_the_main_thread_ends():
    """A thread that waits for the main thread is woken when that ends, and does not keep the interpreter for ever."""
    done = python("""
        import faulthandler, threading
        from waitkit import after, wait_for
        faulthandler.dump_traceback_later(4, exit=True)  # a hang would be one of the interpreter's end
        wait_for(after("1ms"))
        armed = threading.Event()
        def last():
            armed.set()
            wait_for(threading.main_thread(), None)
            print("ended")
        threading.Thread(target=last).start()
        armed.wait()
        wait_for(after("100ms"))
        """)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr


def test_a_process_whose_exit_nobody_keeps():
    """A process reaped by somebody else (here: the kernel) has ended: its waiter neither hangs nor keeps a processor busy."""
    done = python("""
        import multiprocessing, os, signal, threading
        from waitkit import WaitTimeout, after, subscribe, wait_for
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        reader, writer = os.pipe()
        process = multiprocessing.get_context("fork").Process(target=os.read, args=(reader, 1))
        process.start()
        threading.Thread(target=lambda: (wait_for(after("50ms")), os.write(writer, b"x"))).start()
        with subscribe(lambda record: record.what.startswith("process") and print(record.outcome, record.looks < 100)):
            try:
                wait_for(process, "1s")
            except WaitTimeout:
                pass
        """)
    assert done.stdout == "held True\n", done.stderr


def test_a_thread_holding_a_condition_does_not_hold_up_others():
    """A wait for a notified condition goes on looking while nobody holds its lock, and takes no wake-up from a real waiter."""
    condition, flag = threading.Condition(), []

    def real():
        with condition:
            return condition.wait(LIMIT)

    watching = [Running(wait_for, notified(condition, lambda: flag), LIMIT) for _ in range(10)]
    until(lambda: waiters(condition) == 10)
    waiting = Running(real)
    until(lambda: waiters(condition) == 11)
    with condition:
        condition.notify()
    assert waiting.result() is True
    flag.append(1)
    with condition:
        condition.notify()
    for running in watching:
        assert running.result() == [1]


@pytest.mark.parametrize("moment", [2, 3, 4])
def test_a_change_right_after_it_was_judged(moment):
    """What changes after the predicate has judged, and before the thread rests, is heard: in each look after the first."""
    condition, flag, looks = threading.Condition(), [], []

    def judges_too_early():
        judged = list(flag)
        looks.append(1)
        with condition:
            if len(looks) == moment:
                flag.append(1)
            if len(looks) <= moment:
                condition.notify()
        return judged

    # no limit: the last look at a deadline would make good what was lost
    waiting = Running(wait_for, notified(condition, judges_too_early), None)
    assert waiting.result() == [1]
    assert len(looks) == moment + 1


@pytest.mark.parametrize("moment", [2, 3, 4])
def test_a_value_that_changes_right_after_it_was_judged(moment):
    """The same for a Value: a set between the judgement and the rest is heard."""
    value, looks = Value(0), []

    def judges_too_early(current):
        looks.append(1)
        if len(looks) == moment:
            value.set(moment)
        elif len(looks) < moment:
            value.set(0)
        return current

    assert Running(wait_for, value.satisfies(judges_too_early), None).result() == moment


def test_a_lock_held_by_another_thread_does_not_prolong_a_wait():
    """A wait ends at its deadline, though another thread holds the lock of the condition it listened to."""
    condition, inside, leave = threading.Condition(), threading.Event(), threading.Event()

    def holds():
        with condition:
            inside.set()
            leave.wait(LIMIT)

    def waits():
        with pytest.raises(WaitTimeout):
            wait_for(notified(condition, lambda: False), "10ms")

    holding = Running(holds)
    assert inside.wait(LIMIT)
    waiting = Running(waits)
    waiting.thread.join(3)  # three hundred times its limit
    in_time = not waiting.thread.is_alive()
    leave.set()
    waiting.result()
    holding.result()
    assert in_time


def test_a_held_lock_collects_nothing():
    """Waits that end while somebody holds the lock leave nothing in the condition."""
    condition = threading.Condition()

    def times_out(limit):
        with pytest.raises(WaitTimeout):
            wait_for(notified(condition, lambda: False), limit)

    with condition:
        for _ in range(50):
            Running(times_out, "1ms").result()
    assert waiters(condition) == 0


def test_a_lock_held_after_a_notify_does_not_prolong_a_wait():
    """A wait that was notified goes on listening, and ends at its deadline, though the notifier keeps the lock."""
    condition = threading.Condition()

    def waits():
        with pytest.raises(WaitTimeout):
            wait_for(notified(condition, lambda: False), "1s")

    waiting = Running(waits)
    until(lambda: waiters(condition))
    with condition:
        condition.notify_all()
        waiting.thread.join(LIMIT)
        assert not waiting.thread.is_alive()


@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_notify_for_others_is_heard(before):
    """Who comes when others stand in ``condition.wait()`` already hears each ``notify(1)`` that goes to one of them."""
    condition, flag, looks = threading.Condition(), [], []

    def real():
        with condition:
            return condition.wait(LIMIT)

    waiting = [Running(real) for _ in range(before)]
    until(lambda: waiters(condition) == before)
    # no limit: the last look at a deadline would make good what was lost
    watching = Running(wait_for, notified(condition, lambda: looks.append(1) or len(flag) == 3), None)
    until(lambda: rests(watching))
    for heard in range(1, 4):
        seen = len(looks)
        with condition:
            flag.append(1)
            condition.notify()
        until(lambda seen=seen: len(looks) > seen)
        assert len(condition._waiters) == max(0, before - heard)
    watching.result()
    for running in waiting:
        assert running.result() is True


def test_a_notify_that_is_refused_tells_nobody_less():
    """A notify without the lock is refused as ever, and those after it are heard."""
    condition, flag = threading.Condition(), []
    watching = Running(wait_for, notified(condition, lambda: flag), LIMIT)
    until(lambda: waiters(condition))
    with pytest.raises(RuntimeError, match="un-acquired lock"):
        condition.notify()
    flag.append(1)
    with condition:
        condition.notify_all()
    assert watching.result() == [1]


def test_a_condition_with_a_notify_of_its_own():
    """One that has its ``notify`` replaced, in its class or itself, keeps it, and is looked at."""

    class Other(threading.Condition):
        def notify(self, n=1):
            super().notify(n)

    replaced = threading.Condition()
    replaced.notify = calls = lambda n=1: None
    for condition in (Other(), replaced):
        with pytest.raises(WaitTimeout) as caught:
            wait_for(notified(condition, lambda: False), "50ms")
        assert caught.value.looks > 5
    assert replaced.notify is calls


def test_listening_keeps_nothing_alive():
    """A condition that was listened to goes away with its last reference, without a garbage collection."""
    condition = threading.Condition()
    gone = weakref.ref(condition)
    with pytest.raises(WaitTimeout):
        wait_for(notified(condition, lambda: False), 0.001)
    gc.disable()
    try:
        del condition
        assert gone() is None
    finally:
        gc.enable()


def test_ignore_concerns_the_predicate_of_notified():
    """The predicate of notified() is treated as any callable: what is ignored means "not yet"."""
    with pytest.raises(WaitTimeout):
        wait_for(notified(threading.Condition(), lambda: {}["no"]), "1ms", ignore=KeyError)


async def _always_true(value):
    return False


def test_a_coroutine_function_is_no_predicate():
    """A predicate that gives a coroutine, which is always true, is refused when it is written."""
    with pytest.raises(TypeError, match="_always_true"):
        Value(1).satisfies(_always_true)


def test_a_class_is_no_condition():
    """The class of something that adapts is refused by name, as any other class."""
    with pytest.raises(TypeError, match=r"socket.* is (a class|not a condition)"):
        wait_for(socket.socket, 0)


def test_the_empty_path_is_no_path():
    """An empty text, as an unset variable gives it, is refused: it would always exist."""
    with pytest.raises(ValueError, match="''"):
        path_exists("")


def test_a_number_beyond_all_descriptors_is_refused():
    """A number that can be no descriptor is refused with its value."""
    with pytest.raises((ValueError, OSError), match=str(10**30)):
        wait_for(readable(10**30), 0)


if sys.version_info >= (3, 13):

    def test_a_queue_that_is_shut_down():
        """A queue that is shut down ends the wait: its ``get`` raises at once, and nothing will ever come."""
        items = queue.Queue()
        waiting = Running(wait_for, items, LIMIT)
        until(lambda: waiters(items.not_empty) == 1)
        items.shutdown()
        assert waiting.result() is items


def test_a_mock_is_called():
    """A mock has whatever it is asked for, a ``fileno()`` too: it is a callable all the same."""
    for answers in (Mock, MagicMock):
        looked = answers(side_effect=[0, 0, "here"])
        assert wait_for(looked, LIMIT) == "here"
        assert looked.call_count == 3


def test_what_passes_fileno_on_is_a_descriptor():
    """A wrapper that hands each attribute on has the descriptor of what it wraps."""
    with tempfile.NamedTemporaryFile() as file:
        assert wait_for(file, LIMIT) is file


def test_a_copy_of_a_condition():
    """A shallow copy, which has the lock and the waiters of the original, works on when that is gone."""
    condition = threading.Condition()
    with pytest.raises(WaitTimeout):
        wait_for(notified(condition, lambda: False), "1ms")
    other = copy.copy(condition)
    del condition

    def waits():
        with other:
            return other.wait(LIMIT)

    waiting = Running(waits)
    until(lambda: len(other._waiters))
    with other:
        other.notify()
    assert waiting.result() is True
