"""``managed_process``: a block that begins when the process is ready, and what is said when it is not."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import children
import pytest
from children import LONG, START_METHODS, http_server, nothing_left, own_children, program  # noqa: F401

from waitkit import (
    Cancelled,
    CancelScope,
    WaitFailed,
    WaitTimeout,
    any_of,
    fail_after,
    http_ok,
    managed_process,
    output_matches,
    path_exists,
    port_listening,
    reserved_port,
    wait_for,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

STAY = ["sleep", "infinity"]


@pytest.mark.parametrize("start_method", START_METHODS)
def test_callable_ready_by_event(start_method: str) -> None:
    """A callable is ready when it says so, by each of multiprocessing's start methods."""
    with reserved_port() as port:
        with managed_process(children.listen, port, ready="event", start_method=start_method) as process:
            # Its word is enough: no look at the port is needed in between.
            socket.create_connection(("127.0.0.1", port)).close()
            assert process.pid != os.getpid()
            assert os.getsid(process.pid) == process.pid
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    assert process.exit_code == -signal.SIGTERM


def test_event_set_twice() -> None:
    """Setting the event again does nothing, and it knows that it is set."""
    with managed_process(children.ready_many_times, ready="event") as process:
        wait_for(lambda: process.output.stdout == "is_set=True\n", LONG)


def test_callable_without_readiness() -> None:
    """A callable without ``ready`` gets no event, and its block begins at once."""
    with managed_process(children.stay, 1, "two") as process:
        assert process.exit_code is None


def test_ready_by_port() -> None:
    """A server is ready when its port listens."""
    with reserved_port() as port:
        argv = http_server(port)
        with managed_process(argv, ready=port_listening(port), ready_timeout=LONG):
            socket.create_connection(("127.0.0.1", port)).close()


def test_ready_by_http(tmp_path: Path) -> None:
    """A server is ready when it answers, in the directory it was told to work in."""
    (tmp_path / "health").write_text("well")
    with reserved_port() as port:
        argv = http_server(port)
        ready = http_ok(f"http://127.0.0.1:{port}/health")
        with managed_process(argv, ready=ready, ready_timeout=LONG, cwd=tmp_path) as process:
            wait_for(lambda: '"GET /health HTTP/1.1" 200' in process.output.stderr, LONG)


def test_ready_by_path(tmp_path: Path) -> None:
    """A process is ready when its file is there."""
    path = tmp_path / "pid"
    with managed_process(children.touch, path, ready=path_exists(path)):
        assert path.exists()


def test_ready_by_any_of(tmp_path: Path) -> None:
    """Of several signs of readiness one is enough."""
    path = tmp_path / "pid"
    with reserved_port() as port:
        ready = any_of(port_listening(port), path_exists(path))
        with managed_process(["sh", "-c", f"touch {path}; exec sleep infinity"], ready=ready):
            assert path.exists()


def test_ready_by_callable() -> None:
    """A process is ready when a function of ours says so; it may look at the process itself."""
    process = managed_process(
        program("print('the banner'); import signal; signal.pause()"),
        ready=lambda: "the banner" in process.output.stdout,
        ready_timeout=LONG,
    )
    with process as entered:
        assert entered is process


@pytest.mark.parametrize("start_method", START_METHODS)
def test_callable_that_ends_before_it_is_ready(start_method: str) -> None:
    """A callable that ends first fails the start at once, with its exit code and the end of both its streams."""
    process = managed_process(children.leave, 3, ready="event", ready_timeout=None, start_method=start_method)
    with pytest.raises(WaitFailed) as caught:
        process.start()
    message = str(caught.value)
    assert re.search(
        rf"waiting for leave \(pid {process.pid}\) to be ready: its ready_event to be set, "
        r"as first came its exit \(exit code 3\)",
        message,
    )
    assert "the end of its stdout:\n    the last word to stdout" in message
    assert "the end of its stderr:\n    the last word to stderr" in message
    assert process.exit_code == 3


def test_program_that_ends_before_it_is_ready() -> None:
    """A program that ends first fails the start at once, in a wait without any limit."""
    with reserved_port() as port:
        process = managed_process(
            ["sh", "-c", "echo one; echo two >&2; exit 3"], ready=port_listening(port), ready_timeout=None
        )
        with pytest.raises(WaitFailed, match=r"as first came its exit \(exit code 3\)") as caught:
            process.start()
    message = str(caught.value)
    assert f"sh (pid {process.pid}) to be ready: port {port} to listen" in message
    assert "last: connection refused" in message
    assert "    one\n" in message
    assert "    two" in message


#: A server without SO_REUSEADDR, which hangs up first on each client.
PLAIN = """
import socket, sys
s = socket.socket()
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen()
print("up")
while True:
    s.accept()[0].close()
"""


