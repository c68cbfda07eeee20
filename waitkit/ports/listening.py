"""Listening sockets as conditions: somebody accepts connections at a port, or at a unix socket."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from waitkit.conditions.condition import Condition
from waitkit.conditions.descriptors import DescriptorWatch, is_ready
from waitkit.ground.durations import SECOND, Nanoseconds
from waitkit.ports.addresses import Address, check_host, check_port, is_literal, resolve
from waitkit.ports.holders import describe_holders
from waitkit.waits.watching import Context, Verdict, Watch

__all__ = ["port_listening", "unix_socket_listening"]

#: How long one attempt may take where no answer comes at all: a lost packet, a silent firewall, a full backlog.
_PATIENCE = SECOND

_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN, errno.EALREADY)


class _ConnectWatch(DescriptorWatch):
    """Tries to connect, to one address after the other, and never blocks: a slow answer wakes the wait when it comes."""

    __slots__ = ("_began", "_socket", "_trouble")

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._socket: socket.socket | None = None
        self._began: Nanoseconds = 0
        self._trouble = ""

    def addresses(self) -> Sequence[Address]:
        """Where to connect. An ``OSError`` means "not yet"."""
        raise NotImplementedError

    def value(self) -> object:
        """What the condition holds with."""
        raise NotImplementedError

    def look(self, now: Nanoseconds) -> Verdict:
        if self._socket is not None:
            pending = self._socket
            if is_ready(pending.fileno(), write=True):
                if self._concluded(pending.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                    return Verdict(True, self.value(), self._context.next_look(now))
            elif now - self._began < _PATIENCE:
                return Verdict(False, None, self._wait_for_answer(now))
            else:
                self._trouble = "no answer to an attempt to connect"
                self._drop()
        try:
            addresses = self.addresses()
        except OSError as error:
            self._trouble = error.strerror or str(error)
            return Verdict(False, None, self._context.next_look(now))
        for family, address in addresses:
            code = self._begin(family, address)
            if code in _IN_PROGRESS and self._socket is not None and not is_ready(self._socket.fileno(), write=True):
                self._began = now
                return Verdict(False, None, self._wait_for_answer(now))
            if code in _IN_PROGRESS and self._socket is not None:
                code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if self._concluded(code):
                return Verdict(True, self.value(), self._context.next_look(now))
        return Verdict(False, None, self._context.next_look(now))

    def _begin(self, family: socket.AddressFamily, address: tuple[object, ...] | str) -> int:
        try:
            self._socket = socket.socket(family, socket.SOCK_STREAM)
            self._socket.setblocking(False)
            return self._socket.connect_ex(address)  # loopback answers within this call, so no round is lost
        except OSError as error:  # no such address family here, no descriptor left, a path too long
            return error.errno or errno.EINVAL

    def _concluded(self, code: int) -> bool:
        """Take in the result of an attempt. True when somebody accepted."""
        assert self._socket is not None or code
        try:
            if code == 0 and self._socket is not None and not _connected_to_itself(self._socket):
                self._trouble = "it listens"
                return True
            # The address family that does not exist here tells nothing; what the other said is worth keeping.
            if code not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) or not self._trouble:
                self._trouble = os.strerror(code).lower() if code else "connection refused"
            return False
        except OSError as error:  # reset between connect and our question
            self._trouble = (error.strerror or str(error)).lower()
            return False
        finally:
            self._drop()

    def _wait_for_answer(self, now: Nanoseconds) -> Nanoseconds:
        assert self._socket is not None
        if self.listen(self._socket.fileno(), write=True):
            return self._began + _PATIENCE
        return self._context.next_look(now)

    def _drop(self) -> None:
        super().close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        self._drop()

    def seen(self) -> str:
        return self._trouble


def _connected_to_itself(connection: socket.socket) -> bool:
    """TCP allows a socket to connect to itself, where the port it is given happens to be the one it asks for."""
    return connection.family != socket.AF_UNIX and connection.getsockname() == connection.getpeername()


class _PortListening(Condition[int]):
    def __init__(self, port: int, host: str) -> None:
        self.port = port
        self.host = host

    @property
    def what(self) -> str:
        place = f"{self.port}" if self.host == "localhost" else f"{self.port} of {self.host}"
        return f"port {place} to listen"

    def watch(self, context: Context) -> Watch:
        return _PortWatch(self, context)


class _PortWatch(_ConnectWatch):
    __slots__ = ("_condition", "_literal")

    def __init__(self, condition: _PortListening, context: Context) -> None:
        super().__init__(context)
        self._condition = condition
        self._literal = is_literal(condition.host)

    @property
    def may_block(self) -> bool:
        return not self._literal  # the name service answers when it likes

    def addresses(self) -> Sequence[Address]:
        return resolve(self._condition.host, self._condition.port)

    def value(self) -> object:
        return self._condition.port

    def explain(self) -> Sequence[str]:
        return describe_holders(self._condition.port) if self._literal else ()


class _UnixSocketListening(Condition[Path]):
    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def what(self) -> str:
        return f"unix socket {self.path} to listen"

    def watch(self, context: Context) -> Watch:
        return _UnixSocketWatch(self.path, context)


class _UnixSocketWatch(_ConnectWatch):
    __slots__ = ("_path",)

    def __init__(self, path: Path, context: Context) -> None:
        super().__init__(context)
        self._path = path

    def addresses(self) -> Sequence[Address]:
        # A unix address is a plain path, where the others are tuples.
        return [(socket.AF_UNIX, str(self._path))]  # type: ignore[list-item]

    def value(self) -> object:
        return self._path


def port_listening(port: int, host: str = "localhost") -> Condition[int]:
    """Holds when a TCP server accepts connections at *port*; its value is the port.

    It connects and hangs up at once, never blocks, and is not fooled by a connection of the port to itself. It does not
    say *who* accepts.

    Args:
        port: from 1 to 65535.
        host: a name or an IP address. ``"localhost"`` is 127.0.0.1 and ::1, of which either will do.

    Raises:
        TypeError, ValueError: *port* or *host* is none.
    """
    return _PortListening(check_port(port), check_host(host))


def unix_socket_listening(path: str | os.PathLike[str]) -> Condition[Path]:
    """Holds when a server accepts connections at a unix stream socket; its value is the path.

    Args:
        path: of the socket; a relative one counts from the working directory of now. At most about 107 bytes: longer
            ones the system refuses.

    Raises:
        TypeError: *path* is no path.
        ValueError: it is too long for a socket.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path={path!r} is not a path: give a str or a pathlib.Path")
    absolute = os.path.abspath(path)
    if len(os.fsencode(absolute)) > 107:
        raise ValueError(f"path={absolute!r} is too long for a unix socket: at most 107 bytes")
    return _UnixSocketListening(Path(absolute))
