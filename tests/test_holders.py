"""Who holds a port: the facts that errors name."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack

from children import listen

from waitkit import managed_process, reserved_port
from waitkit.ports.holders import Holder, describe_holders, holders_of


def test_nobody() -> None:
    """A port that only a reservation holds has no holder the system would list."""
    with reserved_port() as port:
        assert holders_of(port) == []
        assert describe_holders(port) == []


def test_listener() -> None:
    """A listener is found with its process, state and address."""
    with socket.create_server(("127.0.0.3", 0)) as server:
        (holder,) = holders_of(server.getsockname()[1])
        assert (holder.pid, holder.state, holder.address) == (os.getpid(), "LISTEN", "127.0.0.3")
        assert holder.program


def test_listener_of_a_child() -> None:
    """A listener of another process is found with that process."""
    with reserved_port() as port, managed_process(listen, port, ready="event") as process:
        assert [(holder.pid, holder.state) for holder in holders_of(port)] == [(process.pid, "LISTEN")]


def test_listeners_come_first_and_clients_not_at_all() -> None:
    """Connections come after the listener, and a socket that is only connected *to* the port holds nothing of it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), source_address=("127.0.0.2", 0)) as client,
        server.accept()[0],
    ):

        def found(port: int) -> list[tuple[str, str]]:
            # What another connection left in TIME_WAIT at the same port belongs to nobody.
            return [(holder.state, holder.address) for holder in holders_of(port) if holder.pid == os.getpid()]

        assert found(server.getsockname()[1]) == [("LISTEN", "127.0.0.1"), ("ESTABLISHED", "127.0.0.1")]
        assert found(client.getsockname()[1]) == [("ESTABLISHED", "127.0.0.2")]


def test_only_a_few_are_described() -> None:
    """A port with many connections is described in at most three lines, the listener's first."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
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
    assert str(Holder(812, "postgres", "LISTEN", "0.0.0.0")) == "pid 812 (postgres), LISTEN on 0.0.0.0"
    assert str(Holder(None, "", "LISTEN", "::")) == "a process not visible to this user, LISTEN on ::"
    assert "no process: TIME_WAIT on 127.0.0.1" in str(Holder(None, "", "TIME_WAIT", "127.0.0.1"))
