"""``port_listening``: it holds when a server accepts, whatever the address family, and it never blocks."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import psutil
import pytest
from children import LONG, no_descriptor_left

from waitkit import CancelScope, WaitTimeout, any_of, port_listening, reserved_port, wait_for, wait_for_async
from waitkit.conditions.descriptors import is_ready
from waitkit.ports import listening
from waitkit.ports.addresses import Address, is_local
from waitkit.ports.connecting import _Attempt, _connected_to_itself
from waitkit.ports.listening import _PortListening, _PortWatch
from waitkit.ports.owners import answering_at
from waitkit.ports.sockets import Socket, listeners, listeners_are_known
from waitkit.waits.watching import Context, Watch

pytestmark = pytest.mark.usefixtures("means")


@pytest.fixture(params=["list", "connect"])
def means(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to find out: the kernel's list of listeners, and the connection that takes its place elsewhere."""
    if request.param == "connect":
        monkeypatch.setattr(listening, "listeners_are_known", lambda: False)
    else:
        assert listeners_are_known()
    name: str = request.param
    return name


needs_ipv6 = pytest.mark.skipif(not socket.has_ipv6, reason="this Python has no IPv6")


def port_of(server: socket.socket) -> int:
    """The port of a socket."""
    return int(server.getsockname()[1])


def fill(server: socket.socket) -> list[socket.socket]:
    """Connect to a listener that accepts nothing until its queue is full."""
    clients = []
    while True:
        client = socket.socket(server.family, socket.SOCK_STREAM)
        client.setblocking(False)
        clients.append(client)
        client.connect_ex(server.getsockname())
        try:
            # On loopback an answer comes within connect; what is not connected now has been dropped.
            client.getpeername()
        except OSError:
            assert not is_ready(client.fileno(), write=True)
            return clients


@pytest.fixture
def full() -> Iterator[socket.socket]:
    """A listener at 127.0.0.1 that answers no one: its queue is full."""
    # Reserved: another test may have been given the same number for other addresses.
    with reserved_port() as port, socket.create_server(("127.0.0.1", port), backlog=0) as server:
        clients = fill(server)
        yield server
        for client in clients:
            client.close()


def test_value_is_the_port() -> None:
    """A port that listens is found in one look, and the wait returns its number."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert wait_for(port_listening(port_of(server)), timeout=0) == port_of(server)


@needs_ipv6
def test_ipv6_only() -> None:
    """A server at ::1 alone is found under "localhost" and under its address."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        assert wait_for(port_listening(port_of(server)), timeout=0) == port_of(server)
        assert wait_for(port_listening(port_of(server), "::1"), timeout=0) == port_of(server)


@needs_ipv6
def test_a_named_address_is_meant() -> None:
    """A server at another address than the one asked for does not count."""
    with reserved_port() as port:
        with socket.create_server(("::1", port), family=socket.AF_INET6):
            with pytest.raises(WaitTimeout, match=f"waiting for port {port} of 127.0.0.1 to listen"):
                wait_for(port_listening(port, "127.0.0.1"), timeout=0)
        with socket.create_server(("127.0.0.1", port)):
            with pytest.raises(WaitTimeout):
                wait_for(port_listening(port, "::1"), timeout=0)
            with pytest.raises(WaitTimeout):
                wait_for(port_listening(port, "127.0.0.2"), timeout=0)


def test_refused() -> None:
    """Where nobody listens the error says that the connection was refused."""
    with reserved_port() as port, pytest.raises(WaitTimeout) as caught:
        wait_for(port_listening(port), timeout="20ms")
    assert caught.value.last == "connection refused"
    assert caught.value.what == f"port {port} to listen"
    assert caught.value.looks > 1


def test_bound_is_not_listening() -> None:
    """A port that is bound by a socket which does not listen yet does not count, and counts as soon as it does."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        with pytest.raises(WaitTimeout, match="connection refused"):
            wait_for(port_listening(port_of(server)), timeout=0)
        server.listen()
        assert wait_for(port_listening(port_of(server)), timeout=0)


def test_begins_to_listen_during_the_wait() -> None:
    """A server that comes up while the wait looks is found, and one that goes away is missed again."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        looks = 0

        def listens_at_the_third_look() -> bool:
            nonlocal looks
            looks += 1
            if looks == 3:
                server.listen()
            return False

        found = wait_for(any_of(listens_at_the_third_look, port_listening(port_of(server))), LONG)
        assert (found.position, looks) == (1, 3)
        server.shutdown(socket.SHUT_RDWR)
        wait_for(~port_listening(port_of(server)), LONG)


