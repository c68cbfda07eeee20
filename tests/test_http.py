"""``http_ok``: a page is answered well; no server, however bad, keeps the wait beyond its limits."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from children import LONG, no_descriptor_left, silent

from waitkit import CancelScope, WaitFailed, WaitTimeout, after, http_ok, reserved_port, wait_for, wait_for_async
from waitkit.ports import http

#: What a server answers to a path: given the request's number, from 1, a status.
Answer = Callable[[int], int]


class Server(ThreadingHTTPServer):
    """An HTTP server on loopback that answers as it is told, and keeps the request lines it got."""

    daemon_threads = True

    def __init__(self, answer: Answer, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.answer = answer
        self.lines: list[str] = []
        self.authorizations: list[str | None] = []
        super().__init__(address, Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.lines.append(self.requestline)
        self.server.authorizations.append(self.headers["Authorization"])
        self.send_response(self.server.answer(len(self.server.lines)))
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Run *server* in a thread for the length of the block."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        wait_for(thread, LONG)
        server.server_close()


def test_good_answer() -> None:
    """A page that is answered with 200 holds in one look, the wait returns the status, and the whole target is asked for."""
    with serving(Server(lambda number: 200)) as server:
        assert wait_for(http_ok(f"{server.url}health?full=1"), LONG) == 200
        assert server.lines == ["GET /health?full=1 HTTP/1.1"]


def test_root_where_no_path_is_given() -> None:
    """An address without a path means the root."""
    with serving(Server(lambda number: 204)) as server:
        assert wait_for(http_ok(server.url.rstrip("/")), LONG) == 204
        assert server.lines == ["GET / HTTP/1.1"]


def test_bad_answer() -> None:
    """404 does not do, and the error says that this was the answer."""
    with serving(Server(lambda number: 404)) as server, pytest.raises(WaitFailed) as caught:
        wait_for(http_ok(server.url), LONG, unless=lambda: len(server.lines) == 3)
    assert caught.value.last == "404 Not Found"
    assert caught.value.what == f"{server.url} to answer well"


def test_timeout_tells_of_the_last_answer() -> None:
    """Though the last look, at the deadline, has no time for an answer, the error tells what the server did answer."""
    pause = threading.Event()

    def answer(number: int) -> int:
        with pytest.raises(WaitTimeout):
            wait_for(pause, timeout="20ms")
        return 404

    with serving(Server(answer)) as server:
        with pytest.raises(WaitTimeout, match="404 Not Found"):
            wait_for(http_ok(server.url), timeout="500ms")


def test_unavailable_then_good() -> None:
    """A server that answers 503 while it warms up is asked until it answers 200."""
    with serving(Server(lambda number: 200 if number == 4 else 503)) as server:
        assert wait_for(http_ok(server.url), LONG) == 200
        assert len(server.lines) == 4


def test_redirects_are_not_followed() -> None:
    """A redirect is an answer of its own: not good by default, good where it is named."""
    with serving(Server(lambda number: 301)) as server:
        with pytest.raises(WaitFailed, match="301 Moved Permanently"):
            wait_for(http_ok(server.url), LONG, unless=lambda: bool(server.lines))
        assert wait_for(http_ok(server.url, status=301), LONG) == 301
        assert wait_for(http_ok(server.url, status={200, 301}), LONG) == 301
        assert {line.split()[1] for line in server.lines} == {"/"}


def test_status_of_the_users_choice() -> None:
    """Where a status is named, others do not do, 200 included."""
    with serving(Server(lambda number: 200)) as server, pytest.raises(WaitFailed, match="200 OK"):
        wait_for(http_ok(server.url, status=418), LONG, unless=lambda: bool(server.lines))


def test_refused() -> None:
    """Where nobody listens the error says so."""
    with reserved_port() as port, pytest.raises(WaitTimeout, match="last: connection refused") as caught:
        wait_for(http_ok(f"http://127.0.0.1:{port}/"), timeout="20ms")
    assert caught.value.looks > 1


def test_no_http() -> None:
    """A server that speaks something else does not do; its words are in the error, in one line."""

    def speak(server: socket.socket) -> None:
        while True:
            try:
                connection = server.accept()[0]
            except OSError:
                return  # shut down
            with connection:
                connection.sendall(b"220 ESMTP here\r\n")
                connection.recv(1_000)
            spoken.set()

    spoken = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=speak, args=(server,))
        thread.start()
        with pytest.raises(WaitFailed) as caught:
            wait_for(http_ok(f"http://127.0.0.1:{server.getsockname()[1]}/"), LONG, unless=spoken)
        server.shutdown(socket.SHUT_RDWR)
        wait_for(thread, LONG)
    assert "220 esmtp here" in caught.value.last.lower()
    assert caught.value.last == caught.value.last.strip()


def test_silent_server_is_bounded_by_look_timeout() -> None:
    """A server that never answers costs ``look_timeout`` a look, so several looks fit into the wait."""
    with silent() as url, pytest.raises(WaitTimeout, match="no answer within") as caught:
        wait_for(http_ok(url, look_timeout="20ms"), timeout="300ms")
    assert 3 <= caught.value.looks <= 16


def test_silent_server_is_bounded_by_the_deadline() -> None:
    """A look does not go past the deadline, however long it might take: here an hour."""
    with silent() as url, pytest.raises(WaitTimeout):
        wait_for(http_ok(url, look_timeout="1h"), timeout="50ms")


def test_one_look_has_time_for_an_answer() -> None:
    """With ``timeout=0`` the one look waits for its answer, though the deadline has come before it could be given."""
    asked = threading.Event()

    def answer(number: int) -> int:
        # Slower than any look that is bounded by the deadline: it has 1 ms at the least.
        with pytest.raises(WaitTimeout):
            wait_for(threading.Event(), timeout="20ms")
        asked.set()
        return 200

    with serving(Server(answer)) as server:
        for _ in range(3):
            assert wait_for(http_ok(server.url, look_timeout=LONG), timeout=0) == 200
        assert asked.is_set()
        assert len(server.lines) == 3


def test_one_look_is_bounded_by_look_timeout() -> None:
    """With ``timeout=0`` a silent server costs one look of ``look_timeout``, and the error says that this was the limit."""
    with silent() as url, pytest.raises(WaitTimeout) as caught:
        wait_for(http_ok(url, look_timeout="20ms"), timeout=0)
    assert caught.value.looks == 1
    assert caught.value.last == "no answer within 20 ms"


def test_dripping_server_is_bounded() -> None:
    """A server that sends a byte now and then, and never an answer, is bounded like a silent one."""
    stop = threading.Event()

    def drip(server: socket.socket) -> None:
        with server.accept()[0] as connection:
            connection.sendall(b"HTTP/1.1 200 ")
            try:
                # Each byte in time for a limit that counts from the byte before; all together far beyond any.
                for _ in range(200):
                    with pytest.raises(WaitTimeout):
                        wait_for(stop, timeout="20ms")
                    connection.sendall(b"y")
            except OSError:
                pass
            hung_up.set()

    hung_up = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        with pytest.raises(WaitTimeout, match="no answer within"):
            wait_for(http_ok(f"http://127.0.0.1:{server.getsockname()[1]}/", look_timeout="100ms"), timeout="100ms")
        in_time = not hung_up.is_set()
        wait_for(thread, LONG)
    assert in_time


def test_cancelled_between_looks() -> None:
    """A wait without a limit for a server that answers badly ends when its scope is cancelled."""
    scope = CancelScope()

    def answer(number: int) -> int:
        if number == 3:
            scope.cancel()
        return 503

    with serving(Server(answer)) as server:
        with scope:
            wait_for(http_ok(server.url), timeout=None)
        assert scope.cancelled_caught
        assert len(server.lines) == 3


def test_async_leaves_the_loop_to_others() -> None:
    """A server in the very loop that waits for it can answer: the wait does not block the loop."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> int:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await wait_for_async(http_ok(f"http://127.0.0.1:{port}/"), LONG)

    assert asyncio.run(main()) == 200


