"""``RestartPolicy``: a process that dies is started again, proven ready, within limits; and never when it is stopped."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
from pathlib import Path

import children
import pytest
from children import LONG, http_server, no_descriptor_left, nothing_left, own_children, program  # noqa: F401

from waitkit import (
    Backoff,
    Event,
    ManagedProcess,
    ProcessExit,
    RestartPolicy,
    managed_process,
    output_matches,
    port_listening,
    reserved_port,
    wait_for,
)
from waitkit.ground.durations import SECOND
from waitkit.processes import supervisor

pytestmark = pytest.mark.usefixtures("nothing_left")

SOON = Backoff(base="1ms", max_delay="1ms")
SERVE = ["sh", "-c", "echo up; exec sleep 1000"]


def supervised(argv: list[str], **policy: object) -> ManagedProcess:
    """A process that is started again, soon."""
    restart = RestartPolicy(**{"backoff": SOON, "limit": None, **policy})  # type: ignore[arg-type]
    return managed_process(argv, ready=output_matches("up"), ready_timeout=LONG, restart=restart)


def kill(process: ManagedProcess) -> int:
    """Kill it, and return whom."""
    pid = process.pid
    os.kill(pid, signal.SIGKILL)
    return pid


def test_killed_and_back() -> None:
    """A process that is killed is started again, ready, and the callback tells how the one before had ended."""
    told: list[tuple[ManagedProcess, ProcessExit]] = []
    process = supervised(SERVE, on_restart=lambda process, ended: told.append((process, ended)))
    with process:
        pids = []
        for number in range(1, 6):
            pids.append(kill(process))
            wait_for(process.restarts.equals(number), LONG)
            assert process.output.stdout == "up\n"
            assert process.exit_code is None
        pids.append(process.pid)
        assert len(set(pids)) == 6
        wait_for(lambda: len(told) == 5, LONG)
    assert told == [(process, ProcessExit(pid, -signal.SIGKILL)) for pid in pids[:5]]
    assert process.exit_code == -signal.SIGTERM


def test_stopped_is_not_started_again() -> None:
    """What is stopped stays so, by the block or by hand, and can be started anew, supervised again."""
    process = supervised(SERVE, when="always")
    for _ in range(2):
        with process:
            kill(process)
            wait_for(process.restarts.equals(1), LONG)
        assert process.exit_code == -signal.SIGTERM
        assert own_children() == []


def test_clean_end() -> None:
    """An end with code 0 is a failure for ``"always"`` alone."""
    ends = ["sh", "-c", "echo up; read _ < $0; exit 0"]
    with reserved_port():
        process = supervised([*ends, "/dev/null"], when="on_failure")
        with process:
            assert wait_for(process.exited, LONG).code == 0
        assert process.restarts.get() == 0
        with supervised([*ends, "/dev/null"], when="always") as process:
            wait_for(process.restarts.satisfies(lambda count: count >= 3), LONG)


def test_limit() -> None:
    """After so many restarts the next death is the last: the callback tells, and the condition holds."""
    told: list[int | None] = []
    process = supervised(
        ["sh", "-c", "echo up; exit 3"], limit="4/h", on_give_up=lambda _, ended: told.append(ended.code)
    )
    with process:
        wait_for(process.gave_up, LONG)
        wait_for(lambda: told == [3], LONG)
        assert process.restarts.get() == 4
        assert process.exit_code == 3


def test_restart_that_fails() -> None:
    """A restart that does not become ready counts, and the next one is tried."""
    code = "echo x >> $0; test $(wc -l < $0) -eq 1 -o $(wc -l < $0) -ge 4 || exit 5; echo up; exec sleep 1000"
    with pytest.MonkeyPatch.context(), reserved_port() as port:
        path = f"/tmp/waitkit-{port}"
        try:
            with supervised(["sh", "-c", code, path], limit="10/min") as process:
                kill(process)
                wait_for(process.restarts.equals(1), LONG)
                with open(path) as file:
                    assert len(file.readlines()) == 4
        finally:
            os.unlink(path)


def test_restart_that_ends_well_without_being_ready(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A life that we ended, because it was not ready, has failed, though it then ended with code 0; the log says so, and where."""
    code = "test -e $0 || { : > $0; echo up; exec sleep 1000; }; trap 'exit 0' TERM; while :; do sleep 0.01; done"
    told: list[int | None] = []
    policy = RestartPolicy(backoff=SOON, limit="2/h", on_give_up=lambda _, ended: told.append(ended.code))
    argv = ["sh", "-c", code, str(tmp_path / "once")]
    process = managed_process(argv, ready=output_matches("up"), ready_timeout="500ms", restart=policy)
    with process:
        kill(process)
        wait_for(process.gave_up, LONG)
        wait_for(lambda: told == [0], LONG)
    assert process.restarts.get() == 0
    *failures, last = [record.getMessage() for record in caplog.records if record.name == "waitkit"]
    assert len(failures) == 2
    for message in failures:
        assert re.search(
            r"could not be started again: timed out .* to be ready.*\(waited at .*test_process_supervision", message
        )
    assert re.search(r"was not ready, and has ended \(exit code 0\) and is not started again", last)


