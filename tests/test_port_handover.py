"""Handing a port over to its server without a race: kept bound, as a descriptor, by socket activation, or released."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import children
import pytest
from children import LONG, nothing_left  # noqa: F401
from programs import UNPRIVILEGED, get, memcached, nginx, postgresql, redis

from waitkit import (
    port_listening,
    process_exited,
    reserved_port,
    reserved_socket_path,
    socket_activation,
    wait_for,
    who_holds,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

#: A program that tells what it was handed, one JSON line, and then serves one answer on each socket.
TELLS = """
import json, os, socket, sys
count = int(os.environ["LISTEN_FDS"])
socks = [socket.socket(fileno=3 + number) for number in range(count)]
told = {
    "mine": os.environ["LISTEN_PID"] == str(os.getpid()),
    "pid": os.getpid(),
    "names": os.environ.get("LISTEN_FDNAMES"),
    "at": [sock.getsockname() for sock in socks],
    "descriptors": sorted(map(int, os.listdir("/proc/self/fd"))),
    "stdin": os.readlink("/proc/self/fd/0"),
    "argv": sys.argv[1:],
}
print(json.dumps(told), flush=True)
for sock in socks:
    sock.accept()[0].sendall(str(os.getpid()).encode())
"""


def own_program(*arguments: str) -> list[str]:
    return [sys.executable, "-S", "-c", TELLS, *arguments]


def ask(port: int) -> bytes:
    """What the server at a port says to a client that says nothing."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        return client.recv(100)