def test_full_queue_is_not_listening_and_one_look_does_not_block(full: socket.socket) -> None:
    """One look at a server whose queue is full comes back without an answer, and says so."""
    with pytest.raises(WaitTimeout) as caught:
        wait_for(port_listening(port_of(full), "127.0.0.1"), timeout=0)
    assert caught.value.looks == 1


def test_full_queue_is_bounded(full: socket.socket, means: str) -> None:
    """A server that does not answer is waited for until the deadline; its holder is named. Connecting, it is not polled."""
    with pytest.raises(WaitTimeout) as caught:
        wait_for(port_listening(port_of(full), "127.0.0.1"), timeout="300ms")
    if means == "connect":
        assert caught.value.looks <= 5
    else:
        assert caught.value.last == "its queue of connections is full: it accepts none"
    assert f"port {port_of(full)} is held by pid {os.getpid()} " in str(caught.value)


def test_full_queue_cancels(full: socket.socket) -> None:
    """A wait without any limit on a server that does not answer ends when its scope is cancelled."""
    scope = CancelScope()
    inside = threading.Event()

    def attempt() -> str:
        with scope:
            inside.set()
            wait_for(port_listening(port_of(full), "127.0.0.1"), timeout=None)
        return "left"

    with ThreadPoolExecutor() as pool:
        waiter = pool.submit(attempt)
        wait_for(inside, LONG)
        assert not waiter.done()
        scope.cancel()
        assert wait_for(waiter, LONG).result() == "left"
    assert scope.cancelled_caught


def test_full_queue_that_gets_room(full: socket.socket) -> None:
    """A server that begins to accept at last is found."""
    accepting = threading.Event()

    def accept_at_the_second_look() -> bool:
        if accepting.is_set():
            full.setblocking(False)
            try:
                full.accept()[0].close()
            except BlockingIOError:
                pass
        accepting.set()
        return False

    found = wait_for(any_of(accept_at_the_second_look, port_listening(port_of(full), "127.0.0.1")), LONG)
    assert found.position == 1


@needs_ipv6
def test_silent_first_address_does_not_hide_the_second(full: socket.socket) -> None:
    """Of two addresses the first may never answer: the second is tried all the same."""
    with socket.create_server(("::1", port_of(full)), family=socket.AF_INET6):
        assert wait_for(port_listening(port_of(full)), timeout="10s")


def test_async_leaves_the_loop_to_others(full: socket.socket) -> None:
    """While one task waits for a server that does not answer, another of the same loop makes it answer."""

    async def main() -> int:
        port = port_of(full)
        waiting = asyncio.create_task(wait_for_async(port_listening(port, "127.0.0.1"), timeout=None))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not waiting.done()
        full.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(full, lambda: full.accept()[0].close())
        try:
            assert await asyncio.wait_for(waiting, 30) == port
        finally:
            loop.remove_reader(full)
        return port

    assert asyncio.run(main()) == port_of(full)


def test_async_cancelled_by_its_task(full: socket.socket, means: str) -> None:
    """A task that waits for a server that does not answer can be cancelled, and leaves no descriptor open."""

    async def main() -> None:
        waiting = asyncio.create_task(wait_for_async(port_listening(port_of(full), "127.0.0.1"), timeout=None))
        for _ in range(10):
            await asyncio.sleep(0)
        during = psutil.Process().num_fds()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        # Where it connects, that connection was open.
        assert psutil.Process().num_fds() == during - (means == "connect")

    asyncio.run(main())


class _ConnectsToItself(_PortWatch):
    """Attempts made from the very port they go to, which the kernel does by itself once in some 30,000 times."""

    def _begin(self, address: Address, now: int) -> bool:
        sock = socket.socket(address[0], socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address[1])
        code = sock.connect_ex(address[1])
        assert code != 0 or _connected_to_itself(sock)
        return self._concluded(_Attempt(sock, address, now), code)


class _ListeningToItself(_PortListening):
    def watch(self, context: Context) -> Watch:
        return _ConnectsToItself(self, context)


def test_not_fooled_by_a_connection_to_itself() -> None:
    """A port connected to itself accepts connections of nobody else, so it does not listen."""
    with reserved_port() as port:
        with pytest.raises(WaitTimeout) as caught:
            wait_for(_ListeningToItself(port, "127.0.0.1"), timeout="20ms")
        assert caught.value.last == "connection refused"


