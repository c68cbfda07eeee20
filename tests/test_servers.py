"""Servers of the real world, unmodified: each under ``reserved_port`` and ``managed_process``, asked, restarted, and gone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from children import LONG, http_server, nothing_left, own_children  # noqa: F401

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


def installed(name: str) -> str:
    """The path of a server program; without one the test is skipped."""
    folders = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=folders)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


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


def get(url: str) -> bytes:
    """The page at *url*, asked for directly whatever proxies the environment names."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=30) as answer:
        page: bytes = answer.read()
    return page


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


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user may use; its short name leaves room for sockets in it."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_redis(folder: Path) -> None:
    """redis-server answers PING, and does so again after a restart on the same port."""
    program = installed("redis-server")

    def make(port: int) -> ManagedProcess:
        argv = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        return managed_process(argv, ready=port_listening(port), ready_timeout=LONG, stop_timeout=LONG)

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
    program = installed("redis-server")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        argv = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        server = managed_process(argv, ready=lambda: False, ready_timeout=None)
        with pytest.raises(Exception, match="Address already in use"):
            server.start()
    assert server.exit_code == 1


def test_nginx(folder: Path) -> None:
    """nginx, a master with workers, answers over HTTP; all of its processes are gone afterwards."""
    program = installed("nginx")
    (folder / "index.html").write_text("served")

    def make(port: int) -> ManagedProcess:
        configuration = folder / "nginx.conf"
        user = "user root;" if os.getuid() == 0 else ""
        paths = "".join(
            f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration.write_text(
            f"daemon off; worker_processes 2; pid {folder}/pid; error_log stderr; {user} events {{}}\n"
            f"http {{ access_log off; {paths} server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
        )
        argv = [program, "-p", str(folder), "-c", str(configuration), "-e", "stderr"]
        ready = http_ok(f"http://127.0.0.1:{port}/index.html")
        return managed_process(argv, ready=ready, ready_timeout=LONG, stop_timeout=LONG)

    def ask(port: int) -> None:
        assert get(f"http://127.0.0.1:{port}/index.html") == b"served"

    serve_twice(make, ask)


def test_memcached() -> None:
    """Memcached keeps a value, and has lost it after a restart on the same port: it is another process."""
    program = installed("memcached")

    def make(port: int) -> ManagedProcess:
        argv = [program, "-l", "127.0.0.1", "-p", str(port), "-U", "0"]
        user = "nobody" if os.getuid() == 0 else None
        return managed_process(argv, ready=port_listening(port), ready_timeout=LONG, stop_timeout=LONG, user=user)

    def ask(port: int) -> None:
        assert talk(port, b"get order\r\n", b"END\r\n") == b"END\r\n"
        assert talk(port, b"set order 0 0 2\r\n12\r\n", b"\r\n") == b"STORED\r\n"
        assert talk(port, b"get order\r\n", b"END\r\n") == b"VALUE order 0 2\r\n12\r\nEND\r\n"

    serve_twice(make, ask)


def postgres_programs() -> tuple[str, str]:
    """``initdb`` and ``postgres``."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")])
    initdb, postgres = shutil.which("initdb", path=path), shutil.which("postgres", path=path)
    if initdb is None or postgres is None:
        pytest.skip("PostgreSQL (initdb and postgres) is not installed")
    return initdb, postgres


def speaks_to_systemd(postgres: str) -> bool:
    """Whether this PostgreSQL was built with systemd, as distributions do."""
    libraries = subprocess.run(["ldd", postgres], capture_output=True, text=True, timeout=60, check=False)
    return "libsystemd" in libraries.stdout


@pytest.mark.parametrize("ready", ["its output", "its notification"])
def test_postgresql(folder: Path, ready: str) -> None:
    """PostgreSQL answers a query, and does so again after a restart on the same port and the same data.

    It refuses to run as root, so it runs as another user. What ready means it says itself: its port accepts before.
    """
    initdb, postgres = postgres_programs()
    if ready == "its notification" and not speaks_to_systemd(postgres):
        pytest.skip("this PostgreSQL was built without systemd")
    user = "nobody" if os.getuid() == 0 else None
    data = folder / "data"
    options = ["-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]
    environment = {**os.environ, "HOME": str(folder)}
    with managed_process([initdb, "-D", str(data), *options], user=user, cwd=folder, env=environment) as init:
        assert wait_for(init.exited, LONG).code == 0, init.output.tail()

    def make(port: int) -> ManagedProcess:
        argv = [postgres, "-D", str(data), "-p", str(port), "-k", str(folder), "-h", "127.0.0.1", "-F"]
        return managed_process(
            argv,
            ready="notify" if ready == "its notification" else output_matches("ready to accept connections", "stderr"),
            ready_timeout=LONG,
            stop_timeout=LONG,
            stop_signal=signal.SIGINT,  # PostgreSQL's "fast" end: it does not wait for its clients
            user=user,
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
        assert get(f"http://127.0.0.1:{port}/page") == b"served"

    serve_twice(make, ask)
