"""An HTTP server that answers well, as a condition."""

from __future__ import annotations

import base64
import errno
import http.client
import os
import socket
import ssl
import time
from collections.abc import Container, Sequence, Sized
from functools import partial
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from waitkit.conditions.condition import Condition
from waitkit.engine.clock import now as clock_now
from waitkit.engine.signals import Wake
from waitkit.ground.durations import MILLISECOND, SECOND, Duration, Nanoseconds, format_duration, to_nanoseconds
from waitkit.ports.addresses import Address
from waitkit.ports.names import Addresses
from waitkit.ports.owners import AnswersOfOne, answering_to
from waitkit.waits.watching import Context, Verdict, Watch

__all__ = ["http_ok"]

_IN_PATHS: Final = "/%:@!$&'()*+,;=~?"  # as in RFC 3986; what is quoted already stays
_LONGEST_LINE: Final = 65_536


class _HttpOk(Condition[int]):
    def __init__(
        self, url: str, status: Container[int], look_timeout: Nanoseconds, context: ssl.SSLContext | None
    ) -> None:
        parts = urlsplit(url)
        #: without user and password, which go into no message
        self.url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self.headers = {"Connection": "close", "User-Agent": "waitkit"} | _authorization(parts)
        self.status = status
        self.look_timeout = look_timeout
        self.ssl_context = context

    @property
    def what(self) -> str:
        return f"{self.url} to answer well"

    def watch(self, context: Context) -> Watch:
        return _HttpWatch(self, context)


class _HttpWatch(Watch):
    __slots__ = ("_addresses", "_answered_at", "_condition", "_context", "_trouble")
    outside = True

    def __init__(self, condition: _HttpOk, context: Context) -> None:
        self._condition = condition
        self._context = context
        self._trouble = ""
        self._answered_at: Address | None = None
        self._addresses = Addresses(str(urlsplit(condition.url).hostname), self._port, context)
        if isinstance(context, AnswersOfOne):
            context.asks_for_port(self._port)

    @property
    def _port(self) -> int:
        parts = urlsplit(self._condition.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def may_block(self) -> bool:
        return True

    def arm(self, wake: Wake) -> None:
        self._addresses.arm(wake)

    def look(self, now: Nanoseconds) -> Verdict:
        patience = self._patience(now)
        try:
            status, reason = self._ask(patience / SECOND)
        except TimeoutError:
            status = 0
            # Near the deadline a look has less time than an answer may need: then what was seen before tells more.
            if patience == self._condition.look_timeout or not self._trouble:
                self._trouble = f"no answer within {format_duration(patience)}"
        except (OSError, http.client.HTTPException) as error:
            self._trouble = (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
            status = 0
        else:
            objection = self._objection() if status in self._condition.status else ""
            self._trouble = objection or f"{status} {reason}".strip()
            status = 0 if objection else status
        after = clock_now()
        holds = bool(status) and status in self._condition.status
        return Verdict(holds, status if holds else None, self._context.next_look(after, after - now))

    def _objection(self) -> str:
        """Why an answer of this server does not count; empty where it does."""
        context, address = self._context, self._answered_at
        if not isinstance(context, AnswersOfOne) or address is None:
            return ""
        found = answering_to(address, self._port)
        return context.objection_to_listeners(found) if found else ""

    def _patience(self, now: Nanoseconds) -> Nanoseconds:
        """How long this look may last: not beyond the deadline, unless the wait is to be but one look, with ``timeout=0``.

        In a scope whose time is over already the deadline lies before the start: there nothing shall take time any more.
        """
        most, deadline = self._condition.look_timeout, self._context.deadline
        if deadline is None or deadline == self._context.started:
            return most
        return max(MILLISECOND, min(most, deadline - now))

    def _ask(self, patience: float) -> tuple[int, str]:
        parts = urlsplit(self._condition.url)
        assert parts.hostname is not None
        over = time.monotonic() + patience
        addresses = self._addresses.known()
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                parts.hostname, self._port, timeout=patience, context=self._condition.ssl_context
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname, self._port, timeout=patience)
        # As it would itself, but for the name service: it asks that, and waits for as long as it takes.
        connection._create_connection = partial(_connected_to, addresses, over)  # type: ignore[attr-defined]
        try:
            connection.connect()
            self._answered_at = _peer_of(connection.sock)
            target = quote(parts.path or "/", safe=_IN_PATHS) + (
                f"?{quote(parts.query, safe=_IN_PATHS)}" if parts.query else ""
            )
            connection.request("GET", target, headers=self._condition.headers)
            return _status_line(connection.sock, over)
        finally:
            connection.close()

    def seen(self) -> str:
        return self._trouble


def _authorization(parts: SplitResult) -> dict[str, str]:
    """That of HTTP's "Basic" scheme (RFC 7617), where the address names a user."""
    if parts.username is None:
        return {}
    known = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(known).decode()}"}


