"""``port_free``: a server that sets SO_REUSEADDR could have the port now, and if not, the error says who is in the way."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from children import LONG, fresh_port, listen, nothing_left, program  # noqa: F401

from waitkit import (
    CancelScope,
    WaitTimeout,
    any_of,
    managed_process,
    port_free,
    port_listening,
    reserved_port,
    wait_for,
    who_holds,
)
from waitkit.ports import free
from waitkit.ports.binding import everywhere
from waitkit.ports.sockets import Socket, lists_bound_sockets

pytestmark = pytest.mark.usefixtures("nothing_left")


def server_at(host: str, port: int = 0, *, reuse: bool = True) -> socket.socket:
    """A listener at one address alone, with or without SO_REUSEADDR; at a port of its own, that nobody has anywhere."""
    port = port or fresh_port()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
    try:
        server.bind((host, port))
        server.listen()
    except BaseException:
        server.close()
        raise
    return server


def leave_time_wait(server: socket.socket) -> int:
    """Serve one client, hang up first, close the listener: the port is left in TIME_WAIT."""
    address = server.getsockname()
    with socket.create_connection(address) as client:
        accepted, _ = server.accept()
        accepted.close()
        assert client.recv(1) == b""
    server.close()
    port: int = address[1]
    wait_for(lambda: any(holder.state == "TIME_WAIT" for holder in who_holds(port)), LONG)
    return port


def test_free() -> None:
    """A port that nobody has is free in one look, and the wait returns its number; nothing is left bound by the look."""
    with server_at("127.0.0.1") as server:
        port = server.getsockname()[1]
    assert wait_for(port_free(port), timeout=0) == port
    assert wait_for(port_free(port), timeout=0) == port
    server_at("127.0.0.1", port, reuse=False).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"])
def test_listener_anywhere_counts(host: str) -> None:
    """A listener at any single address, in either family, makes the port not free."""
    with server_at(host) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            WaitTimeout, match=f"waiting for port {port} to be free: 1 look, last: address already in use"
        ):
            wait_for(port_free(port), timeout=0)
    assert wait_for(port_free(port), timeout=0)


def test_one_address_is_enough_where_it_is_named() -> None:
    """With ``host`` only listeners that bar this address count: its own and the wildcard's."""
    with server_at("127.0.0.2") as server:
        port = server.getsockname()[1]
        assert wait_for(port_free(port, "127.0.0.1"), timeout=0) == port
        with pytest.raises(WaitTimeout, match=f"port {port} of 127.0.0.2 to be free"):
            wait_for(port_free(port, "127.0.0.2"), timeout=0)
    with server_at("0.0.0.0") as server, pytest.raises(WaitTimeout):
        wait_for(port_free(server.getsockname()[1], "127.0.0.1"), timeout=0)


def test_reserved_port_is_free_for_its_server() -> None:
    """A port that is held by a reservation counts as free, until its server listens."""
    with reserved_port() as port:
        assert wait_for(port_free(port), timeout=0) == port
        with server_at("127.0.0.1", port), pytest.raises(WaitTimeout):
            wait_for(port_free(port), timeout=0)
        assert wait_for(port_free(port), timeout=0) == port


def test_bound_without_the_option_is_not_free() -> None:
    """A socket that is bound without SO_REUSEADDR bars the port though it does not listen; it is named."""
    with socket.socket() as holder:
        port = fresh_port()
        holder.bind(("127.0.0.1", port))
        with pytest.raises(WaitTimeout, match=rf"port {port} is held by pid {os.getpid()} \(.*\), BOUND on 127.0.0.1"):
            wait_for(port_free(port), timeout=0)


def test_time_wait_of_a_server_with_the_option() -> None:
    """TIME_WAIT left by a server that set SO_REUSEADDR does not bar the next one."""
    port = leave_time_wait(server_at("127.0.0.1"))
    assert wait_for(port_free(port), timeout=0) == port
    server_at("127.0.0.1", port).close()


def test_time_wait_of_a_server_without_the_option() -> None:
    """TIME_WAIT left by a server that did not set the option bars every server; the error says that no process has it."""
    port = leave_time_wait(server_at("127.0.0.1", reuse=False))
    with pytest.raises(WaitTimeout, match=f"port {port} is held by no process: TIME_WAIT on 127.0.0.1"):
        wait_for(port_free(port), timeout=0)
    with pytest.raises(OSError, match="Address already in use"):
        server_at("127.0.0.1", port)


