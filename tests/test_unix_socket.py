"""``unix_socket_listening``: a server accepts at a path."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from children import LONG, no_descriptor_left

from waitkit import WaitTimeout, any_of, unix_socket_listening, wait_for


def server_at(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A unix socket bound to *path*, not listening yet."""
    server = socket.socket(socket.AF_UNIX, kind)
    server.bind(str(path))
    return server


def test_value_is_the_path(folder: Path) -> None:
    """A socket that listens is found in one look, and the wait returns its path."""
    with server_at(folder / "s") as server:
        server.listen()
        assert wait_for(unix_socket_listening(folder / "s"), timeout=0) == folder / "s"
        assert wait_for(unix_socket_listening(str(folder / "s")), timeout=0) == folder / "s"


def test_missing(folder: Path) -> None:
    """Where there is no such file the error says so."""
    with pytest.raises(WaitTimeout) as caught:
        wait_for(unix_socket_listening(folder / "s"), timeout="20ms")
    assert caught.value.last == "no such file or directory"
    assert caught.value.what == f"unix socket {folder / 's'} to listen"


def test_bound_only_then_listening_then_stale(folder: Path) -> None:
    """A socket file without a listener behind it does not count: neither before it listens nor after its server is gone."""
    path = folder / "s"
    with server_at(path) as server:
        with pytest.raises(WaitTimeout, match="connection refused"):
            wait_for(unix_socket_listening(path), timeout=0)
        server.listen()
        wait_for(unix_socket_listening(path), timeout=0)
    assert path.exists()
    with pytest.raises(WaitTimeout, match="connection refused"):
        wait_for(unix_socket_listening(path), timeout=0)


def test_begins_during_the_wait(folder: Path) -> None:
    """A server that comes up while the wait looks is found."""
    path = folder / "s"
    servers = []

    def listens_at_the_third_look() -> bool:
        servers.append(None)
        if len(servers) == 3:
            servers.append(server_at(path))
            servers[-1].listen()
        return False

    assert wait_for(any_of(listens_at_the_third_look, unix_socket_listening(path)), LONG).value == path
    servers[-1].close()


def test_other_things_at_the_path(folder: Path) -> None:
    """A file, a folder and a datagram socket at the path are not servers."""
    (folder / "file").touch()
    with server_at(folder / "datagrams", socket.SOCK_DGRAM):
        for path in (folder, folder / "file", folder / "datagrams"):
            with pytest.raises(WaitTimeout):
                wait_for(unix_socket_listening(path), timeout=0)


def test_full_queue_does_not_count_as_accepting(folder: Path) -> None:
    """A server whose queue is full accepts nobody now; it does as soon as there is room, and no look blocks."""
    path = folder / "s"
    with server_at(path) as server:
        server.listen(0)
        clients = []
        code = 0
        while code == 0:
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            clients.append(client)
            code = client.connect_ex(str(path))
        try:
            with pytest.raises(WaitTimeout) as caught:
                wait_for(unix_socket_listening(path), timeout="20ms")
            assert caught.value.last
            server.accept()[0].close()
            assert wait_for(unix_socket_listening(path), LONG) == path
        finally:
            for client in clients:
                client.close()


def test_relative_path_is_fixed_when_it_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path counts from the working directory of then, not of the wait."""
    with server_at(folder / "s") as server:
        server.listen()
        monkeypatch.chdir(folder)
        condition = unix_socket_listening("s")
        monkeypatch.chdir("/")
        assert wait_for(condition, timeout=0) == folder / "s"


def test_longest_path(folder: Path) -> None:
    """A path of 107 bytes works, one more is refused when the condition is made."""
    room = 107 - len(os.fsencode(folder)) - 1
    path = folder / ("x" * room)
    with server_at(path) as server:
        server.listen()
        assert wait_for(unix_socket_listening(path), timeout=0) == path
    with pytest.raises(ValueError, match="too long for a unix socket: at most 107 bytes"):
        unix_socket_listening(f"{path}x")


@pytest.mark.parametrize("path", [None, 3, b"/run/s"])
def test_no_path(path: object) -> None:
    """What is no path is refused when the condition is made."""
    with pytest.raises(TypeError, match="is not a path"):
        unix_socket_listening(path)  # type: ignore[arg-type]


def test_looks_leave_no_descriptor(folder: Path) -> None:
    """Hundreds of attempts leave no socket open."""
    with server_at(folder / "s") as server:
        server.listen(500)
        with no_descriptor_left():
            for _ in range(100):
                wait_for(unix_socket_listening(folder / "s"), timeout=0)
                with pytest.raises(WaitTimeout):
                    wait_for(unix_socket_listening(folder / "none"), timeout=0)
