"""``port_free`` held against the kernel: for each kind of holder, its verdict and what a real bind and listen give."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import NamedTuple

import pytest
from children import LONG

from waitkit import WaitTimeout, any_of, port_free, wait_for, who_holds
from waitkit.ports import free
from waitkit.ports.binding import bind_at, everywhere
from waitkit.ports.conflicts import Target


class Place(NamedTuple):
    """Where a holder is bound."""

    family: socket.AddressFamily
    address: str
    v6only: bool = False
    client: str = ""

    def __str__(self) -> str:
        return f"{self.address}{'-v6only' if self.v6only else ''}"


V4, V6 = socket.AF_INET, socket.AF_INET6

PLACES = [
    Place(V4, "127.0.0.1", client="127.0.0.1"),
    Place(V4, "0.0.0.0", client="127.0.0.1"),
    Place(V6, "::1", client="::1"),
    Place(V6, "::", client="127.0.0.1"),
    Place(V6, "::", v6only=True, client="::1"),
    Place(V6, "::ffff:127.0.0.1", client="127.0.0.1"),
]

#: Those that differ from one of the others in little.
MORE_PLACES = [
    Place(V4, "127.0.0.2", client="127.0.0.2"),
    Place(V4, "127.0.0.6", client="127.0.0.6"),
    Place(V6, "::1", v6only=True, client="::1"),
    Place(V6, "::ffff:0.0.0.0", client="127.0.0.2"),
]

OPTIONS = {
    "plain": (),
    "reuse_address": (socket.SO_REUSEADDR,),
    "reuse_port": (socket.SO_REUSEPORT,),
    "both": (socket.SO_REUSEADDR, socket.SO_REUSEPORT),
}

TARGETS = [None, "127.0.0.1", "127.0.0.2", "127.0.0.6", "0.0.0.0", "::1", "::"]


def bound(stack: ExitStack, place: Place, options: tuple[int, ...]) -> socket.socket:
    """A socket bound at a place, with options set before."""
    sock = stack.enter_context(socket.socket(place.family))
    if place.family == V6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, place.v6only)
    for option in options:
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    sock.bind((place.address, 0))
    return sock


def reset_at_end(stack: ExitStack, client: socket.socket) -> socket.socket:
    """Have a client hang up so that nothing is left in TIME_WAIT: a minute of that would be in the way of other tests."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return stack.enter_context(client)


def silent(stack: ExitStack, place: Place, options: tuple[int, ...]) -> int:
    return port_of(bound(stack, place, options))


def listening(stack: ExitStack, place: Place, options: tuple[int, ...]) -> int:
    server = bound(stack, place, options)
    server.listen()
    return port_of(server)


def reserved_and_listening(stack: ExitStack, place: Place, options: tuple[int, ...]) -> int:
    """A silent holder that got its option after the bind, as a reservation, with a listener beside it where one can be."""
    port = silent_then_option(stack, place, options)
    server = stack.enter_context(socket.socket(place.family))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if place.family == V6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, place.v6only)
    try:
        server.bind((place.address, port))
        server.listen()
    except OSError as error:
        assert error.errno == errno.EADDRINUSE
    return port


def silent_then_option(stack: ExitStack, place: Place, options: tuple[int, ...]) -> int:
    holder = bound(stack, place, ())
    for option in options:
        holder.setsockopt(socket.SOL_SOCKET, option, 1)
    return port_of(holder)


def connected(stack: ExitStack, place: Place, options: tuple[int, ...], *, keep_listener: bool = False) -> int:
    """A server's connection that goes on after its listener is gone."""
    server = bound(stack, place, options)
    server.listen()
    reset_at_end(stack, socket.create_connection((place.client, port_of(server))))
    stack.enter_context(server.accept()[0])
    port = port_of(server)
    if not keep_listener:
        server.close()
    return port


def listening_and_connected(stack: ExitStack, place: Place, options: tuple[int, ...]) -> int:
    return connected(stack, place, options, keep_listener=True)


def time_wait(stack: ExitStack, place: Place, options: tuple[int, ...]) -> int:
    """What is left of a connection that the server closed first."""
    server = bound(stack, place, options)
    server.listen()
    port = port_of(server)
    with socket.create_connection((place.client, port)) as client:
        server.accept()[0].close()
        assert client.recv(1) == b""
    server.close()
    wait_for(lambda: any(holder.state == "TIME_WAIT" for holder in who_holds(port)), LONG)
    return port


def half_closed(stack: ExitStack, place: Place, options: tuple[int, ...]) -> int:
    """What is left of a connection that the server closed and the client did not: FIN_WAIT2, which belongs to nobody."""
    server = bound(stack, place, options)
    server.listen()
    port = port_of(server)
    client = reset_at_end(stack, socket.create_connection((place.client, port)))
    server.accept()[0].close()
    server.close()
    assert client.recv(1) == b""
    return port