def test_words_of_a_restart_that_dies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is logged of a restart that died tells how, and nothing of how supervision works inside."""
    code = "test -e $0 && exit 5; : > $0; echo up; exec sleep 1000"
    with supervised(["sh", "-c", code, str(tmp_path / "once")], limit="1/h") as process:
        kill(process)
        wait_for(process.gave_up, LONG)
    first, last = [record.getMessage() for record in caplog.records if record.name == "waitkit"]
    assert re.search(
        r", as first came its exit \(exit code 5\): \d+ looks?, .*\(waited at .*test_process_supervision.*:\d+\)", first
    )
    assert "(exit code 5) and is not started again: it has been started again once already" in last


#: Binds without SO_REUSEADDR: at 127.0.0.1, or elsewhere once the file is there. Hangs up first on each client.
PLAIN = """
import os, socket, sys
s = socket.socket()
s.bind(("127.0.0.2" if os.path.exists(sys.argv[2]) else "127.0.0.1", int(sys.argv[1])))
s.listen()
print("up")
while True:
    s.accept()[0].close()
"""


def test_port_in_time_wait(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that finds its port in TIME_WAIT is not started again in vain until the port is free."""
    free = Event()
    monkeypatch.setattr(supervisor, "port_free", lambda port, *, reuse_address: free)
    with reserved_port() as port:
        pass
    policy = RestartPolicy(backoff=SOON, limit="2/min")
    argv = [*program(PLAIN), str(port), str(tmp_path / "elsewhere")]
    with managed_process(argv, ready=output_matches("up"), ready_timeout=LONG, restart=policy) as process:
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert client.recv(1) == b""
        kill(process)
        wait_for(
            lambda: f"waits for port {port} to leave TIME_WAIT, for up to" in caplog.text, LONG, unless=process.gave_up
        )
        assert f"port {port} is in TIME_WAIT for " in caplog.text
        assert "a server that sets SO_REUSEADDR each time before it binds" in caplog.text
        (tmp_path / "elsewhere").touch()
        free.set()
        wait_for(process.restarts.equals(1), LONG)


