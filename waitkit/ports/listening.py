"""Listening sockets as conditions: somebody accepts connections at a port, or at a unix socket."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from waitkit.conditions.condition import Condition
from waitkit.engine.signals import Wake
from waitkit.ground.checks import check_path
from waitkit.ground.durations import MILLISECOND, Nanoseconds
from waitkit.ports.addresses import Address, check_host, check_port, is_local
from waitkit.ports.connecting import ConnectWatch
from waitkit.ports.holders import describe_holders
from waitkit.ports.names import Addresses
from waitkit.ports.owners import AnswersOfOne, answering_at, answering_to
from waitkit.ports.socket_path import LONGEST_PATH
from waitkit.ports.sockets import Socket, listeners, listeners_are_known
from waitkit.waits.watching import Context, Verdict, Watch, earliest

__all__ = ["port_listening", "unix_socket_listening"]

#: How often a connection is tried to an address of this machine at which the list shows no listener.
_IN_SPITE_OF_THE_LIST: Final = 250 * MILLISECOND

#: Where a connection to "all addresses" leads.
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound


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


class _PortWatch(ConnectWatch):
    """Looks into the list of this machine's sockets, and connects to where that does not reach.

    That is other machines. It is also an address of this machine whose connections a rule of the firewall leads away,
    into a container, say: there is no listener then, but somebody answers. So while nobody listens a connection is tried
    now and then, too rarely for a server that comes up to see one, and once more at the deadline.
    """

    __slots__ = ("_addresses", "_answering", "_condition", "_connect_at", "_full", "_local", "_targets")

    def __init__(self, condition: _PortListening, context: Context) -> None:
        super().__init__(context)
        self._condition = condition
        self._addresses = Addresses(condition.host, condition.port, context)
        self._local: dict[Address, bool] = {}
        self._targets: list[Address] = []
        self._connect_at = context.started + _IN_SPITE_OF_THE_LIST
        self._full = False
        self._answering: Sequence[Socket] = ()
        if isinstance(context, AnswersOfOne):
            context.asks_for_port(condition.port)

    @property
    def may_block(self) -> bool:
        return self._addresses.may_block

    def arm(self, wake: Wake) -> None:
        super().arm(wake)
        self._addresses.arm(wake)

    def look(self, now: Nanoseconds) -> Verdict:
        try:
            addresses = self._addresses.known()
        except OSError as error:
            self._trouble = error.strerror or str(error)
            return Verdict(False, None, self._context.next_look(now))
        here = [address for address in addresses if self._is_local(address)]
        found = self._listeners() if here else None
        if found is None:
            self._targets = addresses
            return super().look(now)
        answering = self._answering = [other for address in here for other in answering_at(found, _place(address))]
        if any(not other.full for other in answering):
            return self._held(now)
        self._full = bool(answering)
        connect = not answering and (now >= self._connect_at or self._is_last(now))
        if connect:
            self._connect_at = now + _IN_SPITE_OF_THE_LIST
        self._targets = [address for address in addresses if connect or address not in here]
        verdict = super().look(now)
        if verdict.holds:
            return verdict
        if len(here) == len(addresses):
            self._trouble = _refusal(answering, found)
        return verdict._replace(again=earliest(verdict.again, self._context.next_look(now)))

    @property
    def undecided(self) -> bool:
        return self._full or super().undecided

    def _listeners(self) -> list[Socket] | None:
        """Who listens at the port, as far as the system tells. It does not where no descriptor is left to ask by."""
        try:
            return listeners(self._condition.port) if listeners_are_known() else None
        except OSError:
            return None

    def _is_local(self, address: Address) -> bool:
        if address not in self._local:
            self._local[address] = str(address[1][0]) in _LOOPBACK or is_local(address)
        return self._local[address]

    def _is_last(self, now: Nanoseconds) -> bool:
        return self._context.deadline is not None and now >= self._context.deadline

    def addresses(self) -> Sequence[Address]:
        return self._targets

    def socket_for(self, address: Address) -> socket.socket:
        """One with a port of its own already: TCP could else connect the port that is asked for to itself.

        The kernel gives a client any port that is free, so once in some 30,000 attempts the very one at which nobody
        listens yet. That would not only look like an answer: it would keep the port from its server for a minute.
        """
        for _ in range(3):
            sock = super().socket_for(address)
            if not self._local.get(address):
                return sock
            try:
                sock.bind(("", 0))
                if sock.getsockname()[1] != self._condition.port:
                    return sock
            except BaseException:
                sock.close()
                raise
            sock.close()
        raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))  # no port but this one: nobody listens at it

    def value(self) -> object:
        return self._condition.port

    def accepted(self, connection: socket.socket) -> None:
        if not isinstance(self._context, AnswersOfOne):
            return
        peer = connection.family, connection.getpeername()
        self._answering = answering_to(peer, self._condition.port)

    def objection(self) -> str:
        # Nobody is in the list where a rule of the firewall leads elsewhere: then whoever answers will do.
        if isinstance(self._context, AnswersOfOne) and self._answering:
            return self._context.objection_to_listeners(self._answering)
        return ""

    def explain(self) -> Sequence[str]:
        if not any(self._local.values()):
            return ()
        return describe_holders(self._condition.port, leave_out_own_reservations=True)


def _place(address: Address) -> str:
    """The IP address that a connection to *address* of this machine is made to."""
    return _LOOPBACK.get(str(address[1][0]), str(address[1][0]))


def _refusal(answering: Sequence[Socket], found: Sequence[Socket]) -> str:
    """What a client would see, and why."""
    if answering:
        return "its queue of connections is full: it accepts none"
    refused = os.strerror(errno.ECONNREFUSED).lower()
    elsewhere = sorted({other.address for other in found})
    return f"{refused}: there is a listener on {' and '.join(elsewhere)} alone" if elsewhere else refused


class _UnixSocketListening(Condition[Path]):
    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def what(self) -> str:
        return f"unix socket {self.path} to listen"

    def watch(self, context: Context) -> Watch:
        return _UnixSocketWatch(self.path, context)


class _UnixSocketWatch(ConnectWatch):
    __slots__ = ("_path", "_server")

    def __init__(self, path: Path, context: Context) -> None:
        super().__init__(context)
        self._path = path
        self._server = 0

    def addresses(self) -> Sequence[Address]:
        return [(socket.AF_UNIX, str(self._path))]

    def value(self) -> object:
        return self._path

    def accepted(self, connection: socket.socket) -> None:
        if hasattr(socket, "SO_PEERCRED"):  # of a socket that listens: who called listen()
            self._server = struct.unpack_from("=i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]

    def objection(self) -> str:
        if isinstance(self._context, AnswersOfOne):
            return self._context.objection_to_unix_listener(str(self._path), self._server)
        return ""


def port_listening(port: int, host: str = "localhost") -> Condition[int]:
    """Holds when a TCP server accepts connections at *port*; its value is the port.

    Of this machine's own addresses the kernel's list of listeners is asked: a look makes no connection, so a server sees
    nothing of it, and costs some 50 us. While the list shows no listener a connection is tried all the same every 250 ms and at
    the deadline, as a rule of the firewall may lead to a server elsewhere. A listener whose queue is full does not count.

    At other hosts, and on systems without such a list, a look connects and hangs up at once, without ever blocking. A
    server that does not accept fills its queue with the connections of such looks. Neither is fooled by a connection of
    the port to itself. It does not say *who* accepts: :func:`waitkit.who_holds` does.

    Args:
        port: from 1 to 65535.
        host: a name or an IP address. ``"localhost"`` is 127.0.0.1 and ::1, of which either will do.

    Raises:
        TypeError, ValueError: *port* or *host* is none.
    """
    return _PortListening(check_port(port), check_host(host))


def unix_socket_listening(path: str | os.PathLike[str]) -> Condition[Path]:
    """Holds when a server accepts connections at a unix stream socket; its value is the path.

    A look connects and hangs up at once, without ever blocking. A server that does not accept fills its queue with the
    connections of looks, and no longer counts when it is full.

    Args:
        path: of the socket; a relative one counts from the working directory of now. At most about 107 bytes: longer
            ones the system refuses.

    Raises:
        TypeError: *path* is no path.
        ValueError: it is empty, or too long for a socket, or contains a null character, as the names of "abstract" sockets do.
    """
    absolute = check_path(path, "path")
    if len(os.fsencode(absolute)) > LONGEST_PATH:
        raise ValueError(f"path={str(absolute)!r} is too long for a unix socket: at most {LONGEST_PATH} bytes")
    return _UnixSocketListening(absolute)
