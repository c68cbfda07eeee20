"""``who_holds``: who has a port, which errors name."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
from contextlib import ExitStack

import psutil
import pytest
from children import LONG, fresh_port, listen, nothing_left, program  # noqa: F401

from waitkit import Holder, managed_process, reserved_port, wait_for, who_holds
from waitkit.ports import holders
from waitkit.ports.holders import describe_holders
from waitkit.ports.sockets import Socket

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_nobody() -> None:
    """A port that nobody has is held by nobody."""
    port = fresh_port()
    assert who_holds(port) == ()
    assert describe_holders(port) == []


def test_bound_and_silent() -> None:
    """A socket that is bound and does not listen, as a reservation, is found; where errors leave ours out, it is not."""
    with reserved_port() as port:
        (holder,) = who_holds(port)
        assert (holder.pid, holder.state, holder.address, holder.protocol) == (os.getpid(), "BOUND", "::", "tcp")
        assert len(describe_holders(port)) == 1
        assert describe_holders(port, leave_out_own_reservations=True) == []


def test_listener() -> None:
    """A listener is found with its process, program, user, state and address."""
    with socket.create_server(("127.0.0.3", fresh_port())) as server:
        (holder,) = who_holds(server.getsockname()[1])
        assert holder == Holder(
            os.getpid(), psutil.Process().name(), psutil.Process().username(), "LISTEN", "127.0.0.3"
        )


def test_listener_of_a_child() -> None:
    """A listener of another process is found with that process, beside our reservation."""
    with reserved_port() as port, managed_process(listen, port, ready="event") as process:
        assert [(holder.pid, holder.state) for holder in who_holds(port)] == [
            (process.pid, "LISTEN"),
            (os.getpid(), "BOUND"),
        ]


def test_listener_that_a_child_inherited() -> None:
    """A listener that two processes have open is held by both, and by the child alone once the parent has closed it."""
    with socket.create_server(("127.0.0.1", fresh_port())) as server:
        port = server.getsockname()[1]
        os.set_inheritable(server.fileno(), True)
        pid = os.posix_spawnp("sleep", ["sleep", "infinity"], os.environ)
    try:
        wait_for(lambda: [holder.program for holder in who_holds(port)] == ["sleep"], LONG)
        with socket.socket(fileno=_duplicate(pid, port)) as ours:
            assert {holder.pid for holder in who_holds(port)} == {pid, os.getpid()}
            assert ours.getsockname()[1] == port
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def _duplicate(pid: int, port: int) -> int:
    """A descriptor of ours for the listener of another process that we may look into."""
    pidfd = os.pidfd_open(pid)
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            if os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:"):
                # pidfd_getfd(2) has no name in the os module.
                return int(ctypes.CDLL(None, use_errno=True).syscall(438, pidfd, int(number), 0))
        raise AssertionError(f"pid {pid} has no socket at port {port}")
    finally:
        os.close(pidfd)


def test_listeners_come_first_and_clients_not_at_all() -> None:
    """Connections come after the listener, and a socket that is only connected *to* the port holds nothing of it."""
    with (
        socket.create_server(("127.0.0.1", fresh_port())) as server,
        socket.create_connection(server.getsockname(), source_address=("127.0.0.2", fresh_port())) as client,
        server.accept()[0],
    ):

        def found(port: int) -> list[tuple[str, str]]:
            # What another connection left in TIME_WAIT at the same port belongs to nobody.
            return [(holder.state, holder.address) for holder in who_holds(port) if holder.pid == os.getpid()]

        assert found(server.getsockname()[1]) == [("LISTEN", "127.0.0.1"), ("ESTABLISHED", "127.0.0.1")]
        assert found(client.getsockname()[1]) == [("ESTABLISHED", "127.0.0.2")]


def test_udp() -> None:
    """The ports of UDP are others than those of TCP, and are asked for by name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        (holder,) = who_holds(port, "udp")
        assert (holder.pid, holder.state, holder.address, holder.protocol) == (os.getpid(), "BOUND", "127.0.0.1", "udp")
        assert "BOUND on 127.0.0.1 (udp)" in str(holder)
        assert os.getpid() not in {holder.pid for holder in who_holds(port)}


def test_time_wait_tells_when_it_passes() -> None:
    """What a closed connection leaves belongs to no process, and passes within the minute the kernel keeps it."""
    with socket.create_server(("127.0.0.1", fresh_port())) as server:
        port = server.getsockname()[1]
        for _ in range(3):
            with socket.create_connection(server.getsockname()) as client:
                server.accept()[0].close()
                assert client.recv(1) == b""
    # The closing of the client's side ends FIN_WAIT2.
    wait_for(lambda: {holder.state for holder in who_holds(port)} == {"TIME_WAIT"}, LONG)
    (holder,) = who_holds(port)
    assert (holder.pid, holder.program, holder.user, holder.address) == (None, "", "", "127.0.0.1")
    assert holder.remaining is not None
    assert 0 < holder.remaining <= 60
    (line,) = describe_holders(port)
    assert line.startswith(f"port {port} is held by no process: TIME_WAIT on 127.0.0.1, which passes in ")


def test_last_remains_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several remains at one address the one that passes last is told, in whatever order they are listed."""
    remains = [
        Socket("tcp", socket.AF_INET, "TIME_WAIT", "127.0.0.1", 80, ("127.0.0.1", 9), 0, 0, remaining=left * 10**9)
        for left in (5, 41, 7)
    ]
    monkeypatch.setattr(holders, "sockets_at", lambda port, protocol: remains)
    assert who_holds(80) == (Holder(None, "", "", "TIME_WAIT", "127.0.0.1", remaining=41.0),)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user from whom other processes are hidden")
def test_process_of_another_user() -> None:
    """A process that we may not look into is not named; whose it is, is told all the same."""
    code = (
        "import os, sys\n"
        "from waitkit import who_holds\n"
        "import psutil, pwd\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(*who_holds(int(sys.argv[1])), sep='; ')\n"
    )
    with socket.create_server(("127.0.0.1", fresh_port())) as server:
        argv = [sys.executable, "-c", code, str(server.getsockname()[1])]
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert ended.stdout == "a process of user root that is not visible to us, LISTEN on 127.0.0.1\n", ended.stderr


def test_only_a_few_are_described() -> None:
    """A port with many connections is described in at most three lines, the listener's first."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", fresh_port())))
        for _ in range(5):
            stack.enter_context(socket.create_connection(server.getsockname()))
            stack.enter_context(server.accept()[0])
        port = server.getsockname()[1]
        lines = describe_holders(port)
        # Connections of one process at one address are one holder.
        assert lines[0].startswith(f"port {port} is held by pid {os.getpid()} (")
        assert lines[0].endswith("), LISTEN on 127.0.0.1")
        assert len(lines) == 2


def test_words() -> None:
    """A holder tells in words what it is, also where the process is not known or there is none."""
    known = Holder(812, "postgres", "pg", "LISTEN", "0.0.0.0")
    assert str(known) == "pid 812 (postgres, user pg), LISTEN on 0.0.0.0"
    assert str(Holder(None, "", "pg", "LISTEN", "::")) == "a process of user pg that is not visible to us, LISTEN on ::"
    assert str(Holder(None, "", "", "BOUND", "::")) == "a process that is not visible to us, BOUND on ::"
    passing = Holder(None, "", "", "TIME_WAIT", "127.0.0.1", remaining=12.0)
    assert str(passing) == "no process: TIME_WAIT on 127.0.0.1, which passes in 12 s"