def test_stopped_while_it_waits_for_its_port(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Stopping takes effect at once where the supervision waits for a port, which is the real one here."""
    with reserved_port() as port:
        pass
    argv = [*program(PLAIN), str(port), str(tmp_path / "elsewhere")]
    with managed_process(argv, ready=port_listening(port), restart=RestartPolicy(backoff=SOON)) as process:
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert client.recv(1) == b""
        kill(process)
        wait_for(lambda: "to leave TIME_WAIT" in caplog.text, LONG, unless=process.gave_up)
    assert process.exit_code == 1


def test_what_it_left_behind_is_cleared_first() -> None:
    """A descendant that outlives the process is gone before the next one starts, and the port is free for it."""
    code = (
        "import socket, os, signal, sys\n"
        "s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "if os.fork() == 0:\n    os.setsid()\n    signal.pause()\n"
        "print('up'); signal.pause()"
    )
    with reserved_port() as port:
        with supervised([*program(code), str(port)]) as process:
            for number in (1, 2, 3):
                with socket.create_connection(("127.0.0.1", port)):
                    kill(process)
                    wait_for(process.restarts.equals(number), LONG)
            assert process.exit_code is None


def test_stopped_while_it_waits_or_starts() -> None:
    """Stopping takes effect at once where the process is dead and waits, or is not ready yet."""
    waiting = supervised(SERVE, backoff=Backoff(base="1h", max_delay="1h", jitter="none"))
    with waiting:
        kill(waiting)
        wait_for(lambda: waiting._life is not None and waiting._life.over, LONG)
    assert waiting.exit_code == -signal.SIGKILL
    with reserved_port() as port:
        path = f"/tmp/waitkit-{port}"
        slow = supervised(["sh", "-c", f"test -e {path} && exec sleep 1000; touch {path}; echo up; exec sleep 1000"])
        try:
            with slow:
                first = kill(slow)
                wait_for(lambda: slow.pid != first, LONG)
            assert slow.exit_code == -signal.SIGTERM
        finally:
            os.unlink(path)


def test_stopped_by_its_own_callback() -> None:
    """A callback may stop its process."""
    stopped = threading.Event()

    def stop(process: ManagedProcess, ended: ProcessExit) -> None:
        process.stop()
        stopped.set()

    process = supervised(SERVE, on_restart=stop).start()
    kill(process)
    wait_for(stopped, LONG)
    assert process.exit_code == -signal.SIGTERM
    assert process.stop() == -signal.SIGTERM


def test_one_thread_for_all() -> None:
    """Many supervised processes share one thread, which ends with them; a callback that raises harms nobody."""

    def fail(*_: object) -> None:
        raise LookupError

    processes = [supervised(SERVE, on_restart=fail) for _ in range(6)]
    with no_descriptor_left():
        for process in processes:
            process.start()
        assert [thread.name for thread in threading.enumerate()].count("waitkit-supervisor") == 1
        for process in processes:
            kill(process)
        for process in processes:
            wait_for(process.restarts.equals(1), LONG)
        for process in processes:
            process.stop()
    wait_for(lambda: all(thread.name != "waitkit-supervisor" for thread in threading.enumerate()), LONG)


def test_interpreter_that_ends_with_a_supervised_block_open() -> None:
    """A program that ends without stopping a supervised process leaves none behind."""
    code = f"""
import sys
sys.path[:0] = {sys.path!r}
from waitkit import *
policy = RestartPolicy(when="always", backoff=Backoff(base=0, max_delay=0), limit=None)
process = managed_process(["sleep", "1000"], restart=policy).start()
process.send_signal(9)
wait_for(process.restarts.equals(1))
print(process.pid, flush=True)
"""
    with managed_process(program(code)) as outer:
        pid = int(outer.wait_for_output(r"(\d+)\n", LONG)[1])
        assert wait_for(outer.exited, LONG).code == 0
        try:
            wait_for(lambda: not os.path.exists(f"/proc/{pid}/exe") or not os.path.realpath(f"/proc/{pid}/exe"), LONG)
        finally:
            children.end(pid)


def test_policy_is_pure() -> None:
    """The policy judges by the instants it is handed: a window that moves, and a backoff that grows within it."""
    policy = RestartPolicy(limit="3/min", backoff=Backoff(base="1s", max_delay="10s", jitter="none"))
    assert policy.answers(1)
    assert policy.answers(-9)
    assert policy.answers(None)
    assert not policy.answers(0)
    minute = 60 * SECOND
    restarts = [0, minute // 2, minute]
    assert policy.recent(restarts, minute - 1) == restarts
    assert policy.recent(restarts, minute) == restarts[1:]
    assert [policy.delay(restarts[:count], lambda: 0.5, 0) for count in range(4)] == [
        SECOND,
        2 * SECOND,
        4 * SECOND,
        None,
    ]


def test_server_is_back_on_its_port() -> None:
    """A server that is killed with a client connected is back on the same port."""
    with reserved_port() as port:
        argv = http_server(port)
        policy = RestartPolicy(backoff=SOON)
        with managed_process(argv, ready=port_listening(port), ready_timeout=LONG, restart=policy) as server:
            with socket.create_connection(("127.0.0.1", port)):
                kill(server)
                wait_for(server.restarts.equals(1), LONG)
            socket.create_connection(("127.0.0.1", port)).close()
