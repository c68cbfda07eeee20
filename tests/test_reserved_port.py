"""``reserved_port``: a port nobody else is given, on which the server it is kept for can start and restart."""

from __future__ import annotations

import errno
import gc
import multiprocessing
import os
import socket
import socketserver
import subprocess
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from children import LONG, no_descriptor_left, reserve_many

from waitkit import port_free, process_exited, readable, reserved_port, wait_for


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


def test_unique_across_processes() -> None:
    """Eight processes that hold 200 reservations each, all at the same time, hold 1600 different ports."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        for _ in range(8):
            ours, theirs = context.Pipe()
            process = context.Process(target=reserve_many, args=(200, theirs), daemon=True)
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