class _GivenThePort(_PortWatch):
    """Sockets that the kernel may give no local port but the one that is asked for: any attempt connects to itself."""

    def socket_for(self, address: Address) -> socket.socket:
        real = socket.socket

        def restricted(family: int, kind: int) -> socket.socket:
            sock = real(family, kind)
            port = self._condition.port
            sock.setsockopt(
                socket.IPPROTO_IP, 51, struct.pack("=I", port << 16 | port)
            )  # IP_LOCAL_PORT_RANGE, Linux 6.3
            made.append(sock)
            return sock

        made: list[socket.socket] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "socket", restricted)
            try:
                return super().socket_for(address)
            finally:
                self.offered = len(made)

    offered = 0


def test_kernel_that_gives_the_very_port() -> None:
    """Forced by the kernel itself: a client that is given the port it asks for is connected to itself, an attempt never."""
    with reserved_port() as port:
        pass
    with closing(socket.socket()) as plain:
        plain.setsockopt(socket.IPPROTO_IP, 51, struct.pack("=I", port << 16 | port))
        plain.connect(("127.0.0.1", port))
        assert _connected_to_itself(plain)
        # Reset, so that nothing of it keeps the port for a minute.
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    context = Context(0, 0, (), 0)
    watch = _GivenThePort(_PortListening(port, "127.0.0.1"), context)
    verdict = watch.look(0)
    assert not verdict.holds
    assert (watch.seen(), watch.offered) == ("connection refused", 3)
    with socket.socket() as server:
        # Nothing of it is left at the port, not even for a server without the option.
        server.bind(("127.0.0.1", port))


def test_connection_to_itself_is_told_from_others() -> None:
    """The two ends of a socket that is connected to itself are the same, those of any other are not."""
    with closing(socket.socket()) as itself:
        itself.bind(("127.0.0.1", 0))
        itself.connect(itself.getsockname())
        assert _connected_to_itself(itself)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert not _connected_to_itself(client)
    left, right = socket.socketpair(socket.AF_UNIX)
    with left, right:
        # Both names are empty, which is no sign of anything.
        assert not _connected_to_itself(left)


@pytest.mark.parametrize("means", ["list"], indirect=True)
def test_a_listening_server_sees_no_connection(means: str) -> None:
    """Looking at a listener of this machine makes no connection: it accepts nothing, and its queue never fills."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as server:
        server.setblocking(False)
        for _ in range(50):
            assert wait_for(port_listening(port_of(server)), timeout=0)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_listener_that_a_firewall_rule_leads_to(means: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the list shows no listener and a connection is answered all the same, the port counts as listening."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(listening, "listeners", lambda port: [])
        assert wait_for(port_listening(port_of(server)), timeout=0)
        assert wait_for(port_listening(port_of(server)), LONG)


@pytest.mark.parametrize("means", ["list"], indirect=True)
def test_connections_in_spite_of_the_list_are_rare(means: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody listens a look connects only four times a second and at the deadline, not at each look."""
    attempts = []
    real = _PortWatch.socket_for
    monkeypatch.setattr(_PortWatch, "socket_for", lambda self, address: attempts.append(address) or real(self, address))
    with reserved_port() as port, pytest.raises(WaitTimeout) as caught:
        wait_for(port_listening(port, "127.0.0.1"), "600ms")
    assert caught.value.last == "connection refused"
    assert 1 <= len(attempts) <= 3 < caught.value.looks


@pytest.mark.parametrize("means", ["list"], indirect=True)
def test_listener_elsewhere_is_told(means: str) -> None:
    """The error says where there is a listener, if not at the address that is asked for."""
    with reserved_port() as port, socket.create_server(("127.0.0.2", port)):
        with pytest.raises(WaitTimeout, match="there is a listener on 127.0.0.2 alone"):
            wait_for(port_listening(port), timeout="5ms")


def test_full_listener_is_known_by_the_list(full: socket.socket) -> None:
    """The list tells a listener whose queue is full from one that has room."""
    assert [found.full for found in listeners(port_of(full))] == [True]
    with socket.create_server(("127.0.0.1", 0), backlog=5) as roomy, socket.create_connection(roomy.getsockname()):
        assert [found.full for found in listeners(port_of(roomy))] == [False]


