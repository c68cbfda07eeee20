"""Reserving a port: the kernel gives it to nobody else while the server that it is for may bind it."""

from __future__ import annotations

import socket
import weakref
from types import TracebackType

from waitkit.engine.forks import on_fork_in_child
from waitkit.ports.free import bind_everywhere

__all__ = ["ReservedPort", "reserved_port"]

_held: weakref.WeakSet[socket.socket] = weakref.WeakSet()


class ReservedPort(int):
    """The number of a reserved port; pickled, or sent to another process, it is a plain ``int``."""

    _socket: socket.socket | None = None

    @property
    def released(self) -> bool:
        """Whether the reservation has ended."""
        return self._socket is None

    def release(self) -> None:
        """End the reservation now, for a server that does not set ``SO_REUSEADDR`` and so cannot bind a held port.

        From here to the server's own bind anybody may get the port. Releasing it again does nothing.
        """
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)


ReservedPort.__module__ = "waitkit"


class reserved_port:
    """Reserve a TCP port for the length of a block: ``with reserved_port() as port``.

    The port is held by a socket that is bound at all addresses, IPv4 and IPv6, and never listens; ``SO_REUSEADDR`` is set
    on it *after* the bind. The kernel then hands the port to nobody who asks for any port, while a server that sets
    ``SO_REUSEADDR`` itself binds and listens at once, and again after a restart. Clients are refused until it does.

    That suits redis, nginx, PostgreSQL, memcached, haproxy, ``http.server``, asyncio and ``multiprocessing`` servers.
    A server that does not set the option (a plain ``bind``, ``socketserver.TCPServer`` with its defaults) fails with
    "address already in use": call ``port.release()`` just before it starts.

    In a forked child the reservation does not exist: it is the parent's.

    Raises:
        OSError: no port is left.
    """

    def __init__(self) -> None:
        self._port: ReservedPort | None = None

    def __enter__(self) -> ReservedPort:
        if self._port is not None and not self._port.released:
            raise RuntimeError(
                f"this reservation is in use already, for port {self._port}: make another reserved_port()"
            )
        holder = bind_everywhere(0, reuse=False)
        # Set before the bind, together with port 0, it could give us a port that another such socket holds.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port = ReservedPort(holder.getsockname()[1])
        self._port._socket = holder
        _held.add(holder)
        return self._port

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._port is not None:
            self._port.release()


@on_fork_in_child
def _close_inherited() -> None:
    for holder in list(_held):
        holder.close()
