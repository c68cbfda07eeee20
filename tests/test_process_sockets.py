"""Processes that are handed their listening sockets: nobody can take the port, and clients may come before they are ready."""

from __future__ import annotations

import socket
import sys

import pytest
from children import LONG, program

from waitkit import managed_process, port_free, port_listening, reserved_port, wait_for

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
