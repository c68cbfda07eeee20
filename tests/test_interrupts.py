"""Ctrl-C, other signals, forks and the end of the interpreter, each in the middle of a wait."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from support import LIMIT, expect_exit, handler, in_child, nudges, python, send_to_main, until, waiters

import waitkit
from waitkit import CancelScope, any_of, managed_process, process_exited, wait_for


def _at_rest(look, then) -> threading.Thread:
    """Call *then* from another thread when the main thread has subscribed."""

    def run() -> None:
        until(look)
        then()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("limit", [None, "1h"])
def test_ctrl_c_ends_a_wait(limit):
    """KeyboardInterrupt comes out of a wait of the main thread at once, and nothing stays subscribed."""
    event, heard = threading.Event(), threading.Event()
    previous = signal.signal(signal.SIGINT, lambda *_: (heard.set(), signal.default_int_handler(signal.SIGINT, None)))
    try:
        with nudges():
            thread = _at_rest(lambda: waiters(event._cond), lambda: send_to_main(signal.SIGINT, heard))
            with pytest.raises(KeyboardInterrupt):
                wait_for(event, limit)
            thread.join()
    finally:
        signal.signal(signal.SIGINT, previous)
    assert waiters(event._cond) == 0


def test_a_handler_sets_what_it_interrupts():
    """A signal handler may set the very event, or cancel the very scope, that the interrupted thread waits for."""
    own, heard = waitkit.Event(), threading.Event()
    with nudges(), handler(signal.SIGUSR1, lambda: (own.set(), heard.set())):
        thread = _at_rest(lambda: len(own._signal), lambda: send_to_main(signal.SIGUSR1, heard))
        assert wait_for(own, LIMIT) is True
        thread.join()
    scope, heard = CancelScope(), threading.Event()
    with nudges(), handler(signal.SIGUSR1, lambda: (scope.cancel(), heard.set())):
        thread = _at_rest(lambda: len(scope.changed), lambda: send_to_main(signal.SIGUSR1, heard))
        with scope:
            wait_for(waitkit.Event(), LIMIT)
        thread.join()
    assert scope.cancelled_caught


def test_fork_while_another_thread_waits():
    """In a child forked while a thread of the parent waits, everything works: that thread is not there."""
    event, own = threading.Event(), waitkit.Event()
    thread = threading.Thread(target=wait_for, args=(event | own, None))
    thread.start()
    until(lambda: len(own._signal))

    def child() -> None:
        own.set()  # its subscriber is the parent's thread: nobody to wake, nothing to block on
        own.clear()
        threading.Timer(0.01, own.set).start()
        assert wait_for(own, LIMIT)
        with managed_process(["sleep", "infinity"]) as process:
            pass
        assert process.exit_code == -signal.SIGTERM

    in_child(child)
    assert not own.is_set()
    event.set()
    thread.join(LIMIT)


def test_fork_while_a_process_is_awaited():
    """A child forked while the descriptor thread is at work has one of its own, and disturbs not the parent's."""
    with managed_process(["sleep", "infinity"]) as process:
        thread = threading.Thread(target=wait_for, args=(process.exited, None))
        thread.start()
        until(lambda: any(thread.name == "waitkit-descriptors" for thread in threading.enumerate()))

        def child() -> None:
            with managed_process(["true"]) as other:
                wait_for(other.exited, LIMIT)

        in_child(child)
        process.send_signal(signal.SIGKILL)
        thread.join(LIMIT)
        assert not thread.is_alive()


def test_a_condition_that_forks():
    """A wait whose condition forks goes on in both processes, with what it has subscribed to."""
    own, forked = waitkit.Event(), []

    def fork_once() -> bool:
        if not forked:
            forked.append(os.fork())
            threading.Timer(0.01, own.set).start()
        return False

    looks_twice = wait_for(any_of(fork_once, own), LIMIT)
    if forked[0] == 0:
        os._exit(0 if looks_twice.position == 1 else 1)
    expect_exit(forked[0])
    assert looks_twice.position == 1


def test_a_foreign_pid_is_awaited():
    """A forked child is awaited by its pid; as only its parent may, we learn no exit code from that, and reap it later."""
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    assert wait_for(process_exited(pid), LIMIT).pid == pid
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3


def test_at_the_end_of_the_interpreter():
    """Waits work in exit handlers: for events, time and processes, though no thread can be started there any more."""
    done = python(
        """
        import atexit, subprocess, threading
        from waitkit import Event, after, wait_for

        event = Event()
        def last():
            wait_for(after("5ms"))
            event.set()
            wait_for(event)
            print(wait_for(subprocess.Popen(["sh", "-c", "exit 4"])).code)
        atexit.register(last)
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n", "")


def test_daemon_threads_that_wait_do_not_hold_the_interpreter():
    """Daemon threads in waits of every kind neither hang the end of the interpreter nor write anything."""
    done = python(
        """
        import subprocess, sys, threading
        from waitkit import Event, Value, wait_for
        child = subprocess.Popen(["sleep", "infinity"])
        value = Value(0)
        for condition in (Event(), threading.Event(), child, value.equals(1), lambda: False):
            threading.Thread(target=wait_for, args=(condition, None), daemon=True).start()
        wait_for(lambda: threading.active_count() >= 6)
        child.kill()
        child.wait()
        """,
        "-W",
        "ignore",
    )
    assert (done.returncode, done.stderr) == (0, "")