def _connected_to(addresses: Sequence[Address], over: float, *_: object) -> socket.socket:
    """A connection to the first of *addresses* that takes one. Whatever is done with it next has what is left of the time."""
    failed: OSError = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    for family, where in addresses:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(_left(over))
            sock.connect(where)
        except OSError as error:
            sock.close()
            failed = error
        except BaseException:
            sock.close()
            raise
        else:
            sock.settimeout(_left(over))
            return sock
    raise failed


def _left(over: float) -> float:
    return max(MILLISECOND / SECOND, over - time.monotonic())


def _peer_of(sock: socket.socket) -> Address | None:
    try:
        return sock.family, sock.getpeername()
    except OSError:  # reset already
        return None


def _status_line(sock: socket.socket, over: float) -> tuple[int, str]:
    """The first line of an answer. ``http.client`` would begin its patience anew with every byte that drips in."""
    line = b""
    while b"\n" not in line:
        left = over - time.monotonic()
        if left <= 0 or len(line) > _LONGEST_LINE:
            raise TimeoutError
        sock.settimeout(left)
        chunk = sock.recv(1024)
        if not chunk:
            raise http.client.RemoteDisconnected("the server hung up without an answer")
        line += chunk
    text = line.partition(b"\n")[0].decode("latin-1").strip()
    version, _, rest = text.partition(" ")
    code, _, reason = rest.partition(" ")
    if not version.startswith("HTTP/") or not code.isdecimal():
        raise http.client.BadStatusLine(text[:100])
    return int(code), reason


def http_ok(
    url: str,
    *,
    status: int | Container[int] = range(200, 300),
    look_timeout: Duration = "1s",
    context: ssl.SSLContext | None = None,
) -> Condition[int]:
    """Holds when a GET of *url* is answered with a good status; its value is that status.

    Redirects are not followed: name the page that is meant, or 301 as the status. A look waits for its answer, in an event
    loop in another thread; cancelling a scope takes effect after it. It lasts at most *look_timeout*, and not beyond the
    deadline of the wait. A wait with ``timeout=0`` is one look, which has its *look_timeout*: no server answers in no time.

    Args:
        url: ``http://`` or ``https://``. A user and a password in it (``http://user:password@host/``) are sent by the "Basic"
            scheme, and shown in no message.
        status: what is good: a status, or a collection of them; 200 to 299 unless told otherwise.
        look_timeout: how long one look waits for an answer, above 0.
        context: for ``https``; ``None`` checks certificates by the system's authorities.

    Raises:
        TypeError, ValueError: an argument cannot be what it should be.
    """
    if not _is_url(url):
        raise ValueError(
            f"url={url!r} is not the address of a page: give http://host:port/path or https://..., with a port of 1 to 65535"
        )
    if isinstance(status, bool | str | bytes) or not (isinstance(status, int) or hasattr(status, "__contains__")):
        raise TypeError(f"status={status!r} is neither a status such as 200 nor a collection of them")
    if isinstance(status, Sized) and not status:
        raise ValueError(f"status={status!r} names no status, so no answer would ever be good")
    if isinstance(status, int) and not 100 <= status <= 999:
        raise ValueError(f"status={status!r} is none that a server answers with: they have three digits")
    if context is not None and not isinstance(context, ssl.SSLContext):
        raise TypeError(f"context={context!r} is no ssl.SSLContext")
    patience = to_nanoseconds(look_timeout, "look_timeout")
    if patience == 0:
        raise ValueError(f"look_timeout={look_timeout!r} leaves no time for an answer: give more than 0")
    return _HttpOk(url, (status,) if isinstance(status, int) else status, patience, context)


def _is_url(url: object) -> bool:
    if not isinstance(url, str) or any(character <= " " for character in url):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port out of range, an address of IPv6 without its end
        return False
