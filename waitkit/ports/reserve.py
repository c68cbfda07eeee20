"""Reserving ports: the kernel gives them to nobody else while the server that they are for may bind them."""

from __future__ import annotations

import errno
import math
import random
import socket
import weakref
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Literal

from waitkit.engine.forks import reset_in_child
from waitkit.ports.addresses import check_host, check_port, resolve
from waitkit.ports.binding import bind_at, everywhere
from waitkit.ports.conflicts import Target
from waitkit.ports.holders import describe_holders

__all__ = ["ports_held", "reserved_port", "reserved_ports"]

Family = Literal["any", "ipv4", "ipv6"]
Protocols = Literal["tcp", "udp", "both"]

_KINDS: Final[dict[str, tuple[socket.SocketKind, ...]]] = {
    "tcp": (socket.SOCK_STREAM,),
    "udp": (socket.SOCK_DGRAM,),
    "both": (socket.SOCK_STREAM, socket.SOCK_DGRAM),
}
_FAMILIES: Final = ("any", "ipv4", "ipv6")

#: With a step that has no divisor in common with the size of a range, all of it is gone through, once each.
_STEPS: Final = (1, 10_007, 20_011, 30_011, 40_009, 50_021)

#: How often "both" asks for a port: the kernel picks it for TCP, and it may be in use of UDP.
_TRIES_FOR_BOTH: Final = 1_000

#: Of how many ports of a range that is used up the error names who has them.
_NAMED_IN_ERRORS: Final = 3

_reservations: weakref.WeakSet[reserved_port] = weakref.WeakSet()


class reserved_port:
    """Reserve a port for the length of a block: ``with reserved_port() as port``.

    The block gets the number, a plain ``int``. The port is held by a socket that is bound at all addresses and never
    listens; ``SO_REUSEADDR`` is set on it *after* the bind. The kernel then hands the port to nobody who asks for any
    port, while a server that sets ``SO_REUSEADDR`` itself binds and listens at once, and again after a restart. Clients
    are refused until it does.

    That suits redis, nginx, PostgreSQL, memcached, haproxy, ``http.server``, asyncio and ``multiprocessing`` servers. A
    server that does not set the option (a plain ``bind``, ``socketserver.TCPServer`` with its defaults) fails with "address
    already in use": hand it a socket that listens already (:meth:`listen`), or release the port just before it starts::

        reservation = reserved_port()
        with reservation as port:
            reservation.release()

    In a forked child the reservation does not exist: it is the parent's. A socket that :meth:`listen` made is inherited as any
    other is, so that the child can serve by it. Of UDP one gap remains: a socket that sets
    ``SO_REUSEADDR`` and then asks for any port may be given a held one.

    Args:
        within: the first and the last port of a range to take it from; ``None`` lets the kernel choose.
        protocol: ``"tcp"``, ``"udp"``, or ``"both"`` for one number in both, as DNS servers need it.
        family: ``"ipv4"`` or ``"ipv6"`` to hold it in one alone; ``"any"`` holds it in both, where the system has both.

    Raises:
        TypeError, ValueError: an argument cannot be what it should be.
        OSError: no port is left, or this user may not have those (on entering the block). Of a range the message says who
            has the first few.
        RuntimeError: the block is entered while it is in use already.
    """

    def __init__(
        self, *, within: tuple[int, int] | None = None, protocol: Protocols = "tcp", family: Family = "any"
    ) -> None:
        self._within = None if within is None else _check_range(within)
        if protocol not in _KINDS:
            raise ValueError(f'protocol={protocol!r} is none that can be reserved: give "tcp", "udp" or "both"')
        if family not in _FAMILIES:
            raise ValueError(f'family={family!r} is none that can be reserved: give "any", "ipv4" or "ipv6"')
        self._protocol = protocol
        self._family = family
        self._holders: list[socket.socket] = []
        self._listeners: list[socket.socket] = []

    @property
    def released(self) -> bool:
        """Whether it holds no port now: before the block, after it, and after :meth:`release`."""
        return not self._holders

    @property
    def port(self) -> int:
        """The port that it holds now. ``RuntimeError`` where it holds none."""
        if not self._holders:
            raise RuntimeError("this reservation holds no port now: enter its block first")
        return int(self._holders[0].getsockname()[1])

    def release(self) -> None:
        """Give the port up now, with the sockets that :meth:`listen` made. From here to the server's own bind anybody may
        get it. Again, it does nothing.
        """
        for sock in (*self._holders, *self._listeners):
            sock.close()
        self._holders.clear()
        self._listeners.clear()

    def listen(self, host: str | None = None, *, backlog: int = 128) -> socket.socket:
        """A socket that listens at the port already, to hand over to a server: clients may come before it is there.

        It stays open here, so that it can be handed over again when the server is restarted, and connections made
        meanwhile wait; it is closed with the reservation. See :func:`waitkit.socket_activation` for how to hand it over.

        Args:
            host: where to listen; of a name, at its first address. ``"::"`` is all addresses, IPv4 too. ``None``: at the loopback
                address, that of IPv6 where the reservation is of that alone.
            backlog: how many connections wait until they are accepted.

        Raises:
            RuntimeError: no port is held now.
            ValueError: the reservation is of UDP, which has no listening.
            OSError: it cannot be bound there.
        """
        port = self.port
        if self._protocol == "udp":
            raise ValueError('protocol="udp" has no listening: the server binds the port itself')
        if host is None:
            host = "::1" if self._family == "ipv6" else "127.0.0.1"
        family, address = resolve(check_host(host), port)[0]
        listener = bind_at(Target(family, str(address[0]), tuple(address[2:])), port, reuse=True)
        try:
            listener.listen(backlog)
        except BaseException:
            listener.close()
            raise
        self._listeners.append(listener)
        return listener

    def __enter__(self) -> int:
        if self._holders:
            raise RuntimeError("this reservation is in use already: make another reserved_port() for another port")
        _reservations.add(self)
        reset_in_child(self, reserved_port._leave_to_parent)
        self._holders = self._reserve()
        return self.port

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _leave_to_parent(self) -> None:
        """In a forked child: nothing is held here."""
        for holder in self._holders:
            holder.close()
        self._holders.clear()

    def _reserve(self) -> list[socket.socket]:
        for port in self._candidates():
            try:
                return _hold(port, self._protocol, self._family)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or (port == 0 and self._protocol != "both"):
                    raise
        raise OSError(errno.EADDRINUSE, self._none_is_left())

    def _none_is_left(self) -> str:
        if self._within is None:
            return "no port is left: all are in use"
        first, last = self._within
        notes = []
        for port in range(first, min(last + 1, first + _NAMED_IN_ERRORS)):
            for protocol in ("tcp", "udp") if self._protocol == "both" else (self._protocol,):
                notes += describe_holders(port, "udp" if protocol == "udp" else "tcp")[:1]
        return "\n".join((f"no port from {first} to {last} is left: all are in use", *notes))

    def _candidates(self) -> Iterator[int]:
        """The ports to try, 0 for one of the kernel's choice. Those of a range in a random order, once each."""
        if self._within is None:
            yield from [0] * (_TRIES_FOR_BOTH if self._protocol == "both" else 1)
            return
        first, last = self._within
        count = last + 1 - first
        # Others who take ports of the same range begin elsewhere and go in other steps, and so rarely meet.
        begin = random.randrange(count)
        step = random.choice([step for step in _STEPS if math.gcd(step, count) == 1])
        for number in range(count):
            yield first + (begin + number * step) % count