def test_async_timeout_with_a_silent_server() -> None:
    """In an event loop too a silent server ends at the deadline, and the loop turns meanwhile."""

    async def main() -> int:
        with silent() as url:
            waiting = asyncio.create_task(wait_for_async(http_ok(url, look_timeout="1h"), timeout="200ms"))
            turns = 0
            while not waiting.done():
                turns += 1
                await after("5ms")
            with pytest.raises(WaitTimeout):
                waiting.result()
        return turns

    assert asyncio.run(main()) >= 3


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, signed by itself, with its key in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key"), "-out", str(folder / "cert")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    both = folder / "both"
    both.write_text((folder / "key").read_text() + (folder / "cert").read_text())
    return both


@pytest.fixture
def https(certificate: Path) -> Iterator[str]:
    """The address of an https server with that certificate."""
    server = Server(lambda number: 200)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with serving(server):
        yield server.url.replace("http:", "https:")


def test_self_signed_certificate_is_refused(https: str) -> None:
    """A certificate that no authority of the system vouches for does not do, and the error says so."""
    with pytest.raises(WaitTimeout, match="certificate verify failed"):
        wait_for(http_ok(https), timeout="1s")


def test_self_signed_certificate_with_a_context(https: str, certificate: Path) -> None:
    """A context that trusts the certificate makes it good."""
    context = ssl.create_default_context(cafile=str(certificate))
    assert wait_for(http_ok(https, context=context), LONG) == 200


