"""Reserving a port: the kernel gives it to nobody else while the server that it is for may bind it."""

from __future__ import annotations

import socket
import weakref
from types import TracebackType

from waitkit.engine.forks import on_fork_in_child
from waitkit.ports.binding import bind_at, everywhere

__all__ = ["reserved_port"]

_held: weakref.WeakSet[socket.socket] = weakref.WeakSet()


class reserved_port:
    """Reserve a TCP port for the length of a block: ``with reserved_port() as port``.

    The block gets the number, a plain ``int``. The port is held by a socket that is bound at all addresses, IPv4 and IPv6,
    and never listens; ``SO_REUSEADDR`` is set on it *after* the bind. The kernel then hands the port to nobody who asks for
    any port, while a server that sets ``SO_REUSEADDR`` itself binds and listens at once, and again after a restart. Clients
    are refused until it does.

    That suits redis, nginx, PostgreSQL, memcached, haproxy, ``http.server``, asyncio and ``multiprocessing`` servers. A
    server that does not set the option (a plain ``bind``, ``socketserver.TCPServer`` with its defaults) fails with "address
    already in use": keep the reservation, and release it just before that server starts::

        reservation = reserved_port()
        with reservation as port:
            reservation.release()

    In a forked child the reservation does not exist: it is the parent's.

    Raises:
        OSError: no port is left (on entering the block).
        RuntimeError: the block is entered while it is in use already.
    """

    def __init__(self) -> None:
        self._holder: socket.socket | None = None

    @property
    def released(self) -> bool:
        """Whether it holds no port now: before the block, after it, and after :meth:`release`."""
        return self._holder is None

    def release(self) -> None:
        """Give the port up now. From here to the server's own bind anybody may get it. Again, it does nothing."""
        if self._holder is not None:
            self._holder.close()
            self._holder = None

    def __enter__(self) -> int:
        if self._holder is not None:
            raise RuntimeError("this reservation is in use already: make another reserved_port() for another port")
        holder = bind_at(everywhere(), 0, reuse=False)
        # Set before the bind, together with port 0, it could give us a port that another such socket holds.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder = holder
        _held.add(holder)
        return int(holder.getsockname()[1])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@on_fork_in_child
def _close_inherited() -> None:
    for holder in list(_held):
        holder.close()