class reserved_ports:
    """Reserve several ports for the length of a block, all different: ``with reserved_ports(3) as (http, admin, peers)``.

    Args:
        count: how many, at least 1.
        within: as for :class:`reserved_port`; so the others.
        protocol: as there.
        family: as there.

    Raises:
        TypeError, ValueError: an argument cannot be what it should be.
        OSError: not so many ports are left; none is held then.
        RuntimeError: the block is entered while it is in use already.
    """

    def __init__(
        self,
        count: int,
        *,
        within: tuple[int, int] | None = None,
        protocol: Protocols = "tcp",
        family: Family = "any",
    ) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"count={count!r} is no number of ports: give 1 or more")
        if within is not None and (first_last := _check_range(within))[1] - first_last[0] + 1 < count:
            raise ValueError(f"within={within!r} has fewer than {count} ports")
        #: a reservation for each port, in their order, to release or to hand over one alone
        self.reservations = tuple(reserved_port(within=within, protocol=protocol, family=family) for _ in range(count))

    def release(self) -> None:
        """Give all of them up now. Again, it does nothing."""
        for reservation in self.reservations:
            reservation.release()

    def __enter__(self) -> tuple[int, ...]:
        if any(not reservation.released for reservation in self.reservations):
            raise RuntimeError("these reservations are in use already: make other reserved_ports() for other ports")
        try:
            return tuple(reservation.__enter__() for reservation in self.reservations)
        except BaseException:
            self.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


for _public in (reserved_port, reserved_ports):
    _public.__module__ = "waitkit"


def _check_range(within: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(within, tuple | list) or len(within) != 2:
        raise TypeError(f"within={within!r} is no range of ports: give the first and the last, as in (8000, 8999)")
    first, last = (check_port(port, "within") for port in within)
    if first > last:
        raise ValueError(f"within={within!r} ends before it begins: give the first port and the last")
    return first, last


def _hold(port: int, protocol: Protocols, family: Family) -> list[socket.socket]:
    """Sockets that keep *port* (0: any), one for each protocol."""
    holders: list[socket.socket] = []
    try:
        for kind in _KINDS[protocol]:
            holder = _bind(port, kind, family)
            holders.append(holder)
            # Set before the bind, together with port 0, it could give us a port that another such socket holds.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            port = holder.getsockname()[1]
    except BaseException:
        for holder in holders:
            holder.close()
        raise
    return holders


def _bind(port: int, kind: socket.SocketKind, family: Family) -> socket.socket:
    if family == "any":
        return bind_at(everywhere(), port, reuse=False, kind=kind)
    if family == "ipv4":
        return bind_at(Target(socket.AF_INET, "0.0.0.0"), port, reuse=False, kind=kind)
    return bind_at(Target(socket.AF_INET6, "::"), port, reuse=False, kind=kind, v6only=True)


def ports_held() -> set[int]:
    """The TCP ports that the reservations of this process keep now."""
    holders = [holder for reservation in tuple(_reservations) for holder in tuple(reservation._holders)]
    open_ones = [holder for holder in holders if holder.fileno() >= 0 and holder.type == socket.SOCK_STREAM]
    return {int(holder.getsockname()[1]) for holder in open_ones}