def test_list_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the list fails for a moment, as without a descriptor left, a look connects instead, and no error comes of it."""

    def refuse(port: int) -> list[Socket]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(listening, "listeners", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert wait_for(port_listening(port_of(server)), timeout=0)
    with reserved_port() as port, pytest.raises(WaitTimeout, match="connection refused"):
        wait_for(port_listening(port), timeout=0)


def test_own_address_of_the_machine() -> None:
    """The machine's own addresses are told from others without a name service and without sending anything."""
    assert is_local((socket.AF_INET, ("127.3.2.1", 80)))
    assert is_local((socket.AF_INET6, ("::1", 80, 0, 0)))
    assert not is_local((socket.AF_INET, ("192.0.2.1", 80)))
    for addresses in psutil.net_if_addrs().values():
        for own in addresses:
            if own.family == socket.AF_INET:
                assert is_local((socket.AF_INET, (own.address, 80)))


def test_looks_leave_no_descriptor() -> None:
    """Many attempts, refused and accepted, leave no socket open."""
    with reserved_port() as port, socket.create_server(("127.0.0.1", 0), backlog=500) as server:
        with no_descriptor_left():
            for _ in range(25):
                wait_for(port_listening(port_of(server)), timeout=0)
                with pytest.raises(WaitTimeout):
                    wait_for(port_listening(port), timeout=0)


def test_many_wait_for_one_port() -> None:
    """One condition serves many threads at once, and all of them see the server come up."""
    with reserved_port() as port, ThreadPoolExecutor(8) as pool:
        condition = port_listening(port)
        started = threading.Barrier(9)

        def attempt() -> int:
            started.wait(30)
            return wait_for(condition, LONG)

        waiters = [pool.submit(attempt) for _ in range(8)]
        started.wait(30)
        with socket.create_server(("127.0.0.1", port), backlog=64):
            assert [wait_for(waiter, LONG).result() for waiter in waiters] == [port] * 8


def test_cancelled_scope_ends_it_before_it_connects() -> None:
    """In a cancelled scope not even one attempt is made."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        scope = CancelScope()
        scope.cancel("enough")
        with scope:
            wait_for(port_listening(port_of(server)))
        assert scope.cancelled_caught
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("port", [0, -1, 65_536, 10**9])
def test_port_out_of_range(port: int) -> None:
    """A number that is no port is refused when the condition is made, and named."""
    with pytest.raises(ValueError, match=f"{port} is not a port"):
        port_listening(port)


@pytest.mark.parametrize("port", ["80", 80.0, None, True])
def test_port_of_another_type(port: object) -> None:
    """What is no int is refused when the condition is made, ``True`` included."""
    with pytest.raises(TypeError, match="is not a port"):
        port_listening(port)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["", None, 127, b"localhost"])
def test_host_of_another_type(host: object) -> None:
    """What is no text is refused when the condition is made."""
    with pytest.raises(TypeError, match="is not a host"):
        port_listening(80, host)  # type: ignore[arg-type]


SHARERS = [
    (socket.AF_INET, "127.0.0.1", False),
    (socket.AF_INET, "0.0.0.0", False),
    (socket.AF_INET6, "::1", False),
    (socket.AF_INET6, "::", False),
    (socket.AF_INET6, "::", True),
    (socket.AF_INET6, "::ffff:127.0.0.1", False),
]


@contextmanager
def sharing(which: Sequence[tuple[int, str, bool]]) -> Iterator[tuple[int, dict[int, socket.socket]]]:
    """Listeners that share a port, by inode, and the port."""
    with reserved_port() as port:
        pass
    servers = {}
    with ExitStack() as stack:
        for family, address, v6only in which:
            server = stack.enter_context(socket.socket(family))
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
            server.bind((address, port))
            server.listen()
            servers[os.fstat(server.fileno()).st_ino] = server
        yield port, servers


@needs_ipv6
@pytest.mark.skipif(not listeners_are_known(), reason="it is a rule of Linux")
@pytest.mark.parametrize("means", ["list"], indirect=True)
@pytest.mark.parametrize("count", range(len(SHARERS) + 1))
def test_who_answers_of_several(count: int) -> None:
    """Of listeners that share a port those answer that the rule names: held against the kernel, for any of them together."""
    clients = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.2"), (socket.AF_INET6, "::1"))
    for which in itertools.combinations(SHARERS, count):
        with sharing(which) as (port, servers):
            for family, address in clients:
                rule = {found.inode for found in answering_at(listeners(port), address)}
                with socket.socket(family) as client:
                    if client.connect_ex((address, port)):
                        assert rule == set()
                        continue
                    answered = {inode for inode, server in servers.items() if is_ready(server.fileno())}
                    assert len(answered) == 1
                    assert answered <= rule
                    servers[answered.pop()].accept()[0].close()
