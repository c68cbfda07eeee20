"""What ends pollers from outside: signals, the end of the interpreter, a fork; and what does not."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from support import LIMIT, Running, in_child, python, until

from waitkit import polling, stop_pollers_on, wait_for


def test_importing_starts_nothing():
    """Importing and decorating starts no thread; nor does a poller that was never started."""
    done = python(
        """
        import threading
        from waitkit import polling, polls_every

        @polls_every("1s")
        def job(): ...

        polling(job, 1)
        assert threading.active_count() == 1
        """
    )
    assert done.returncode == 0, done.stderr


def test_sigterm_stops_all():
    """The first SIGTERM lets no further run begin and the run in progress end; the program goes on to its own end."""
    done = python(
        """
        import os, signal
        from waitkit import Event, polling, stop_pollers_on, wait_for

        stop_pollers_on(signal.SIGTERM, signal.SIGINT)
        began, gate = Event(), Event()

        def job():
            began.set()
            wait_for(gate, None)
            print("the run ended", flush=True)

        resting = polling(lambda: None, "1h").start()
        running = polling(job, "1us").start()
        wait_for(began)
        os.kill(os.getpid(), signal.SIGTERM)
        resting.join("10s")
        assert running.state == "stopping", running.state
        gate.set()
        print(running.join("10s").runs)
        """
    )
    assert (done.returncode, done.stdout) == (0, "the run ended\n1\n"), done.stderr


def test_the_second_signal_does_what_it_did_before():
    """A run that does not end does not keep the process from being ended by a second signal."""
    done = python(
        """
        import os, signal, threading
        from waitkit import polling, stop_pollers_on, wait_for

        stop_pollers_on(signal.SIGTERM)
        began = threading.Event()

        def job():
            began.set()
            threading.Event().wait()

        poller = polling(job, "1us").start()
        wait_for(began)
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(lambda: poller.state == "stopping")
        os.kill(os.getpid(), signal.SIGTERM)
        poller.join()
        """
    )
    assert done.returncode == -signal.SIGTERM, done.stderr


def test_ctrl_c_in_join():
    """Ctrl-C ends a join() at once; the block then stops the poller."""
    done = python(
        """
        import os, signal
        from waitkit import Event, polling, wait_for

        joining = Event()

        def job():
            wait_for(joining)
            os.kill(os.getpid(), signal.SIGINT)

        try:
            with polling(job, "1h") as poller:
                joining.set()
                poller.join()
        except KeyboardInterrupt:
            print(poller.state)
        """
    )
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr


def test_ctrl_c_in_start(monkeypatch):
    """A start that is interrupted leaves no poller running, and nothing behind in its triggers."""
    event = threading.Event()

    def interrupted(task: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("waitkit.polls.runners.run_in_worker", interrupted)
    poller = polling(print, 1, trigger=event)
    with pytest.raises(KeyboardInterrupt):
        poller.start()
    assert poller.state == "stopped"
    assert len(event._cond._waiters) == 0


@pytest.mark.parametrize(("patience", "expected"), [('"20s"', "ended\n"), ("None", "")])
def test_the_end_of_the_interpreter(patience, expected):
    """At the end of the interpreter a run in progress is waited for where that was asked for, else cut off."""
    done = python(
        f"""
        import threading
        from waitkit import Event, polling, wait_for

        began, gate = Event(), Event()

        def job():
            began.set()
            wait_for(gate, None)
            print("ended", flush=True)

        poller = polling(job, "1us", stop_at_exit={patience}).start()
        wait_for(began)

        threading.Thread(target=lambda: (wait_for(lambda: poller.state == "stopping", None), gate.set()), daemon=True).start()
        """
    )
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


def test_an_exit_that_waits_too_long_says_so():
    """Where the run goes on beyond the patience given, the interpreter ends, with a warning that names the run."""
    done = python(
        """
        import threading
        from waitkit import polling, wait_for

        began = threading.Event()

        def job():
            began.set()
            threading.Event().wait()

        polling(job, 1, stop_at_exit="10ms").start()
        wait_for(began)
        """
    )
    assert done.returncode == 0
    assert "the interpreter ends, and timed out" in done.stderr
    assert "run 1 goes on since" in done.stderr


def test_a_forked_child_has_none_running():
    """In a forked child the pollers of the parent have stopped; it may start its own."""
    with polling(lambda: None, "1ms") as poller:
        until(poller.has_run(1))

        def child() -> None:
            assert poller.state == "stopped"
            poller.stop()
            with polling(lambda: None, "1ms") as own:
                wait_for(own.has_run(3), LIMIT)

        in_child(child)
        runs = poller.runs
        until(poller.has_run(runs + 2))


def test_a_run_that_forks():
    """A run may fork; the child ends where it says so, and the parent's poller goes on."""
    codes = []

    def job() -> None:
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    assert polling(job, "1ms", max_runs=3).start().join(LIMIT).failed_runs == 0
    assert codes == [7, 7, 7]


@pytest.mark.parametrize(
    ("signals", "kind", "message"),
    [
        ((), TypeError, "at least one signal"),
        ((signal.SIGUSR1, signal.SIGKILL), ValueError, "cannot have SIGKILL handled"),
        ((signal.SIGUSR1, signal.SIGSTOP), ValueError, "cannot have SIGSTOP handled"),
        ((signal.SIGUSR1, 9999), ValueError, "there is no signal 9999"),
        ((signal.SIGUSR1, "SIGTERM"), TypeError, "not 'SIGTERM'"),
        ((signal.SIGUSR1, None), TypeError, "not None"),
        ((signal.SIGUSR1, True), TypeError, "not True"),
    ],
)
def test_signals_that_cannot_be(signals, kind, message):
    """What is no signal, or cannot be handled, is refused by name, and no handler is installed then."""
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(kind, match=message):
        stop_pollers_on(*signals)
    assert signal.getsignal(signal.SIGUSR1) == before


def test_signals_are_handled_in_the_main_thread():
    """Elsewhere no handler can be installed; the error names the signal."""
    with pytest.raises(ValueError, match="SIGUSR1 handled only where it is called in the main thread"):
        Running(stop_pollers_on, signal.SIGUSR1).result()
    if hasattr(signal, "SIGRTMIN"):
        with pytest.raises(ValueError, match=f"signal {signal.SIGRTMIN + 1} handled only"):
            Running(stop_pollers_on, signal.SIGRTMIN + 1).result()


def test_a_signal_that_is_named_twice():
    """The handler of before is back after the first signal, however often it was named."""
    before = signal.getsignal(signal.SIGUSR1)
    stop_pollers_on(signal.SIGUSR1, signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    until(lambda: signal.getsignal(signal.SIGUSR1) == before)