@pytest.mark.parametrize("by", ["port", "output"])
def test_reservation_in_the_way(by: str) -> None:
    """A server without SO_REUSEADDR that finds its reserved port in use is told of the reservation, and what to do about it."""
    with reserved_port() as port:
        ready = port_listening(port) if by == "port" else output_matches("up")
        with pytest.raises(WaitFailed) as caught:
            managed_process([*program(PLAIN), str(port)], ready=ready, ready_timeout=LONG).start()
        message = str(caught.value)
        assert f"port {port} is reserved here, by reserved_port(), for a server that sets SO_REUSEADDR" in message
        assert "release()" in message
        assert "sockets=[reservation.listen()]" in message
        with pytest.raises(WaitFailed) as caught:
            managed_process(["sh", "-c", "exit 1", str(port)], ready=port_listening(port), ready_timeout=LONG).start()
        assert "is reserved here" not in str(caught.value)


def test_time_wait_in_the_way() -> None:
    """A server without SO_REUSEADDR that is restarted while its port is in TIME_WAIT is told so, and for how long."""
    with reserved_port() as port:
        pass
    process = managed_process([*program(PLAIN), str(port)], ready=output_matches("up"), ready_timeout=LONG)
    with process:
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert client.recv(1) == b""
        with pytest.raises(WaitFailed) as caught:
            process.restart()
    assert re.search(rf"port {port} is in TIME_WAIT for \d+(\.\d+)? s yet, .*SO_REUSEADDR each time", str(caught.value))


def test_exit_code_0_before_it_is_ready() -> None:
    """A program that ends well before it is ready has failed all the same."""
    with pytest.raises(WaitFailed, match=r"\(exit code 0\)(.|\n)*it wrote nothing"):
        managed_process(["true"], ready=lambda: False, ready_timeout=None).start()


def test_killed_before_it_is_ready() -> None:
    """A process that a signal ends before it is ready fails the start with the name of the signal."""
    with pytest.raises(WaitFailed, match=r"as first came its exit \(killed by SIGABRT\)"):
        managed_process(children.die_of, int(signal.SIGABRT), ready="event", ready_timeout=None).start()


def test_exception_before_it_is_ready() -> None:
    """A callable that raises fails the start with its traceback."""
    with pytest.raises(WaitFailed, match=r"(?s)exit code 1.*raise LookupError.*LookupError: no such table: orders"):
        managed_process(children.raise_error, ready="event", ready_timeout=None).start()


def test_not_ready_in_time() -> None:
    """A process that is not ready in time is ended; the error says what was missing and what it had written."""
    # On a busy machine a second may not be enough for a new Python to write anything: it then gets more.
    for patience in (1.0, 5.0, 25.0):
        process = managed_process(children.never_ready, ready="event", ready_timeout=patience)
        with pytest.raises(WaitTimeout) as caught:
            process.start()
        assert process.exit_code == -signal.SIGTERM
        assert caught.value.facts.limit == patience
        message = str(caught.value)
        assert f"waiting for never_ready (pid {process.pid}) to be ready: its ready_event to be set" in message
        if "it wrote nothing" not in message:
            break
    assert "    warming the cache" in message
    assert "    the cache is cold" in message


def test_not_ready_in_time_of_several() -> None:
    """Where several signs were awaited the error tells of each what was seen last."""
    with reserved_port() as port:
        ready = port_listening(port) & path_exists("/dev/null") & path_exists("/none/such")
        with pytest.raises(WaitTimeout) as caught:
            managed_process(STAY, ready=ready, ready_timeout="20ms").start()
    assert f"missing: port {port} to listen (connection refused); /none/such to exist" in caught.value.last
    assert "/dev/null" not in caught.value.last


def test_error_in_readiness_ends_the_process() -> None:
    """An exception of the user's check comes through, and the process is ended."""

    def check() -> bool:
        raise LookupError("mistake in the check")

    process = managed_process(STAY, ready=check)
    with pytest.raises(LookupError, match="mistake in the check"):
        process.start()
    assert process.exit_code == -signal.SIGTERM


def test_cancelled_during_readiness() -> None:
    """Cancelling a scope ends the start, and the process with it, where there is no other limit."""
    scope = CancelScope()
    process = managed_process(STAY, ready=lambda: scope.cancel(), ready_timeout=None)
    with scope:
        process.start()
    assert scope.cancelled_caught
    assert process.exit_code == -signal.SIGTERM


def test_scope_cancelled_before() -> None:
    """In a scope that is cancelled already the start fails, the process is ended, and that is not cut short."""
    scope = CancelScope()
    scope.cancel()
    process = managed_process(children.stay, ready="event", ready_timeout=None)
    with scope:
        with pytest.raises(Cancelled):
            process.start()
        assert process.exit_code == -signal.SIGTERM


def test_deadline_of_a_scope() -> None:
    """The deadline of a scope limits the start too, and the block then raises the timeout with its facts."""
    process = managed_process(STAY, ready=lambda: False, ready_timeout=None)
    with pytest.raises(WaitTimeout, match="to be ready"), fail_after("50ms"):
        process.start()
    assert process.exit_code == -signal.SIGTERM


def test_scope_does_not_shorten_the_end() -> None:
    """A scope that is over when the block is left does not keep the process from its grace."""
    code = "trap 'echo graceful; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    scope = CancelScope()
    with scope:
        process = managed_process(["sh", "-c", code], ready=lambda: "ready" in process.output.stdout)
        with process:
            scope.cancel()
    assert process.exit_code == 0
    assert process.output.stdout == "ready\ngraceful\n"