def outbound(stack: ExitStack, place: Place, options: tuple[int, ...]) -> int:
    """The local port of a client: with a bind to the place, or given by the kernel with the connection."""
    family = V6 if ":" in place.client else V4
    server = stack.enter_context(socket.create_server((place.client, 0), family=family))
    client = reset_at_end(stack, socket.socket(place.family))
    for option in options:
        client.setsockopt(socket.SOL_SOCKET, option, 1)
    target = f"::ffff:{place.client}" if place.family == V6 and family == V4 else place.client
    client.connect((target, port_of(server)))
    stack.enter_context(server.accept()[0])
    return port_of(client)


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


HOLDERS: list[Callable[[ExitStack, Place, tuple[int, ...]], int]] = [
    silent,
    silent_then_option,
    listening,
    reserved_and_listening,
    connected,
    listening_and_connected,
    time_wait,
    half_closed,
    outbound,
]


def server_could_have_it(port: int, host: str | None, *, reuse: bool) -> bool:
    """What happens to a real server: it binds and listens."""
    target = everywhere() if host is None else Target(V6 if ":" in host else V4, host)
    try:
        with bind_at(target, port, reuse=reuse) as server:
            server.listen()
    except OSError as error:
        assert error.errno == errno.EADDRINUSE
        return False
    return True


def says_free(port: int, host: str | None, *, reuse: bool) -> bool:
    """The verdict of one look, without an error that tells who has it: to find that out takes longer than the look."""
    looked = wait_for(any_of(port_free(port, host, reuse_address=reuse), lambda: True), timeout=0)
    assert looked.value == (port if looked.position == 0 else True)
    return looked.position == 0


@pytest.fixture(params=["list", "bind"])
def means(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to find out: the kernel's list, and the bind that takes its place where the list is not complete."""
    if request.param == "bind":
        monkeypatch.setattr(free, "listeners_are_known", lambda: False)
    name: str = request.param
    return name


@pytest.mark.parametrize(
    "place", [*PLACES, *(pytest.param(place, marks=pytest.mark.slow) for place in MORE_PLACES)], ids=str
)
@pytest.mark.parametrize("kind", HOLDERS, ids=lambda kind: kind.__name__)
def test_verdict_is_what_a_bind_gives(
    kind: Callable[[ExitStack, Place, tuple[int, ...]], int], place: Place, means: str
) -> None:
    """Whoever holds the port, wherever, with whatever options: the verdict for a server is what happens to one."""
    wrong = []
    for name, options in OPTIONS.items():
        with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
            port = kind(stack, place, options)
            # The kernel goes through all sockets of the machine for its list, and this one does not change meanwhile.
            patch.setattr(free, "sockets_at", remembered := cache(free.sockets_at))
            taken: tuple[str | None, bool] | None = None
            for host in TARGETS:
                for reuse in (True, False):
                    verdict = says_free(port, host, reuse=reuse)
                    truth = server_could_have_it(port, host, reuse=reuse)
                    if verdict is not truth:  # one list may miss what is just being moved in it; three in a row do not
                        patch.setattr(free, "sockets_at", remembered.__wrapped__)
                        verdict = says_free(port, host, reuse=reuse)
                        remembered.cache_clear()
                        patch.setattr(free, "sockets_at", remembered)
                    if verdict is not truth:
                        wrong.append((name, host, reuse, verdict))
                    taken = taken if truth else (host, reuse)
            if taken is not None and options == ():  # to find out who has it takes longer than all verdicts
                with pytest.raises(WaitTimeout, match=f"port {port} "):
                    wait_for(port_free(port, taken[0], reuse_address=taken[1]), timeout=0)
    assert wrong == []


@pytest.mark.parametrize("place", PLACES + MORE_PLACES, ids=str)
@pytest.mark.parametrize("kind", [silent, listening], ids=lambda kind: kind.__name__)
def test_verdict_where_silent_sockets_are_not_listed(
    kind: Callable[[ExitStack, Place, tuple[int, ...]], int], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 6.8 the list has the listeners, and a bind tells the rest: the verdict is the same."""
    monkeypatch.setattr(free, "lists_bound_sockets", lambda: False)
    test_verdict_is_what_a_bind_gives(kind, place, "listeners")


@contextmanager
def nobody() -> Iterator[int]:
    """A port that nobody has."""
    with bind_at(everywhere(), 0, reuse=False) as sock:
        port = port_of(sock)
    yield port


@pytest.mark.parametrize("host", TARGETS)
@pytest.mark.parametrize("reuse", [True, False])
def test_free_for_all(host: str | None, reuse: bool, means: str) -> None:
    """A port that nobody has is free for any server."""
    with nobody() as port:
        assert says_free(port, host, reuse=reuse)
        assert server_could_have_it(port, host, reuse=reuse)