def test_becomes_free_during_the_wait() -> None:
    """The wait ends when the last holder goes."""
    with ExitStack() as servers:
        server = servers.enter_context(server_at("127.0.0.2"))
        looks = 0

        def closes_at_the_third_look() -> bool:
            nonlocal looks
            looks += 1
            if looks == 3:
                servers.close()
            return False

        found = wait_for(any_of(closes_at_the_third_look, port_free(server.getsockname()[1])), LONG)
        assert (found.position, looks) == (1, 3)


def test_error_names_this_process() -> None:
    """The error names pid, program, state and address of the holder, here ourselves."""
    with server_at("127.0.0.1") as server, pytest.raises(WaitTimeout) as caught:
        wait_for(port_free(server.getsockname()[1]), timeout=0)
    port = caught.value.what.split()[1]
    program = psutil.Process().name()
    assert caught.value.facts.notes == (
        f"port {port} is held by pid {os.getpid()} ({program}, user {psutil.Process().username()}), LISTEN on 127.0.0.1",
    )


def test_error_names_another_process() -> None:
    """The error names a holder that is another process."""
    with reserved_port() as port, managed_process(listen, port, ready="event") as process:
        with pytest.raises(WaitTimeout, match=rf"port {port} is held by pid {process.pid} \(.+\), LISTEN on 127.0.0.1"):
            wait_for(port_free(port), timeout="20ms")
        process.stop()
        assert wait_for(port_free(port), LONG) == port


def test_cancelled() -> None:
    """A wait for a port that stays taken ends when its scope is cancelled."""
    with server_at("127.0.0.1") as server:
        scope = CancelScope()

        def cancels() -> bool:
            scope.cancel()
            return False

        with scope:
            wait_for(any_of(cancels, port_free(server.getsockname()[1])), timeout=None)
        assert scope.cancelled_caught


def test_not_listening_is_not_the_same_as_free() -> None:
    """A port that is bound but not listened to is neither: the two conditions are no opposites."""
    with socket.socket() as holder:
        port = fresh_port()
        holder.bind(("127.0.0.1", port))
        for condition in (port_free(port), port_listening(port)):
            with pytest.raises(WaitTimeout):
                wait_for(condition, timeout=0)


def test_impossible_address_raises_at_once() -> None:
    """An address that no server of this machine can have does not become possible by waiting."""
    with reserved_port() as port, pytest.raises(OSError, match="Cannot assign requested address") as caught:
        wait_for(port_free(port, "fe80::1%lo"), timeout=None)
    assert not isinstance(caught.value, WaitTimeout)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user who may not bind port 81")
