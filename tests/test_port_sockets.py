"""The system's list of sockets: what netlink says, what takes its place, and which process has a socket open."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest
from children import LONG, fresh_port, listen, nothing_left  # noqa: F401

from waitkit import managed_process, reserved_port, wait_for
from waitkit.ports import sock_diag, sockets
from waitkit.ports.owners import owners_of, owns_one_of
from waitkit.ports.sockets import Socket, listeners, listeners_are_known, lists_bound_sockets, sockets_at

pytestmark = pytest.mark.usefixtures("nothing_left")


class At(NamedTuple):
    """Where a test binds: an address of a family, IPv6 alone or IPv4 too."""

    family: socket.AddressFamily
    address: str
    v6only: bool = False


PLACES = [
    At(socket.AF_INET, "127.0.0.1"),
    At(socket.AF_INET, "127.0.0.2"),
    At(socket.AF_INET, "0.0.0.0"),
    At(socket.AF_INET6, "::1", True),
    At(socket.AF_INET6, "::", True),
    At(socket.AF_INET6, "::"),
    At(socket.AF_INET6, "::ffff:127.0.0.1"),
]


@contextmanager
def bound(at: At, kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    """A socket bound as described."""
    with socket.socket(at.family, kind) as sock:
        if at.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, at.v6only)
        sock.bind((at.address, fresh_port()))
        yield sock


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


@pytest.fixture(params=["netlink", "proc", "psutil"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the three places the list is taken from, by taking away the others."""
    if request.param != "netlink":

        def refuse(*_: object) -> list[sock_diag.Row]:
            raise PermissionError("not in this sandbox")

        monkeypatch.setattr(sock_diag, "dump", refuse)
    if request.param == "psutil":
        monkeypatch.setattr(sockets, "_by_other_means", sockets._by_psutil)
    name: str = request.param
    return name


@pytest.mark.parametrize("at", PLACES, ids=str)
def test_listener(at: At, source: str) -> None:
    """A listener is found with family, state, address and port, at any address, in whichever list; with its inode and user."""
    with bound(at) as server:
        server.listen()
        (found,) = listeners(port_of(server))
        assert sockets_at(port_of(server)) == [found]
        assert (found.protocol, found.family, found.state) == ("tcp", at.family, "LISTEN")
        assert (found.port, found.peer, found.remaining) == (port_of(server), None, None)
        if source == "psutil":
            assert (found.pid, found.address) == (os.getpid(), at.address.replace("::ffff:127.0.0.1", found.address))
            return
        assert (found.address, found.uid, found.pid) == (at.address, os.getuid(), None)
        assert found.inode == os.fstat(server.fileno()).st_ino
        if source == "netlink" and ":" in at.address:
            assert found.v6only is at.v6only


@pytest.mark.parametrize("at", PLACES, ids=str)
def test_bound_and_silent(at: At) -> None:
    """A socket that is only bound is listed, where the kernel lists such, and is no listener."""
    if not lists_bound_sockets():
        pytest.skip("Linux lists them from 6.8 on")
    with bound(at) as silent:
        assert listeners(port_of(silent)) == []
        (found,) = sockets_at(port_of(silent))
        assert (found.family, found.state, found.address) == (at.family, "BOUND", at.address)
        assert found.inode == os.fstat(silent.fileno()).st_ino
        assert found.v6only is at.v6only


@pytest.mark.parametrize("at", PLACES, ids=str)
def test_udp(at: At, source: str) -> None:
    """A UDP socket counts as a listener until it is connected, and is not taken for one of TCP."""
    with bound(at, socket.SOCK_DGRAM) as server:
        port = port_of(server)
        (found,) = listeners(port, "udp")
        assert (found.protocol, found.family, found.state) == ("udp", at.family, "BOUND")
        assert [other for other in sockets_at(port) if other.state == "BOUND"] == []
        server.connect((at.address.replace("0.0.0.0", "127.0.0.1"), 9))
        assert listeners(port, "udp") == []
        assert [other.state for other in sockets_at(port, "udp")] == ["ESTABLISHED"]


def test_connections(source: str) -> None:
    """The connections of a server are listed with their other side; those made to it from other ports are not."""
    with (
        socket.create_server(("127.0.0.1", fresh_port())) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0],
    ):
        found = {(other.state, other.peer) for other in sockets_at(port_of(server))}
        assert found == {("LISTEN", None), ("ESTABLISHED", client.getsockname())}


def test_time_wait_has_an_end(source: str) -> None:
    """What is left of a closed connection belongs to nobody, and its end is known."""
    with socket.create_server(("127.0.0.1", fresh_port())) as server:
        port = port_of(server)
        with socket.create_connection(server.getsockname()) as client:
            server.accept()[0].close()
            assert client.recv(1) == b""
    wait_for(lambda: {found.state for found in sockets_at(port)} == {"TIME_WAIT"}, LONG)
    (left,) = sockets_at(port)
    assert left.inode == 0
    if source != "psutil":
        assert left.remaining is not None
        assert 0 < left.remaining <= 60 * 10**9