def test_https_with_a_plain_server() -> None:
    """Speaking https to a server that speaks http is "not yet", not an error of the program."""
    with serving(Server(lambda number: 200)) as server, pytest.raises(WaitTimeout):
        wait_for(http_ok(server.url.replace("http:", "https:")), timeout="100ms")


def test_looks_leave_no_descriptor() -> None:
    """Answered, refused and unanswered looks leave no connection open."""
    with serving(Server(lambda number: 200)) as server, silent() as url, reserved_port() as port:
        with no_descriptor_left():
            for _ in range(20):
                assert wait_for(http_ok(server.url), LONG)
                for bad in (url, f"http://127.0.0.1:{port}"):
                    with pytest.raises(WaitTimeout):
                        wait_for(http_ok(bad, look_timeout="5ms"), timeout=0)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8080/",
        "ftp://localhost/",
        "http://",
        "http:///path",
        "http://localhost:0/",
        "http://localhost:65536/",
        "http://[::1/",
        "http://localhost:web/",
        "http://localhost/a page",
        b"http://localhost/",
        None,
    ],
)
def test_bad_url(url: object) -> None:
    """What cannot be the address of a page is refused when the condition is made."""
    with pytest.raises(ValueError, match=r"url=.* is not the address of a page: give http://host:port/path"):
        http_ok(url)  # type: ignore[arg-type]


def test_path_that_is_not_ascii() -> None:
    """A path with other letters is asked for as browsers do it, or refused when written, not in the middle of the wait."""
    with serving(Server(lambda number: 200)) as server:
        try:
            condition = http_ok(f"{server.url}grüße")
        except ValueError:
            return
        assert wait_for(condition, LONG) == 200
        assert server.lines == ["GET /gr%C3%BC%C3%9Fe HTTP/1.1"]


def test_ipv6_address_without_a_port() -> None:
    """An IPv6 address is taken whole: its last group is not the port."""
    with pytest.raises(WaitTimeout) as caught:
        wait_for(http_ok("http://[::1]/", status=999), timeout=0)
    # Whether something listens at port 80 here or not: the address was understood.
    assert "not known" not in caught.value.last
    assert "resolution" not in caught.value.last


@pytest.mark.parametrize(
    ("status", "kind"), [(True, TypeError), (2.0, TypeError), (None, TypeError), ("200", TypeError), (99, ValueError)]
)
def test_bad_status(status: object, kind: type[Exception]) -> None:
    """What is neither a status nor a collection of them is refused when the condition is made."""
    with pytest.raises(kind, match="status="):
        http_ok("http://localhost/", status=status)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("patience", "kind"), [(0, ValueError), ("0s", ValueError), (-1, ValueError), (None, TypeError)]
)
def test_bad_look_timeout(patience: object, kind: type[Exception]) -> None:
    """A look without time for an answer is refused when the condition is made."""
    with pytest.raises(kind, match="look_timeout"):
        http_ok("http://localhost/", look_timeout=patience)  # type: ignore[arg-type]


def test_whatever_follows_the_connect_has_what_is_left() -> None:
    """A handshake does not begin the time of a look anew: the socket comes with what the connect has left of it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = (socket.AF_INET, server.getsockname())
        for left in (50, 0.0001):
            with http._connected_to([address], time.monotonic() + left, "host", 3_600) as sock:
                assert 0 < (sock.gettimeout() or 0) <= max(left, 0.001)


def test_user_and_password() -> None:
    """Those of the address are sent, and shown in no message."""
    with serving(Server(lambda number: 401)) as server:
        address = server.url.replace("http://", "http://us%40er:pass%20word@")
        with pytest.raises(WaitTimeout) as caught:
            wait_for(http_ok(address), 0)
        with pytest.raises(WaitTimeout):
            wait_for(http_ok(server.url), 0)
        assert server.authorizations == ["Basic dXNAZXI6cGFzcyB3b3Jk", None]
    assert "word" not in str(caught.value)
    assert server.url in str(caught.value)