def test_privileged_port_raises_at_once() -> None:
    """A port that this user may not bind does not become permitted by waiting."""
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 81:
        pytest.skip("here any user may bind any port")
    code = (
        "import os\n"
        "from waitkit import port_free, wait_for\n"
        "import psutil\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try:\n"
        "    wait_for(port_free(81), timeout=None)\n"
        "except PermissionError as error:\n"
        "    print('refused', error.errno)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert ended.stdout == "refused 13\n", ended.stderr


def test_reuse_address_chooses_the_server() -> None:
    """A reservation and TIME_WAIT leave a server with the option its port, and bar one without; the error says so."""
    with reserved_port() as port:
        assert wait_for(port_free(port), timeout=0) == port
        with pytest.raises(WaitTimeout, match="a server that sets SO_REUSEADDR could have it now"):
            wait_for(port_free(port, reuse_address=False), timeout=0)
    assert wait_for(port_free(port, reuse_address=False), timeout=0) == port
    left = leave_time_wait(server_at("127.0.0.1"))
    assert wait_for(port_free(left, "127.0.0.1"), timeout=0) == left
    with pytest.raises(WaitTimeout, match="no process: TIME_WAIT on 127.0.0.1, which passes in"):
        wait_for(port_free(left, "127.0.0.1", reuse_address=False), timeout=0)
    assert wait_for(port_free(left, "127.0.0.2", reuse_address=False), timeout=0) == left


def test_localhost_is_both_loopback_addresses() -> None:
    """A listener at either loopback address bars "localhost"; one at another does not."""
    for host in ("127.0.0.1", "::1"):
        with server_at(host) as server, pytest.raises(WaitTimeout):
            wait_for(port_free(server.getsockname()[1], "localhost"), timeout=0)
    with server_at("127.0.0.2") as server:
        assert wait_for(port_free(server.getsockname()[1], "localhost"), timeout=0)


@pytest.mark.skipif(not lists_bound_sockets(), reason="this kernel does not list all sockets")
def test_nothing_is_bound_to_find_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the list of sockets tells, no bind is tried: not at a free port, not beside a listener or a silent socket."""

    def refuse(*_: object, **__: object) -> socket.socket:
        raise AssertionError("a bind")

    with server_at("127.0.0.1") as server, reserved_port() as reserved:
        free_port = fresh_port()
        monkeypatch.setattr(free, "bind_at", refuse)
        assert not free.is_free(everywhere(), reserved, reuse_address=False)
        for reuse in (True, False):
            assert wait_for(port_free(free_port, reuse_address=reuse), timeout=0)
            with pytest.raises(WaitTimeout):
                wait_for(port_free(server.getsockname()[1], reuse_address=reuse), timeout=0)


@pytest.mark.skipif(not lists_bound_sockets(), reason="this kernel does not list all sockets")
def test_servers_on_their_way_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bound sockets that come and go are servers about to listen: the port is theirs, and no bind of ours is in their way.
    One that stays is silent, and is tried.
    """
    binds = []
    real_bind, real_list = free.bind_at, free.sockets_at
    monkeypatch.setattr(free, "bind_at", lambda *given, **more: binds.append(given) or real_bind(*given, **more))
    with reserved_port() as port:
        assert wait_for(port_free(port), timeout=0) == port
        assert len(binds) == 1

        def restless(number: int) -> list[Socket]:
            return [found._replace(inode=next(inodes)) for found in real_list(number)]

        inodes = iter(range(1, 100))
        monkeypatch.setattr(free, "sockets_at", restless)
        with pytest.raises(WaitTimeout):
            wait_for(port_free(port), timeout=0)
        assert len(binds) == 1


LOOKER = """
import sys
from waitkit import WaitTimeout, port_free, wait_for
print("looking", flush=True)
while True:
    try:
        wait_for(port_free(int(sys.argv[1]), reuse_address=sys.argv[2] == "True"), timeout=0)
    except WaitTimeout:
        pass
"""


@pytest.mark.skipif(not lists_bound_sockets(), reason="this kernel does not list all sockets")
@pytest.mark.parametrize(("reuse", "most"), [(False, 0), (True, 30)])
def test_looking_bars_nobody(reuse: bool, most: int) -> None:
    """While another process looks again and again, none of 3,000 servers fails to bind. Where it asks for a server with the
    option, one that is stopped between bind and listen looks as if it would stay: less than 1 % may then meet a bind.
    """
    port = fresh_port()
    argv = [sys.executable, "-c", LOOKER, str(port), str(reuse)]
    looker = managed_process(argv, ready=lambda: "looking" in looker.output.stdout, ready_timeout=LONG)
    failed = 0
    with looker:
        for number in range(3_000):
            try:
                server_at("127.0.0.1", port, reuse=number % 2 == 0).close()
            except OSError as error:
                assert error.errno == errno.EADDRINUSE
                failed += 1
        assert looker.exit_code is None
    assert failed <= most


@pytest.mark.skipif(not lists_bound_sockets(), reason="this kernel does not list all sockets")
@pytest.mark.parametrize("then", ["", "s.listen(); "])
def test_the_error_bars_nobody(then: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To tell whether a server with the option could have the port, no bind is tried where another process may be about to listen."""
    tried: list[int] = []
    monkeypatch.setattr(free, "_try_to_bind", lambda target, port, *, reuse_address: tried.append(port))
    port = fresh_port()
    code = f"import socket; s = socket.socket(); s.bind(('127.0.0.1', {port})); {then}print('up', flush=True); input()"
    with subprocess.Popen(program(code), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "up\n"
        with pytest.raises(WaitTimeout, match=f"port {port} is held by pid {other.pid} "):
            wait_for(port_free(port, "127.0.0.1", reuse_address=False), timeout=0)
        other.communicate("over\n")
    assert tried == []


@pytest.mark.parametrize(
    ("port", "kind"), [(0, ValueError), (65_536, ValueError), ("80", TypeError), (False, TypeError)]
)
def test_no_port(port: object, kind: type[Exception]) -> None:
    """What is no port is refused when the condition is made."""
    with pytest.raises(kind, match="is not a port"):
        port_free(port)  # type: ignore[arg-type]


def test_no_host() -> None:
    """What is no host is refused when the condition is made."""
    with pytest.raises(TypeError, match="is not a host"):
        port_free(80, "")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS])
def test_without_a_descriptor_to_ask_with_it_looks_again(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """That no descriptor is left says nothing of the port, and passes; the wait goes on until it does."""
    asked = []

    def is_free(*args: object, **options: object) -> bool:
        asked.append(args)
        if len(asked) < 4:
            raise OSError(number, os.strerror(number))
        return True

    monkeypatch.setattr(free, "is_free", is_free)
    assert wait_for(port_free(5_000), LONG) == 5_000
    asked.clear()
    with pytest.raises(WaitTimeout, match=os.strerror(number).lower()):
        wait_for(port_free(5_000), 0)