@contextmanager
def running(argv: list[str], stop: int = signal.SIGTERM, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program for the length of the block; its output goes where ours does not."""
    process = subprocess.Popen(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    try:
        yield process
    finally:
        process.send_signal(stop)
        try:
            wait_for(process_exited(process), LONG)
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("count", [1, 2, 12])
def test_socket_activation(count: int) -> None:
    """A program gets its sockets as 3, 4, ..., in order, with its own pid, the names and nothing else; its arguments pass."""
    reservations = [reserved_port() for _ in range(count)]
    ports = [reservation.__enter__() for reservation in reservations]
    try:
        names = [f"socket{number}" for number in range(count)]
        start = socket_activation(
            own_program("a b", "$c", ""), *(reservation.listen() for reservation in reservations), names=names
        )
        with running(start.argv, **start.options) as process:
            with ThreadPoolExecutor(count) as pool:  # they connect before the program runs
                answers = list(pool.map(ask, ports))
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
    finally:
        for reservation in reservations:
            reservation.release()
    assert told["mine"]
    assert told["pid"] == process.pid
    assert told["names"] == ":".join(names)
    assert [tuple(address) for address in told["at"]] == [("127.0.0.1", port) for port in ports]
    assert told["argv"] == ["a b", "$c", ""]
    # One more for the listing itself.
    assert told["descriptors"] == list(range(3 + count + 1))
    assert answers == [str(process.pid).encode()] * count
    if count == 1:
        assert told["stdin"] == "/dev/null"


def test_socket_activation_of_a_unix_socket() -> None:
    """A listener at a path is handed over as one at a port is, without names where none are given."""
    reservation = reserved_socket_path()
    with reservation as path:
        start = socket_activation(own_program(), reservation.listen())
        with running(start.argv, **start.options) as process, socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(path))
            assert client.recv(100) == str(process.pid).encode()
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
    assert told["at"] == [str(path)]
    assert told["names"] is None


def test_restart_without_a_refused_client() -> None:
    """The listener stays open here: a client that comes between two servers is served by the second."""
    reservation = reserved_port()
    with reservation as port:
        start = socket_activation(own_program(), reservation.listen())
        pids = []
        for _ in range(3):
            client = socket.create_connection(("127.0.0.1", port), timeout=30)
            with client, running(start.argv, **start.options) as process:
                assert client.recv(100) == str(process.pid).encode()
            pids.append(process.pid)
    assert len(set(pids)) == 3


def test_what_was_inherited_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was itself started by socket activation does not pass its own pid and names on."""
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDNAMES", "theirs")
    reservation = reserved_port()
    with reservation as port:
        start = socket_activation(own_program(), reservation.listen())
        with running(start.argv, **start.options) as process:
            ask(port)
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
    assert told["mine"]
    assert told["names"] is None


def test_signals_and_exit_codes_are_the_programs() -> None:
    """The shim becomes the program: its exit code and the signal that ends it are the program's."""
    reservation = reserved_port()
    with reservation:
        for sockets in ((reservation.listen(),), (reservation.listen("::1"), reservation.listen("127.0.0.2"))):
            for code, expected in (("exit 7", 7), ("kill -9 $$", -9)):
                start = socket_activation(["sh", "-c", code], *sockets)
                assert subprocess.run(start.argv, check=False, timeout=30, **start.options).returncode == expected


def test_program_that_does_not_exist() -> None:
    """A program that is not there is told when it is written, not by an exit code of the shim."""
    reservation = reserved_port()
    with reservation, pytest.raises(FileNotFoundError, match="no such program on the PATH"):
        socket_activation(["no-such-server"], reservation.listen())


def test_names_that_do_not_fit() -> None:
    """Names are as many as sockets, without colons."""
    reservation = reserved_port()
    with reservation:
        listener = reservation.listen()
        for names in ([], ["a", "b"], "a", ["a:b"], [""], ["x" * 256]):
            with pytest.raises(ValueError, match="names="):
                socket_activation(["true"], listener, names=names)
    with pytest.raises(TypeError, match="no open socket"):
        socket_activation(["true"], listener)


# Real servers.


APPLICATION = """
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = (await receive())["type"]
            await send({"type": event + ".complete"})
            if event == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
    await send({"type": "http.response.body", "body": b"served"})
"""


def test_uvicorn_takes_a_descriptor(folder: Path) -> None:
    """Uvicorn serves on a listener that it is handed by number; a client that came before it is answered."""
    pytest.importorskip("uvicorn")
    (folder / "service.py").write_text(APPLICATION)
    reservation = reserved_port()
    with reservation as port:
        listener = reservation.listen()
        with ThreadPoolExecutor(1) as pool:
            early = pool.submit(get, port)
            number = listener.fileno()
            argv = [sys.executable, "-m", "uvicorn", "--fd", str(number), "--no-access-log", "service:application"]
            with running(argv, pass_fds=[number], cwd=folder):
                assert wait_for(early, LONG).result() == b"served"
                assert get(port) == b"served"


def test_uvicorn_binds_a_held_port(folder: Path) -> None:
    """Uvicorn binds and restarts on a port that is kept for it."""
    pytest.importorskip("uvicorn")
    (folder / "service.py").write_text(APPLICATION)
    with reserved_port() as port:
        argv = [sys.executable, "-m", "uvicorn", "--port", str(port), "--no-access-log", "service:application"]
        for _ in range(2):
            with running(argv, cwd=folder) as process:
                wait_for(port_listening(port), LONG, unless=process_exited(process))
                assert get(port) == b"served"


@pytest.mark.servers
def test_nginx_takes_a_descriptor(folder: Path) -> None:
    """Nginx serves on a listener that it finds in its own variable; a client that came before it is answered."""
    reservation = reserved_port()
    with reservation as port:
        argv = nginx(folder, port, workers=1)  # without one, nginx crashes on what it inherits
        listener = reservation.listen()
        with ThreadPoolExecutor(1) as pool:
            early = pool.submit(get, port, "page")
            number = listener.fileno()
            with running(argv, pass_fds=[number], env={**os.environ, "NGINX": f"{number};"}):
                assert wait_for(early, LONG).result() == b"served"


def http_server(folder: Path, port: int) -> list[str]:
    return [*children.http_server(port), "--directory", str(folder)]


def user(make: Callable[[Path, int], list[str]]) -> str | None:
    """Who runs it: PostgreSQL refuses to run as root."""
    return UNPRIVILEGED if make is postgresql else None


def stop_signal(make: Callable[[Path, int], list[str]]) -> int:
    """The hardest end that leaves no process: PostgreSQL has others to end, and nginx of one process may miss a SIGTERM."""
    return signal.SIGINT if make is postgresql else signal.SIGKILL


@pytest.mark.servers
@pytest.mark.parametrize("make", [redis, nginx, memcached, postgresql, http_server])
def test_server_binds_a_held_port(make: Callable[[Path, int], list[str]], folder: Path) -> None:
    """Each of these, unmodified, listens on a port while it is kept for it, and again at once after it was killed with a
    client connected, which leaves the port as bad as can be.
    """
    with reserved_port() as port:
        for _ in range(2):
            with running(make(folder, port), stop_signal(make), cwd=folder, user=user(make)) as process:
                wait_for(port_listening(port, "127.0.0.1"), LONG, unless=process_exited(process))
                client = socket.create_connection(("127.0.0.1", port), timeout=30)
                with client:
                    assert process.pid in {holder.pid for holder in who_holds(port) if holder.state == "LISTEN"}
                    process.send_signal(stop_signal(make))
                    if make is postgresql:
                        client.close()  # it waits for those who have not said yet who they are
                    wait_for(process_exited(process), LONG)


@pytest.mark.servers
@pytest.mark.parametrize("make", [redis, nginx, memcached, postgresql, http_server])
def test_server_binds_a_released_port(make: Callable[[Path, int], list[str]], folder: Path) -> None:
    """Each of these also takes a port that was released just before."""
    reservation = reserved_port()
    with reservation as port:
        argv = make(folder, port)
        reservation.release()
        with running(argv, stop_signal(make), cwd=folder, user=user(make)) as process:
            wait_for(port_listening(port, "127.0.0.1"), LONG, unless=process_exited(process))


def test_server_without_the_option_is_handed_the_port_released() -> None:
    """A server that sets no option cannot bind a held port, and can bind it released."""
    code = (
        "import socket, sys; s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); sys.stdin.read()"
    )
    reservation = reserved_port()
    with reservation as port:
        argv = [sys.executable, "-S", "-c", code, str(port)]
        refused = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
        )
        assert "Address already in use" in refused.stderr
        reservation.release()
        with running(argv, stdin=subprocess.PIPE) as process:
            wait_for(port_listening(port), LONG, unless=process_exited(process))
