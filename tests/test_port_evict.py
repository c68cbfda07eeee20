"""``evict_port``: the holder ends by a ladder, nobody else does, and what must not be ended gets no signal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from children import LONG, fresh_port, nothing_left, program  # noqa: F401

from waitkit import WaitTimeout, evict_port, managed_process, port_free, port_listening, reserved_port, wait_for
from waitkit.ports import evict
from waitkit.ports.holders import Holder

pytestmark = pytest.mark.usefixtures("nothing_left")

SERVER = """
import os, signal, socket, sys
how, port = sys.argv[1], int(sys.argv[2])
if "user" in how:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
if "stubborn" in how:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "polite" in how:
    def go(number, frame):
        os.write(1, b"going %d\\n" % number)
        os._exit(0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, go)
server = socket.socket()
if "plain" not in how:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", port))
if "silent" not in how:
    server.listen()
if "fork" in how:
    os.fork()
os.write(1, b"there\\n")
if "accept" in how:
    connection, _ = server.accept()
    if "only" in how:
        server.close()
    os.write(1, b"accepted\\n")
while True:
    signal.pause()
"""


@contextmanager
def holder(how: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the port as described, reaped at the end."""
    process = subprocess.Popen([*program(SERVER), how, str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process
    finally:
        process.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def port() -> int:
    """A port that nobody has."""
    return fresh_port()


def test_free_port_is_left_alone(port: int) -> None:
    """Where nobody bars the port, nothing is done; a reservation bars no server."""
    assert evict_port(port) == ()
    with reserved_port() as held:
        assert evict_port(held) == ()


def test_listener_ends_by_the_signal(port: int) -> None:
    """A server that follows the signal ends by it, and the port is free when the call returns."""
    with holder("polite", port) as process:
        (ended,) = evict_port(port, timeout=LONG)
        assert (ended.pid, ended.state) == (process.pid, "LISTEN")
        assert process.wait(30) == 0
        assert process.stdout is not None
        assert process.stdout.read() == f"going {int(signal.SIGTERM)}\n"
        assert wait_for(port_free(port), timeout=0) == port


def test_another_signal(port: int) -> None:
    """The first signal is the one that is asked for."""
    with holder("polite", port) as process:
        evict_port(port, stop_signal=signal.SIGINT, timeout=LONG)
        assert process.stdout is not None
        assert process.stdout.read() == f"going {int(signal.SIGINT)}\n"


def test_stubborn_listener_is_killed(port: int) -> None:
    """A server that ignores the signal is killed after the time it is given."""
    with holder("stubborn", port) as process:
        evict_port(port, timeout="50ms")
        assert process.wait(30) == -signal.SIGKILL


def test_kill_at_once(port: int) -> None:
    """SIGKILL as the first signal leaves no grace."""
    with holder("polite", port) as process:
        evict_port(port, stop_signal=signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL


def test_bound_and_silent(port: int) -> None:
    """A process that is bound without the option, and does not listen, bars the port too, and is ended."""
    with holder("silent plain", port) as process:
        (ended,) = evict_port(port, timeout=LONG)
        assert (ended.pid, ended.state) == (process.pid, "BOUND")
        assert process.wait(30) == -signal.SIGTERM


def test_all_who_share_the_listener(port: int) -> None:
    """Where parent and child have the listener open, both are ended: the port would else stay taken."""
    with holder("fork", port) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        ended = evict_port(port, timeout=LONG)
        assert len({one.pid for one in ended}) == 2
        assert process.pid in {one.pid for one in ended}
        assert wait_for(port_free(port), timeout=0) == port


def test_clients_are_left_alone(port: int) -> None:
    """A client of the server, here this very process, is nobody's business, and goes on."""
    with holder("accept", port) as process:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            assert process.stdout is not None
            assert process.stdout.readline() == "accepted\n"
            (pid,) = {one.pid for one in evict_port(port, timeout=LONG)}
            assert pid == process.pid
            assert client.recv(1) == b""


def test_connection_that_keeps_the_port(port: int) -> None:
    """A process that no longer listens, but has a connection that bars the port, is ended."""
    with holder("accept only plain", port) as process:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            # So that what the server leaves is reset, and not in its last minute.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            assert process.stdout is not None
            assert process.stdout.readline() == "accepted\n"
            os.kill(process.pid, signal.SIGSTOP)  # nothing is closed before the end
            holders = evict._to_be_ended(port)
            assert [(one.pid, one.state) for one in holders] == [(process.pid, "ESTABLISHED")]
            client.close()
            evict_port(port, stop_signal=signal.SIGKILL)
            wait_for(port_free(port), timeout=0)


def test_what_is_left_of_connections_is_told(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where connections bar the port that belong to nobody, nobody is ended, and the error says until when."""
    monkeypatch.setattr(evict, "_AFTER_KILL", 10_000_000)
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()
            assert client.recv(1) == b""
    with pytest.raises(WaitTimeout, match="no process: TIME_WAIT on 127.0.0.1, which passes in"):
        evict_port(port)


def test_own_process_is_refused(port: int) -> None:
    """This process itself is refused, and the listener goes on."""
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(PermissionError, match=f"pid {os.getpid()} .*: that is this process; close the socket"):
            evict_port(port, force=True)
        assert wait_for(port_listening(port), timeout=0) == port


def test_ancestors_are_refused(port: int) -> None:
    """A process cannot end the one it was started by."""
    code = (
        "import sys\n"
        "from waitkit import evict_port\n"
        "try:\n"
        "    evict_port(int(sys.argv[1]), force=True)\n"
        "except PermissionError as error:\n"
        "    print(error)\n"
    )
    with socket.create_server(("127.0.0.1", port)):
        ended = subprocess.run(
            [sys.executable, "-c", code, str(port)], capture_output=True, text=True, timeout=30, check=False
        )
    assert f"pid {os.getpid()} " in ended.stdout
    assert "this process descends from it" in ended.stdout


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start another user's process")
def test_other_users_need_force(port: int) -> None:
    """Another user's process gets no signal without force, and is ended with it."""
    with holder("polite user", port) as process:
        with pytest.raises(PermissionError, match="that is another user's; force=True"):
            evict_port(port)
        assert wait_for(port_listening(port), timeout=0) == port
        assert process.poll() is None
        assert len(evict_port(port, force=True, timeout=LONG)) == 1
        assert process.wait(30) == 0


def test_one_refusal_keeps_all(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one of several holders must not be ended, none gets a signal."""
    with holder("polite", port) as process:
        ours = Holder(process.pid, "python", "", "LISTEN", "127.0.0.1")
        for stranger, reason in (
            (ours._replace(pid=1), "the system itself"),
            (ours._replace(pid=None), "who cannot be seen cannot be ended"),
        ):
            monkeypatch.setattr(evict, "who_holds", lambda port, stranger=stranger: (ours, stranger))
            with pytest.raises(PermissionError, match=reason):
                evict_port(port, force=True)
        assert process.poll() is None
        assert wait_for(port_listening(port), timeout=0) == port


def test_kernel_threads_are_known() -> None:
    """A kernel thread is told from an ordinary process, where they can be seen."""
    assert not evict._is_kernel_thread(os.getpid())
    assert not evict._is_kernel_thread(2**22 + 1)
    for name in os.listdir("/proc"):
        if name.isdecimal() and evict._is_kernel_thread(int(name)):
            assert not os.path.exists(f"/proc/{name}/exe") or os.readlink(f"/proc/{name}/exe") == ""


def test_process_that_came_after_gets_no_signal(port: int) -> None:
    """A process of a pid that was another's, and has nothing of the port, gets no signal."""
    with managed_process(program("import signal; print('on', flush=True); signal.pause()")) as other:
        with evict._identified(port, [other.pid, 2**22 + 1]) as targets:
            assert targets == {}
        assert other.exit_code is None


def test_somebody_else_takes_the_port(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another takes the port at once, the error names that one."""
    monkeypatch.setattr(evict, "_AFTER_KILL", 50_000_000)
    real = evict._end

    def and_then(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        server.bind(("127.0.0.1", port))
        server.listen()

    monkeypatch.setattr(evict, "_end", and_then)
    with socket.socket() as server, holder("polite", port):
        with pytest.raises(WaitTimeout, match=f"port {port} is held by pid {os.getpid()} "):
            evict_port(port, timeout=LONG)
