"""The pytest plugin: its fixtures, what it costs, and what it refuses."""

from __future__ import annotations

import os

import pytest
from plugin_runs import run_as_installed, run_tests
from support import python


def test_ports_are_reserved_for_a_test_and_for_the_session(pytester):
    """Each test has a port of its own, which nobody else gets while it runs; the session's is the same in all tests."""
    result = run_tests(
        pytester,
        """
        import socket
        import pytest

        ports, of_session = [], set()

        @pytest.mark.parametrize("turn", [1, 2])
        def test_port(reserved_port, session_reserved_port, turn):
            ports.append(reserved_port)
            of_session.add(session_reserved_port)
            for port in (reserved_port, session_reserved_port):
                with socket.socket() as other, pytest.raises(OSError):
                    other.bind(("127.0.0.1", port))

        def test_afterwards():
            assert len(of_session) == 1 and of_session.isdisjoint(ports)
            with socket.socket() as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                other.bind(("127.0.0.1", ports[-1]))
        """,
    )
    result.assert_outcomes(passed=3)


def test_processes_end_with_their_test(pytester):
    """What the factory started is ready when it returns, and gone after the test, the last one first, also of a failed test."""
    result = run_tests(
        pytester,
        """
        import sys
        import psutil, pytest
        from waitkit import ManagedProcess

        started, stopped = [], []
        really_stop = ManagedProcess.stop

        @pytest.fixture(autouse=True)
        def watch(monkeypatch):
            monkeypatch.setattr(ManagedProcess, "stop", lambda self: (stopped.append(self.pid), really_stop(self)))

        def test_starts(watch, managed_process):
            for _ in range(2):
                started.append(managed_process([sys.executable, "-S", "-c", "input()"]).pid)
            assert all(map(psutil.pid_exists, started))
            raise AssertionError("on purpose")

        def test_afterwards():
            assert stopped == started[::-1]
            assert not any(map(psutil.pid_exists, started))
        """,
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*on purpose*"])


TIMEOUT = ("pytest_timeout",)

LIMITED = """
    import pytest
    from waitkit import WaitTimeout

    @pytest.mark.timeout({timeout}{options})
    def test_limited(wait_for):
        with pytest.raises(WaitTimeout) as caught:
            wait_for(lambda: None{given})
        limit, notes = caught.value.facts.limit, getattr(caught.value, "__notes__", [])
        print("limit", limit, "notes", notes)
        assert {expected}
"""


@pytest.mark.parametrize(
    ("timeout", "given", "options", "expected"),
    [
        pytest.param(2, "", "", "0.3 < limit < 2 and 'left of its 2 s (pytest-timeout)' in notes[0]", id="no limit"),
        pytest.param(2, ", None", ", func_only=True", "0.3 < limit < 2 and notes", id="None, timer of the call"),
        pytest.param(2, ", '1h'", ", method='thread'", "0.3 < limit < 2 and notes", id="longer"),
        pytest.param(20, ", 0.01", "", "limit == 0.01 and not notes", id="shorter"),
    ],
)
def test_waits_keep_within_the_tests_time(pytester, timeout, given, options, expected):
    """A wait ends with its own error before pytest-timeout ends the test; a shorter limit of its own stays as it is."""
    code = LIMITED.format(timeout=timeout, given=given, options=options, expected=expected)
    result = run_tests(pytester, code, plugins=TIMEOUT)
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("method", ["signal", "thread"])
@pytest.mark.parametrize("func_only", ["true", "false"])
def test_its_limit_is_one_of_real_time(pytester, method, func_only):
    """Virtual time that passes the limit of pytest-timeout is none of it, whichever way that measures."""
    code = """
        from waitkit import after, wait_for

        def test_it(virtual_clock):
            wait_for(after("1h"), None)
            assert virtual_clock.elapsed == 3_600
    """
    options = ("--timeout=60", f"--timeout-method={method}", "-o", f"timeout_func_only={func_only}")
    run_tests(pytester, code, *options, plugins=TIMEOUT).assert_outcomes(passed=1)


def test_without_a_limit_waits_are_as_always(pytester):
    """Where nothing limits the test, or pytest-timeout is not there, the fixture is wait_for with its default."""
    code = """
        import pytest
        from waitkit import WaitTimeout, set_defaults

        def test_it(wait_for):
            assert wait_for(lambda: 7) == 7
            set_defaults(timeout="20ms")
            with pytest.raises(WaitTimeout) as caught:
                wait_for(lambda: 0)
            assert caught.value.facts.limit == 0.02
            with pytest.raises(TypeError):
                wait_for(lambda: 0, patience=3)
        """
    run_tests(pytester, code, plugins=TIMEOUT).assert_outcomes(passed=1)
    run_tests(pytester, code).assert_outcomes(passed=1)


LEAKS = """
    import os, socket, subprocess, sys, threading
    from waitkit import wait_for, process_exited
    from waitkit.pytest_plugin import leaks

    leaks._PATIENCE = "300ms"  # what is left here stays left

    kept = []

    def test_thread(no_leaks):
        gate = threading.Event()
        kept.append(gate)
        threading.Thread(target=gate.wait, name="left-behind", args=(20,), daemon=True).start()

    def test_process(no_leaks):
        kept.append(subprocess.Popen([sys.executable, "-S", "-c", "input('left process')"], stdin=subprocess.PIPE))

    def test_several(no_leaks, tmp_path):
        kept.append(socket.create_server(("127.0.0.1", 0)))
        kept.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        kept[-1].bind(("127.0.0.1", 0))
        kept.append(open(tmp_path / "left.txt", "w"))
        child = subprocess.Popen(["true"])
        kept.append(child)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    def test_end_of_it():
        kept[1].communicate()
        kept[0].set()
        kept[5].wait()
"""


def test_ctrl_c_in_virtual_time(pytester):
    """Ctrl-C ends the run as ever, with its report, though a thread of the test waits on the clock."""
    code = """
        import signal, threading
        from waitkit import after, wait_for

        def test_it(virtual_clock):
            threading.Thread(target=lambda: wait_for(after("2h"), None)).start()
            virtual_clock.block_until(1)
            signal.raise_signal(signal.SIGINT)

        def test_next():
            pass
    """
    result = run_tests(pytester, code, "--waitkit-report=out")
    assert result.ret == pytest.ExitCode.INTERRUPTED, result.stderr.str()
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    assert sorted(os.listdir(pytester.path / "out")) == ["waits.html", "waits.json"]


def test_what_is_left_behind_fails_the_test(pytester):
    """A thread, a process, a port, a file: each fails its test by an error that names it, and leaves the next one alone."""
    result = run_tests(pytester, LEAKS)
    result.assert_outcomes(passed=4, errors=3)
    result.stdout.fnmatch_lines(
        [
            "*at teardown of test_thread*",
            "- thread left-behind (daemon), which is at",
            "*threading.py*in wait",
            "*at teardown of test_process*",
            "- process *-c input('left process')",
            "- file descriptor *: pipe:*",
            "*at teardown of test_several*",
            "- process *: ended, but nobody has waited for it",
            "- UDP port *, bound at 127.0.0.1",
            "- port *, listening on 127.0.0.1",
            "- file descriptor *: */left.txt",
        ]
    )
    assert "socket:[" not in result.stdout.str(), "a port is told once"


def test_virtual_time_for_a_test(pytester):
    """A test that asks for virtual_clock runs in virtual time, and the next one does not."""
    result = run_tests(
        pytester,
        """
        import time
        from waitkit import after, wait_for

        def test_virtual(virtual_clock):
            wait_for(after("24h"), None)
            assert virtual_clock.elapsed == 86_400

        def test_real():
            before = time.monotonic()
            wait_for(after("1ms"))
            assert time.monotonic() - before >= 0.001
        """,
    )
    result.assert_outcomes(passed=2)


def test_what_ends_in_time_is_no_leak(pytester):
    """What is just ending, what other fixtures end, what was there before, and waitkit's own idle threads are no leaks."""
    result = run_tests(
        pytester,
        """
        import multiprocessing, socket, sys, threading
        import pytest
        from waitkit import after, any_of, managed_process as managed, wait_for

        @pytest.fixture(scope="session")
        def server():
            with socket.create_server(("127.0.0.1", 0)) as server:
                yield server

        @pytest.fixture
        def thread():
            gate = threading.Event()
            thread = threading.Thread(target=gate.wait)
            thread.start()
            yield
            gate.set()

        def test_fixtures(managed_process, reserved_port, thread, server, tmp_path, no_leaks):
            managed_process([sys.executable, "-S", "-c", "input()"])

        def test_just_ending(no_leaks):
            ending = threading.Thread(target=lambda: wait_for(after("0.2s")))
            ending.start()

        def test_helpers(no_leaks):
            with managed(print, "hello") as process:
                wait_for(process.exited)
            context = multiprocessing.get_context("forkserver")
            child = context.Process(target=print)
            child.start()
            wait_for(child)
            child.join()
            child.close()

        def test_plain(no_leaks):
            pass
        """,
    )
    result.assert_outcomes(passed=4)


def test_it_is_quiet_when_not_used(pytester):
    """A run that makes no use of the plugin hears nothing of it, and loads nothing of waitkit but what notes tries."""
    result = run_as_installed(
        pytester,
        """
        import sys, threading, time

        def test_it():
            loaded = {name for name in sys.modules if name.startswith("waitkit")}
            assert loaded == {
                "waitkit", "waitkit.pytest_plugin", "waitkit.ground", "waitkit.ground.records", "waitkit.ground.durations",
                "waitkit.ground.checks",
            }
            assert not {"psutil", "wrapt", "attr"} & set(sys.modules)
            assert "built-in" in repr(time.sleep)
            assert threading.Condition.wait.__code__.co_filename == threading.__file__
        """,
    )
    result.assert_outcomes(passed=1)
    assert "waitkit" not in result.stdout.str().replace("waitkit-", "", 1) or "plugins: " in result.stdout.str()
    assert not [line for line in result.outlines if "waitkit" in line and not line.startswith("plugins:")]


def test_loading_it_is_cheap():
    """Loading the plugin brings nothing heavy, and of waitkit nothing but itself."""
    run = python("""
        import sys, pytest
        before = set(sys.modules)
        import waitkit.pytest_plugin
        print(sorted(set(sys.modules) - before))
        """)
    assert run.stdout.strip() == "['waitkit', 'waitkit.pytest_plugin']", run.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--waitkit-sleeps=loud"], "invalid choice: 'loud'"),
        (["-o", "waitkit_sleeps=loud"], "waitkit_sleeps = loud: give off, report or fail"),
        (["--waitkit-sleeps=fail", "--waitkit-sleep-budget=much"], "'much' is not a duration"),
        (["--waitkit-report=test_inner.py"], "--waitkit-report=test_inner.py: "),
    ],
)
def test_bad_options_are_refused(pytester, args, message):
    """An option that cannot be what it should be is a usage error that says what it may be."""
    result = run_tests(pytester, "def test_it(): pass", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()


FAILURES = """
    import socket, sys
    import pytest
    from waitkit import port_free, port_listening, wait_for

    def test_changing():
        answers = iter([None] * 3 + ["starting"] * 4 + [0] * 100_000)
        wait_for(lambda: Falsy(next(answers)), 0.1, message="the service")

    class Falsy:
        def __init__(self, word): self.word = word
        def __bool__(self): return False
        def __repr__(self): return f"<{self.word}>"

    def test_port_held():
        with socket.create_server(("127.0.0.1", 0)) as server:
            wait_for(port_free(server.getsockname()[1]), 0.05)

    def test_process(managed_process, reserved_port):
        managed_process([sys.executable, "-S", "-c", "print('no configuration'); raise SystemExit(3)"],
                        ready=port_listening(reserved_port))

    def test_output_of_others(managed_process):
        process = managed_process([sys.executable, "-Suc", "print('I am busy'); input()"])
        wait_for(lambda: "busy" in process.output.stdout)
        wait_for(lambda: 0, 0)

    def test_callers_error():
        wait_for(lambda: 1 / 0)

    def test_chain():
        try:
            wait_for(lambda: 0, 0, message="the first thing")
        except TimeoutError as error:
            raise RuntimeError("could not begin") from error

    def test_plain():
        assert 1 == 2
"""


def test_failed_waits_tell_in_a_section(pytester):
    """A failed wait shows what, where, the last value, tries over time, the port's holder and the process's output."""
    result = run_tests(pytester, FAILURES)
    result.assert_outcomes(failed=7)
    output = result.stdout.str()
    parts = {name: output.split(f"_ test_{name} _")[1].split("\n____")[0] for name in (
        "changing", "port_held", "process", "output_of_others", "callers_error", "chain", "plain")}  # fmt: skip
    assert "- waitkit: timed out after " in parts["changing"]
    for line in ("what:   the service", "at:     test_inner.py:7, limit 100 ms, ", "last:   <0>", "tries:", "3 looks: <None>",
                 "4 looks: <starting>", "looks: <0>"):  # fmt: skip
        assert line in parts["changing"]
    section = parts["port_held"].split("- waitkit: ")[1]
    assert "is held by pid" in section
    assert "LISTEN on 127.0.0.1" in section
    section = parts["process"].split("- waitkit: ")[1]
    assert "no configuration" in section
    assert parts["process"].count("- waitkit: ") == 1, "its output is told once"
    assert "I am busy" in parts["output_of_others"].split("- waitkit: python")[1]
    assert "ZeroDivisionError" in parts["callers_error"]
    assert "- waitkit: " not in parts["callers_error"] + parts["plain"]
    assert "what:   the first thing" in parts["chain"]


def test_our_frames_are_left_out(pytester):
    """Tracebacks show no line of waitkit, not for failed waits, bad input or the caller's own errors; --full-trace shows all."""
    result = run_tests(pytester, FAILURES)
    shown = [line for line in result.outlines if "waitkit/" in line.replace("\\", "/") and "waitkit: " not in line]
    assert shown == []
    result = run_tests(pytester, FAILURES, "--full-trace", "-k", "test_callers_error")
    assert [line for line in result.outlines if "waitkit/waits/drivers.py" in line]


def test_a_failed_wait_of_a_test_case(pytester):
    """Tests of ``unittest`` tell as others do: a section, and none of our frames."""
    result = run_tests(
        pytester,
        """
        import unittest
        from waitkit import wait_for

        class Test(unittest.TestCase):
            def test_it(self):
                wait_for(lambda: 0, 0.01, message="the service")

            def test_other(self):
                self.assertEqual(1, 2)

            def test_skipped(self):
                self.skipTest("no reason")
        """,
    )
    result.assert_outcomes(failed=2, skipped=1)
    result.stdout.fnmatch_lines(["*- waitkit: timed out after * waiting for the service -*", "what:   the service"])
    assert [line for line in result.outlines if "waitkit/waits" in line] == []


def test_a_bug_of_ours_shows_its_frames(pytester):
    """An unexpected exception that arises in waitkit itself is not hidden: its frames are what a report of it needs."""
    result = run_tests(
        pytester,
        """
        import waitkit.waits.wait
        from waitkit import wait_for

        def test_it(monkeypatch):
            monkeypatch.setattr(waitkit.waits.wait.Wait, "look", lambda self: self._look_against(None, 0, waitkit.waits.watching.NOT_YET))
            wait_for(lambda: 0)
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*waits/wait.py:*: AttributeError"])
