"""``reserved_port``: a port nobody else is given, on which the server it is kept for can start and restart."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import socket
import socketserver
import stat
import subprocess
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from children import LONG, fresh_port, fresh_range, no_descriptor_left, reserve_many

from waitkit import (
    port_free,
    process_exited,
    readable,
    reserved_port,
    reserved_ports,
    reserved_socket_path,
    unix_socket_listening,
    wait_for,
)


def bind(port: int, host: str = "127.0.0.1", *, reuse: bool) -> socket.socket:
    """A socket bound as a server does it."""
    server = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
        server.bind((host, port))
        server.listen()
    except BaseException:
        server.close()
        raise
    return server


def test_is_a_plain_int() -> None:
    """The port is a plain number, which everything in the system takes: sockets, getaddrinfo, pickle, formats."""
    with reserved_port() as port:
        assert type(port) is int
        assert 1 <= port <= 65_535
        assert socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)[0][4] == ("127.0.0.1", port)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::", "127.0.0.2"])
def test_server_with_the_option_starts_and_restarts(host: str) -> None:
    """A server that sets SO_REUSEADDR binds and listens while the port is held, again and again, at any address."""
    at = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    reservation = reserved_port()
    with reservation as port:
        for _ in range(3):
            with bind(port, host, reuse=True) as server:
                with socket.create_connection((at, port)), server.accept()[0]:
                    pass
        assert not reservation.released


def test_refused_until_the_server_listens() -> None:
    """A client that comes too early is refused, not left hanging."""
    with reserved_port() as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=30)


def test_server_without_the_option_needs_a_release() -> None:
    """A server that does not set the option fails while the port is held, and works after ``release()``."""
    reservation = reserved_port()
    with reservation as port:
        with pytest.raises(OSError, match="in use") as caught:
            bind(port, reuse=False)
        assert caught.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match="in use"):
            socketserver.TCPServer(("127.0.0.1", port), BaseHTTPRequestHandler)
        reservation.release()
        assert reservation.released
        bind(port, reuse=False).close()
        reservation.release()


def test_second_listener_is_refused() -> None:
    """The reservation lets one server in, not two."""
    with reserved_port() as port, bind(port, reuse=True), pytest.raises(OSError, match="in use"):
        bind(port, reuse=True)


def test_http_server_of_the_standard_library() -> None:
    """A server of the standard library that sets the option itself works as it is."""
    with reserved_port() as port, ThreadingHTTPServer(("127.0.0.1", port), BaseHTTPRequestHandler) as server:
        assert server.server_address[1] == port


def test_released_on_leaving() -> None:
    """After the block the port belongs to nobody, also where the block raised."""
    reservation = reserved_port()
    assert reservation.released
    with reservation as port:
        assert not reservation.released
    assert reservation.released
    bind(port, reuse=False).close()
    with pytest.raises(LookupError):
        with reservation as port:
            raise LookupError
    assert reservation.released
    bind(port, reuse=False).close()


def test_entered_twice() -> None:
    """One reservation cannot hold two ports: entering it again is refused, and the first is held on to."""
    reservation = reserved_port()
    with reservation as port:
        with pytest.raises(RuntimeError, match="in use already"):
            reservation.__enter__()
        assert not reservation.released
        with pytest.raises(OSError, match="in use"):
            bind(port, reuse=False)
    with reservation:
        assert not reservation.released


def test_forgotten_reservation_ends() -> None:
    """A reservation that nobody refers to any more, entered without a block, does not hold its port for ever."""
    reservation = reserved_port()
    port = reservation.__enter__()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del reservation
        gc.collect()
    bind(port, reuse=False).close()


def test_nested() -> None:
    """Two reservations, one within the other, are two ports, and leaving the inner one leaves the outer one."""
    outer = reserved_port()
    with outer as port:
        with reserved_port() as other:
            assert port != other
        assert not outer.released
        with pytest.raises(OSError, match="in use"):
            bind(port, reuse=False)


def test_many_at_once() -> None:
    """Five hundred reservations held at once are five hundred ports, none of them given to others, and all come back."""
    with no_descriptor_left(), ExitStack() as stack:
        ports = [stack.enter_context(reserved_port()) for _ in range(500)]
        assert len(set(ports)) == 500
        with ExitStack() as others:
            # The kernel gives none of them to servers that take any port, nor to clients.
            server = others.enter_context(socket.create_server(("127.0.0.1", 0)))
            given = {server.getsockname()[1]}
            for _ in range(100):
                client = others.enter_context(socket.create_connection(server.getsockname()))
                others.enter_context(server.accept()[0])
                given |= {client.getsockname()[1], others.enter_context(bind(0, reuse=True)).getsockname()[1]}
            assert not given & set(ports)


def test_threads() -> None:
    """Threads that reserve at the same time get different ports."""
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        ports = list(pool.map(lambda _: stack.enter_context(reserved_port()), range(200)))
    assert len(set(ports)) == 200


@pytest.mark.slow
@pytest.mark.parametrize("within", [None, (20_000, 31_999)])
def test_unique_across_processes(within: tuple[int, int] | None) -> None:
    """Eight processes that hold 200 reservations each, all at the same time, hold 1600 different ports; of a range too."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        for _ in range(8):
            ours, theirs = context.Pipe()
            process = context.Process(target=reserve_many, args=(200, theirs, within), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        ports: list[int] = []
        for pipe in pipes:
            wait_for(readable(pipe), LONG)
            ports += pipe.recv()
        assert all(process.exitcode is None for process in processes)
    finally:
        for pipe in pipes:
            pipe.close()
    for process in processes:
        assert wait_for(process_exited(process), LONG).code == 0
    assert len(ports) == len(set(ports)) == 1_600


def test_forked_child_does_not_hold_it() -> None:
    """A forked child that outlives the block does not keep the port."""
    parent, childs = socket.socketpair()
    with reserved_port() as port:
        pid = os.fork()
        if pid == 0:
            try:
                parent.close()
                childs.send(b"x")
                childs.recv(1)  # stays until the parent hangs up
            finally:
                os._exit(0)
        childs.close()
    try:
        wait_for(readable(parent), LONG)
        assert parent.recv(1) == b"x"
        # With the option on neither side any socket at this port would bar it.
        bind(port, reuse=False).close()
        assert wait_for(port_free(port), timeout=0) == port
    finally:
        parent.close()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_leaving_in_a_forked_child_leaves_it_to_the_parent() -> None:
    """A forked child that leaves the block ends nothing: the port stays reserved in the parent."""
    reservation = reserved_port()
    with reservation as port:
        pid = os.fork()
        if pid == 0:
            try:
                reservation.__exit__(None, None, None)
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert not reservation.released
        with pytest.raises(OSError, match="in use"):
            bind(port, reuse=False)


def test_not_inherited_by_programs() -> None:
    """A program started inside the block does not hold the port when the block is left."""
    with reserved_port() as port:
        # close_fds=False passes on whatever is inheritable.
        child = subprocess.Popen(["sleep", "infinity"], close_fds=False)
    try:
        bind(port, reuse=False).close()
    finally:
        child.kill()
        wait_for(child, LONG)


# Ranges, protocols, families, several at once.


def test_within_a_range() -> None:
    """A port of a range is taken from it, and the range is used up before it is refused; then the error names it."""
    first, last = fresh_range(20)
    with ExitStack() as stack:
        ports = [stack.enter_context(reserved_port(within=(first, last))) for _ in range(15)]
        assert len(set(ports)) == 15
        assert all(first <= port <= last for port in ports)
    with reserved_port(within=(first, first)) as only:
        assert only == first
        with pytest.raises(OSError, match=f"no port from {first} to {first} is left") as caught:
            reserved_port(within=(first, first)).__enter__()
        assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("protocol", ["tcp", "udp", "both"])
def test_range_that_is_used_up_names_who_has_it(protocol: str) -> None:
    """The error names who holds the first few ports of the range, in the protocol that was asked for."""
    within = fresh_range(2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(reserved_port(within=within, protocol=protocol))  # type: ignore[arg-type]
        with pytest.raises(OSError, match=f"no port from {within[0]} to {within[1]} is left") as caught:
            reserved_port(within=within, protocol=protocol).__enter__()  # type: ignore[arg-type]
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == (4 if protocol == "both" else 2)
    for line in lines:
        assert f"is held by pid {os.getpid()} (" in line
        assert "BOUND on ::" in line
    assert any("(udp)" in line for line in lines) is (protocol != "tcp")


def test_range_goes_round_once() -> None:
    """All ports of a range are tried, each once, whatever its size, and not always in the same order."""
    for last in (20_000, 20_001, 20_006, 30_006, 40_010, 65_535):
        orders = [tuple(reserved_port(within=(20_000, last))._candidates()) for _ in range(4)]
        for order in orders:
            assert sorted(order) == list(range(20_000, last + 1))
    assert len(set(orders)) > 1


def test_udp() -> None:
    """A UDP port is held from those who ask for any, and its server gets the datagrams."""
    with reserved_port(protocol="udp") as port:
        with ExitStack() as others:
            for _ in range(200):
                other = others.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                other.bind(("127.0.0.1", 0))
                assert other.getsockname()[1] != port
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain, pytest.raises(OSError, match="in use"):
            plain.bind(("127.0.0.1", port))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", port))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(b"hello", ("127.0.0.1", port))
                wait_for(readable(server), LONG)
                assert server.recv(100) == b"hello"


def test_udp_leaves_tcp_alone() -> None:
    """The port of TCP with the same number is another one, and stays free for others."""
    for _ in range(20):
        with reserved_port(protocol="udp") as port:
            try:
                bind(port, reuse=False).close()
            except OSError:  # somebody else has that one just now
                continue
            return
    pytest.fail("20 reservations of UDP ports had the port of TCP, too")


def test_both_protocols() -> None:
    """One number for TCP and UDP: both are held, and both are given back."""
    with reserved_port(protocol="both") as port:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as plain, pytest.raises(OSError, match="in use"):
                plain.bind(("127.0.0.1", port))
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as plain:
            plain.bind(("127.0.0.1", port))


def test_both_takes_another_number_where_udp_is_in_use() -> None:
    """A number that is in use in one protocol is not taken for both."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        taken = fresh_port()
        other.bind(("127.0.0.1", taken))
        with pytest.raises(OSError, match="is left"):
            reserved_port(protocol="both", within=(taken, taken)).__enter__()
        bind(taken, reuse=False).close()  # nothing of the attempt is left in TCP


@pytest.mark.parametrize(("family", "host", "other"), [("ipv4", "127.0.0.1", "::1"), ("ipv6", "::1", "127.0.0.1")])
def test_one_family_alone(family: str, host: str, other: str) -> None:
    """Held in one family, the port is free in the other."""
    port = fresh_port()
    with reserved_port(family=family, within=(port, port)):  # type: ignore[arg-type]
        with pytest.raises(OSError, match="in use"):
            bind(port, host, reuse=False)
        bind(port, host, reuse=True).close()
        bind(port, other, reuse=False).close()


def test_any_family_holds_both() -> None:
    """By default the port is held in both families."""
    with reserved_port() as port:
        for host in ("127.0.0.1", "::1"):
            with pytest.raises(OSError, match="in use"):
                bind(port, host, reuse=False)


def test_several() -> None:
    """Several ports at once are different, held, released one by one or together, and gone with the block."""
    several = reserved_ports(3)
    with several as ports:
        assert len(set(ports)) == len(ports) == 3
        assert ports == tuple(reservation.port for reservation in several.reservations)
        several.reservations[1].release()
        bind(ports[1], reuse=False).close()
        for port in (ports[0], ports[2]):
            with pytest.raises(OSError, match="in use"):
                bind(port, reuse=False)
        with pytest.raises(RuntimeError, match="in use already"):
            several.__enter__()
        several.release()
        bind(ports[0], reuse=False).close()
    assert all(reservation.released for reservation in several.reservations)


def test_several_or_none() -> None:
    """Where fewer are left than are asked for, none is held."""
    first, last = fresh_range(3)
    with reserved_port(within=(first, last)) as taken, no_descriptor_left():
        with pytest.raises(OSError, match=f"no port from {first} to {last} is left"):
            reserved_ports(3, within=(first, last)).__enter__()
        for port in {*range(first, last + 1)} - {taken}:
            bind(port, reuse=False).close()


def test_port_is_told_while_it_is_held() -> None:
    """The reservation tells its port inside of the block only."""
    reservation = reserved_port()
    with pytest.raises(RuntimeError, match="holds no port now"):
        _ = reservation.port
    with reservation as port:
        assert reservation.port == port
    with pytest.raises(RuntimeError, match="holds no port now"):
        _ = reservation.port


# Sockets that listen already.


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::", "localhost"])
def test_listener_to_hand_over(host: str) -> None:
    """A socket that listens already takes clients before there is a server, and goes with the reservation."""
    reservation = reserved_port()
    with reservation as port:
        listener = reservation.listen(host)
        with socket.create_connection(("::1" if ":" in host else "127.0.0.1", port), timeout=30) as client:
            with listener.accept()[0] as accepted:
                accepted.sendall(b"x")
            assert client.recv(1) == b"x"
        assert not listener.get_inheritable()
    assert listener.fileno() == -1


def test_listen_outside_of_the_block() -> None:
    """There is nothing to listen at before the block, and no listening in UDP."""
    with pytest.raises(RuntimeError, match="holds no port now"):
        reserved_port().listen()
    udp = reserved_port(protocol="udp")
    with udp, pytest.raises(ValueError, match="has no listening"):
        udp.listen()


def test_second_listener_at_one_address_is_refused() -> None:
    """Two listeners at one address are refused by the kernel; at two addresses they are two."""
    reservation = reserved_port()
    with reservation as port, no_descriptor_left():
        reservation.listen()
        with pytest.raises(OSError, match="in use"):
            reservation.listen()
        reservation.listen("::1")
        reservation.release()
        bind(port, reuse=False).close()


# Paths of unix sockets.


def test_socket_path() -> None:
    """The path is short, in a folder that only this user may enter, and gone with the block and all that is there."""
    with reserved_socket_path("s") as path:
        assert path.name == "s"
        assert not path.exists()
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
            server.listen()
            assert wait_for(unix_socket_listening(path), timeout=0) == path
        (path.parent / "log").write_text("what the server left")
    assert not path.parent.exists()


def test_socket_paths_are_different() -> None:
    """Each reservation is a folder of its own; one in use is not entered again, one that was left is."""
    one = reserved_socket_path()
    with one as path, reserved_socket_path() as other:
        assert path != other
        with pytest.raises(RuntimeError, match="in use already"):
            one.__enter__()
    with one as again:
        assert again.parent.exists()


def test_socket_path_where_the_temporary_folder_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder with a long name, as some systems have it, leaves the path short enough for a socket."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with reserved_socket_path() as path, socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    assert list(long.iterdir()) == []


def test_socket_path_that_is_forgotten() -> None:
    """A path whose block is never left goes with its reservation."""
    reservation = reserved_socket_path()
    path = reservation.__enter__()
    assert path.parent.exists()
    del reservation
    gc.collect()
    assert not path.parent.exists()


def test_socket_path_in_a_forked_child() -> None:
    """A forked child that ends, or leaves the block, does not remove the folder of its parent."""
    reservation = reserved_socket_path()
    with reservation as path:
        pid = os.fork()
        if pid == 0:
            try:
                reservation.__exit__(None, None, None)
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert path.parent.exists()


def test_socket_path_listener() -> None:
    """A listener at the path is there before its server, and goes with the block."""
    reservation = reserved_socket_path()
    with pytest.raises(RuntimeError, match="no path is reserved"):
        reservation.listen()
    with reservation as path:
        listener = reservation.listen()
        assert wait_for(unix_socket_listening(path), timeout=0) == path
    assert listener.fileno() == -1
