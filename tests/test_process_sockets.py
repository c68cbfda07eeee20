"""Processes that are handed their listening sockets: nobody can take the port, and clients may come before they are ready."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import children
import pytest
from children import LONG, START_METHODS, program

from waitkit import (
    WaitTimeout,
    all_of,
    managed_process,
    output_matches,
    path_exists,
    port_free,
    port_listening,
    reserved_port,
    reserved_socket_path,
    unix_socket_listening,
    wait_for,
)

SERVER = """
import os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid())
listeners = [socket.socket(fileno=3 + number) for number in range(int(os.environ["LISTEN_FDS"]))]
print("serving", flush=True)
while True:
    for listener in listeners:
        connection, _ = listener.accept()
        connection.sendall(b"hello from %d" % os.getpid())
        connection.close()
"""


def answer(port: int) -> bytes:
    """What the server says to a client."""
    with socket.create_connection(("localhost", port), 20) as client:
        return client.recv(100)


def test_a_socket_is_handed_over():
    """A program gets the listening socket as its descriptor 3; the block is left though the socket stays open here."""
    reservation = reserved_port()
    with reservation as port, reservation.listen() as listener:
        with managed_process(program(SERVER), sockets=[listener], ready=port_listening(port)) as process:
            assert answer(port) == b"hello from %d" % process.pid
        assert listener.fileno() > 0
    wait_for(port_free(port), LONG)


def test_several_sockets():
    """Several sockets come in their order."""
    one, other = reserved_port(), reserved_port()
    with one as first, other as second, one.listen() as listener, other.listen() as another:
        with managed_process(program(SERVER), sockets=[listener, another]) as process:
            assert answer(first) == answer(second) == b"hello from %d" % process.pid


def test_a_client_that_comes_before_the_server():
    """A client may connect before the program runs, and is served when it does; so it is after a restart."""
    reservation = reserved_port()
    with reservation as port, reservation.listen() as listener:
        process = managed_process(program(SERVER), sockets=[listener], stop_timeout=LONG)
        with socket.create_connection(("localhost", port), 20) as early:
            with process:
                assert early.recv(100) == b"hello from %d" % process.pid
                before = process.pid
                process.restart()
                assert answer(port) == b"hello from %d" % process.pid
                assert process.pid != before


STAY = ["sleep", "infinity"]


def test_a_unix_socket_is_handed_over():
    """A unix socket that we listen at and hand over makes the process ready; at one that we keep, we answer ourselves."""
    reservation = reserved_socket_path()
    with reservation as path:
        listener = reservation.listen()
        ready = unix_socket_listening(path)
        with managed_process(STAY, sockets=[listener], ready=ready, ready_timeout=LONG):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
        with pytest.raises(WaitTimeout, match=r"who answers is not this process, but process \d+"):
            managed_process(STAY, ready=ready, ready_timeout="300ms").start()


def test_a_unix_socket_whose_maker_has_ended():
    """A daemon that forks after ``listen()`` is ready, though who called that has ended; for a stranger it does not count."""
    code = (
        "import os, socket, sys, signal\ns = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()\n"
        "maker = os.getpid()\nif os.fork(): os._exit(0)\n"
        "while os.getppid() == maker: pass\nopen(sys.argv[1] + '.flag', 'w')\nsignal.pause()"
    )
    with reserved_socket_path() as path:
        line = ["sh", "-c", '"$@"; exec sleep infinity', "sh", *program(code), str(path)]
        ready = all_of(path_exists(f"{path}.flag"), unix_socket_listening(path))
        with managed_process(line, ready=ready, ready_timeout=LONG):
            with pytest.raises(WaitTimeout, match=r"who answers is not this process, but process \d+"):
                managed_process(STAY, ready=ready, ready_timeout="300ms").start()


def given_away(path: Path, make: str, then: str) -> list[str]:
    """A program that makes a socket *s*, gives it to us as well, by the unix socket at *path*, and goes on once we have it."""
    code = (
        f"import os, signal, socket, sys\n{make}\n"
        f"u = socket.socket(socket.AF_UNIX); u.connect({str(path)!r})\n"
        f"socket.send_fds(u, [b'x'], [s.fileno()]); u.recv(1)\n{then}"
    )
    return program(code)


def taken(taker: socket.socket) -> socket.socket:
    """The socket that such a program gives us."""
    connection, _ = taker.accept()
    with connection:
        _, (kept,), _, _ = socket.recv_fds(connection, 1, 1)
    return socket.socket(fileno=kept)


@pytest.fixture
def taker() -> Iterator[tuple[Path, socket.socket]]:
    """Where such programs give their sockets away, and who takes them."""
    with reserved_socket_path() as path, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield path, listener


MAKES = {
    "tcp": "s = socket.create_server(('127.0.0.1', int(sys.argv[1])))",
    "udp": "s = socket.socket(type=socket.SOCK_DGRAM); s.setsockopt(1, 2, 1); s.bind(('127.0.0.1', int(sys.argv[1])))",
    "unix": "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[2]); s.listen()",
}


@pytest.mark.parametrize("kind", MAKES)
def test_socket_that_a_stranger_has_too(kind, taker, tmp_path, monkeypatch):
    """A server that gave a socket away at which clients still come is not gone in full: the error names it, and who has it."""
    monkeypatch.setenv("WAITKIT_TIMEOUT_SCALE", "0.05")
    with reserved_port(protocol="both") as port:
        argv = [*given_away(taker[0], MAKES[kind], "signal.pause()"), str(port), str(tmp_path / "s")]
        process = managed_process(argv, stop_timeout=LONG).start()
        with taken(taker[1]), pytest.raises(WaitTimeout) as caught:
            process.stop()
    place = f"unix socket {tmp_path / 's'}" if kind == "unix" else f"port {port}"
    named = f"{place} (udp)" if kind == "udp" else place
    assert f"{named} of {process} to be given up" in str(caught.value)
    assert re.search(rf"^{re.escape(place)} is held by pid {os.getpid()}\b", str(caught.value), re.MULTILINE)


@pytest.mark.parametrize("by", ["port", "reservation"])
def test_port_of_a_process_that_ended_by_itself(by, taker, monkeypatch):
    """The port of a process that has ended by itself is looked at, too: the one it was ready by, and those that are reserved."""
    monkeypatch.setenv("WAITKIT_TIMEOUT_SCALE", "0.05")
    reservation = reserved_port()
    with reservation as port:
        if by == "port":
            reservation.release()
        argv = [*given_away(taker[0], MAKES["tcp"] + "; print('up')", "os._exit(3)"), str(port)]
        ready = port_listening(port) if by == "port" else output_matches("up")
        process = managed_process(argv, ready=ready, ready_timeout=LONG).start()
        with taken(taker[1]):
            wait_for(process.exited, LONG)
            with pytest.raises(WaitTimeout, match=f"port {port} of .* to be given up"):
                process.stop()
    assert process.exit_code == 3


@pytest.mark.parametrize("start_method", START_METHODS)
def test_sockets_of_ours_that_a_callable_inherits(start_method, tmp_path):
    """A callable that has our sockets because it is our fork is gone without them."""
    with (
        socket.create_server(("127.0.0.1", 0)),
        socket.socket(type=socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(tmp_path / "s"))
        unix.listen()
        with managed_process(children.stay, ready="event", ready_timeout=LONG, start_method=start_method):
            pass


def test_bad_sockets():
    """What is no open socket is refused when it is written, as are sockets for a callable."""
    with pytest.raises(TypeError, match="is no open socket"):
        managed_process([sys.executable], sockets=[5])
    with socket.socket() as closed:
        pass
    with pytest.raises(TypeError, match="is no open socket"):
        managed_process([sys.executable], sockets=[closed])
    with socket.socket() as sock, pytest.raises(TypeError, match="sockets= are for programs"):
        managed_process(print, sockets=[sock])
