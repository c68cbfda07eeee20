"""Servers of the real world, unmodified: each under ``reserved_port`` and ``managed_process``, asked, restarted, and gone."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from children import LONG, http_server, nothing_left, own_children  # noqa: F401
from programs import UNPRIVILEGED, get, installed, memcached, nginx, postgresql, redis

from waitkit import (
    ManagedProcess,
    http_ok,
    managed_process,
    output_matches,
    port_free,
    port_listening,
    reserved_port,
    unix_socket_listening,
    wait_for,
)

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("nothing_left")]


def talk(port: int, request: bytes, until: bytes) -> bytes:
    """Send a request to a port of this machine and read until the answer ends as expected."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        answer = b""
        while not answer.endswith(until):
            chunk = connection.recv(4_096)
            assert chunk, answer
            answer += chunk
        return answer


def serve_twice(make: Callable[[int], ManagedProcess], ask: Callable[[int], None]) -> None:
    """Start a server on a reserved port, ask it, and do it all again on the same port; afterwards nothing is left."""
    with reserved_port() as port:
        server = make(port)
        pids = set()
        for _ in range(2):
            with server:
                ask(port)
                pids.add(server.pid)
                assert server.ready_after is not None
                assert server.statistics().rss > 0
                tree = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
            for process in tree:
                wait_for(process, LONG)
            # Connections the server closed first are in TIME_WAIT: they must not bar it, nor anybody like it.
            assert wait_for(port_free(port), LONG) == port
        assert len(pids) == 2
    assert own_children() == []


def test_redis(folder: Path) -> None:
    """redis-server answers PING, and does so again after a restart on the same port."""

    def make(port: int) -> ManagedProcess:
        return managed_process(redis(folder, port), ready=port_listening(port), ready_timeout=LONG, stop_timeout=LONG)

    def ask(port: int) -> None:
        assert talk(port, b"PING\r\n", b"\r\n") == b"+PONG\r\n"

    serve_twice(make, ask)


def test_redis_at_a_unix_socket(folder: Path) -> None:
    """redis-server at a unix socket is ready when that listens."""
    path = folder / "redis"
    argv = [installed("redis-server"), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
    with managed_process(argv, ready=unix_socket_listening(path), ready_timeout=LONG, stop_timeout=LONG) as server:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            assert client.recv(100) == b"+PONG\r\n"
    assert server.exit_code == 0
    assert "bye bye" in server.output.stdout


def test_redis_on_a_port_that_is_taken(folder: Path) -> None:
    """redis-server on a port that somebody else listens on fails its start at once, with its own words."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        server = managed_process(redis(folder, other.getsockname()[1]), ready=lambda: False, ready_timeout=None)
        with pytest.raises(Exception, match="Address already in use"):
            server.start()
    assert server.exit_code == 1


def test_nginx(folder: Path) -> None:
    """nginx, a master with workers, answers over HTTP; all of its processes are gone afterwards."""

    def make(port: int) -> ManagedProcess:
        ready = http_ok(f"http://127.0.0.1:{port}/page")
        return managed_process(nginx(folder, port, workers=2), ready=ready, ready_timeout=LONG, stop_timeout=LONG)

    def ask(port: int) -> None:
        assert get(port, "page") == b"served"

    serve_twice(make, ask)


def test_memcached(folder: Path) -> None:
    """Memcached keeps a value, and has lost it after a restart on the same port: it is another process."""

    def make(port: int) -> ManagedProcess:
        return managed_process(
            memcached(folder, port),
            ready=port_listening(port),
            ready_timeout=LONG,
            stop_timeout=LONG,
            user=UNPRIVILEGED,
        )

    def ask(port: int) -> None:
        assert talk(port, b"get order\r\n", b"END\r\n") == b"END\r\n"
        assert talk(port, b"set order 0 0 2\r\n12\r\n", b"\r\n") == b"STORED\r\n"
        assert talk(port, b"get order\r\n", b"END\r\n") == b"VALUE order 0 2\r\n12\r\nEND\r\n"

    serve_twice(make, ask)


def speaks_to_systemd(postgres: str) -> bool:
    """Whether this PostgreSQL was built with systemd, as distributions do."""
    libraries = subprocess.run(["ldd", postgres], capture_output=True, text=True, timeout=60, check=False)
    return "libsystemd" in libraries.stdout


@pytest.mark.parametrize("ready", ["its output", "its notification"])
def test_postgresql(folder: Path, ready: str) -> None:
    """PostgreSQL answers a query, and does so again after a restart on the same port and the same data.

    It refuses to run as root, so it runs as another user. What ready means it says itself: its port accepts before.
    """
    if ready == "its notification" and not speaks_to_systemd(installed("postgres")):
        pytest.skip("this PostgreSQL was built without systemd")

    def make(port: int) -> ManagedProcess:
        return managed_process(
            postgresql(folder, port),
            ready="notify" if ready == "its notification" else output_matches("ready to accept connections", "stderr"),
            ready_timeout=LONG,
            stop_timeout=LONG,
            stop_signal=signal.SIGINT,  # PostgreSQL's "fast" end: it does not wait for its clients
            user=UNPRIVILEGED,
            cwd=folder,
        )

    def ask(port: int) -> None:
        # The protocol by hand, as no driver is needed for a single answer: start-up, then a simple query.
        parameters = b"user\0postgres\0database\0postgres\0\0"
        startup = (8 + len(parameters)).to_bytes(4, "big") + (196_608).to_bytes(4, "big") + parameters
        sql = b"select 6 * 7 as answer\0"
        query = b"Q" + (4 + len(sql)).to_bytes(4, "big") + sql
        idle = b"Z\0\0\0\5I"
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            for request in (startup, query):
                connection.sendall(request)
                answer = b""
                while not answer.endswith(idle):
                    chunk = connection.recv(4_096)
                    assert chunk, answer
                    answer += chunk
        assert b"answer\0" in answer
        assert b"\0\0\0\x0242" in answer  # one column, two bytes long

    serve_twice(make, ask)


def test_http_server_of_python(folder: Path) -> None:
    """``python -m http.server`` answers, and does so again after a restart on the same port."""
    (folder / "page").write_text("served")

    def make(port: int) -> ManagedProcess:
        argv = http_server(port)
        return managed_process(argv, ready=port_listening(port), ready_timeout=LONG, cwd=folder)

    def ask(port: int) -> None:
        assert get(port, "page") == b"served"

    serve_twice(make, ask)