def test_many_sockets_come_in_several_parts() -> None:
    """A list too long for one answer of the kernel is read to its end."""
    with socket.create_server(("127.0.0.1", fresh_port()), backlog=1_000) as server, ExitStack() as stack:
        for _ in range(700):
            stack.enter_context(socket.create_connection(server.getsockname()))
            stack.enter_context(server.accept()[0])
        assert len(sockets_at(port_of(server))) == 701


def test_a_kernel_that_refuses_is_an_error() -> None:
    """A question the kernel does not know is an OSError, not an empty list: nobody must take it for "free"."""
    with pytest.raises(OSError):
        sock_diag.dump(199, sock_diag.ALL, 1)


def test_what_this_machine_tells() -> None:
    """On Linux the listeners are known."""
    assert listeners_are_known() is (sys.platform == "linux")


@pytest.mark.parametrize("at", PLACES, ids=str)
@pytest.mark.parametrize("target", ["127.0.0.1", "127.0.0.2", "::1"])
def test_takes(at: At, target: str) -> None:
    """Whether a listener takes what is sent to an address is judged as the kernel does: by connecting to it."""
    with bound(at) as server:
        server.listen()
        with socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET) as client:
            client.settimeout(30)
            connects = client.connect_ex((target, port_of(server))) == 0
        (found,) = listeners(port_of(server))
        assert found.takes(target) is connects


def test_own_process_owns_its_listener(source: str) -> None:
    """A process that has the socket open is known to; others are known not to; one that is gone has nothing."""
    with socket.create_server(("127.0.0.1", fresh_port())) as server:
        found = listeners(port_of(server))
        assert owns_one_of([os.getpid()], found) is True
        with managed_process(["sleep", "infinity"]) as other:
            assert owns_one_of([other.pid, 2**22 + 1], found) is False
        assert owns_one_of([], found) is False
        assert owns_one_of([os.getpid()], []) is False
        assert owners_of(found) == {found[0]: [os.getpid()]}


def test_listener_of_a_child(source: str) -> None:
    """The listener of a child is the child's, not ours."""
    with reserved_port() as port, managed_process(listen, port, ready="event") as process:
        found = listeners(port)
        assert owns_one_of([process.pid], found) is True
        assert owns_one_of([os.getpid(), process.pid], found) is True
        assert owns_one_of([os.getpid()], found) is False
        assert owners_of(found) == {found[0]: [process.pid]}


def test_unknown_is_not_no(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a process may not be looked into, or a socket has no number, the answer is "unknown"."""
    with socket.create_server(("127.0.0.1", fresh_port())) as server:
        found = listeners(port_of(server))
        nameless = [found[0]._replace(inode=0)]
        assert owns_one_of([os.getpid()], nameless) is None
        assert owns_one_of([os.getpid()], [*nameless, *found]) is True
        real = os.listdir

        def forbidden(path: str) -> list[str]:
            if path == "/proc/1/fd":
                raise PermissionError(13, "Permission denied")
            return real(path)

        monkeypatch.setattr(os, "listdir", forbidden)
        assert owns_one_of([1], found) is None
        assert owns_one_of([1, os.getpid()], found) is True


def test_looking_leaves_nothing_open(source: str) -> None:
    """A thousand questions leave no descriptor open, and make no connection."""
    with socket.create_server(("127.0.0.1", fresh_port())) as server:
        server.setblocking(False)
        before = set(os.listdir("/proc/self/fd"))
        for _ in range(20):
            assert owns_one_of([os.getpid()], listeners(port_of(server)))
        assert (
            set(os.listdir("/proc/self/fd")) <= before
        )  # some of before may have gone: a thread of descriptors that ended
        with pytest.raises(BlockingIOError):
            server.accept()


def calls(function: Callable[[], object], *, of: object, name: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often *function* calls what is named."""
    real, count = getattr(of, name), []

    def counted(*args: object, **more: object) -> object:
        count.append(None)
        return real(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(of, name, counted)
        function()
    return len(count)


def test_a_tree_is_asked_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for one process lists its descriptors and nobody else's, and stops at the one that fits."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", fresh_port())))
        for _ in range(500):
            stack.enter_context(socket.socket())
        found = listeners(port_of(server))
        assert calls(lambda: owns_one_of([os.getpid()], found), of=os, name="listdir", monkeypatch=monkeypatch) == 1
        before = calls(lambda: owns_one_of([os.getpid()], found), of=os, name="readlink", monkeypatch=monkeypatch)
        assert before < 500


def test_sockets_are_told_apart() -> None:
    """Two listeners at one port, of two addresses, are two sockets with an owner each."""
    with (
        socket.create_server(("127.0.0.1", fresh_port())) as one,
        socket.create_server(("127.0.0.2", port_of(one))) as two,
    ):
        found: list[Socket] = listeners(port_of(one))
        assert {other.inode for other in found} == {os.fstat(sock.fileno()).st_ino for sock in (one, two)}
        assert owners_of(found) == {other: [os.getpid()] for other in found}
