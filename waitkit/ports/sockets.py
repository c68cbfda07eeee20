"""The sockets at a port, as the system lists them: by netlink, or where there is none from ``/proc/net`` or psutil.

This is what conditions ask at each look: it makes no connection, so no server is disturbed and no queue fills.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from functools import cache
from typing import Final, Literal, NamedTuple

from waitkit.ground.durations import MILLISECOND, SECOND, Nanoseconds
from waitkit.ports import sock_diag

__all__ = ["Protocol", "Socket", "listeners", "listeners_are_known", "lists_bound_sockets", "sockets_at"]

Protocol = Literal["tcp", "udp"]

#: The states of ``<net/tcp_states.h>``, in the words of netstat and psutil; 7 is a socket that is bound and no more.
_STATES: Final = (
    *("", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "BOUND", "CLOSE_WAIT"),
    *("LAST_ACK", "LISTEN", "CLOSING", "SYN_RECV", "BOUND"),
)
_NUMBERS: Final = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}


class Socket(NamedTuple):
    """A socket that has a port.

    Attributes:
        protocol: ``"tcp"`` or ``"udp"``.
        family: ``AF_INET`` or ``AF_INET6``.
        state: ``"LISTEN"``, ``"ESTABLISHED"``, ``"TIME_WAIT"``, ...; ``"BOUND"`` has a port and neither listens nor is
            connected, as all UDP sockets that wait for datagrams.
        address: the local one; ``"0.0.0.0"`` or ``"::"`` for all.
        port: the local one.
        peer: address and port of the other side; ``None`` where there is none.
        uid: of the user who made it; ``None`` where the system does not tell.
        inode: its number in the kernel; 0 for one that belongs to no process any more.
        v6only: an IPv6 socket that takes nothing from IPv4. Known of sockets that are bound or listen, on Linux.
        device: the number of the network interface it is bound to; 0 for none, and where the list does not tell.
        full: a listener whose queue has no room for another connection, as far as the list tells.
        remaining: how long it goes on without a process; ``None`` for one that has no such end.
        pid: its process, where the list tells; on Linux it does not, see :mod:`waitkit.ports.owners`.
    """

    protocol: Protocol
    family: int
    state: str
    address: str
    port: int
    peer: tuple[str, int] | None
    uid: int | None
    inode: int
    v6only: bool = False
    device: int = 0
    full: bool = False
    remaining: Nanoseconds | None = None
    pid: int | None = None

    def takes(self, address: str) -> bool:
        """Whether what is sent to this IP address of the machine may come to this socket, by the address it is bound to."""
        if self.family == socket.AF_INET:
            return ":" not in address and self.address in (address, "0.0.0.0")
        if ":" in address:
            return self.address in (address, "::")
        # IPv4 comes to an IPv6 socket too: to one at all addresses that allows it, or at the mapped form of one.
        return (self.address == "::" and not self.v6only) or self.address in (f"::ffff:{address}", "::ffff:0.0.0.0")


def listeners(port: int, protocol: Protocol = "tcp") -> list[Socket]:
    """The sockets that listen at *port*, at whatever address: a question of 30 us for TCP.

    Of UDP, which has no listening, those that take datagrams of anybody: bound, and connected to nobody.

    Raises:
        OSError: the system does not tell.
    """
    if protocol == "udp":
        return [found for found in sockets_at(port, "udp") if found.state == "BOUND"]
    try:
        return list(_by_netlink(port, "tcp", sock_diag.LISTENING))
    except OSError:
        return [found for found in _by_other_means(port, "tcp") if found.state == "LISTEN"]


def sockets_at(port: int, protocol: Protocol = "tcp") -> list[Socket]:
    """All sockets whose *local* port is *port*: a question of 1 to 3 ms.

    A socket that goes on from one state to the next meanwhile (bound, listening, connected, closed) is seen: they are
    asked for in this order. It may then be in the list twice.

    Raises:
        OSError: the system does not tell.
    """
    try:
        if protocol == "udp":
            return list(_by_netlink(port, protocol, sock_diag.ALL))
        rest = sock_diag.ALL & ~(sock_diag.BOUND | sock_diag.LISTENING)
        return [
            found
            for states in (sock_diag.BOUND, sock_diag.LISTENING, rest)
            for found in _by_netlink(port, protocol, states)
        ]
    except OSError:
        return list(_by_other_means(port, protocol))


@cache
def listeners_are_known() -> bool:
    """Whether this system tells who listens cheaply enough to be asked at each look."""
    try:
        list(_by_netlink(1, "tcp", sock_diag.LISTENING))
    except OSError:
        return False
    return True


@cache
def lists_bound_sockets() -> bool:
    """Whether this system lists TCP sockets that are bound and do not listen: Linux does from 6.8 on."""
    with socket.socket() as bound:
        try:
            bound.bind(("127.0.0.1", 0))
            number = bound.getsockname()[1]
            return any(found.state == "BOUND" for found in _by_netlink(number, "tcp", sock_diag.BOUND))
        except OSError:
            return False


def _by_netlink(port: int, protocol: Protocol, states: int) -> Iterator[Socket]:
    for row in sock_diag.dump(_NUMBERS[protocol], states, port):
        yield Socket(
            protocol,
            row.family,
            _STATES[row.state],
            row.local,
            row.local_port,
            (row.peer, row.peer_port) if row.peer_port else None,
            row.uid,
            row.inode,
            row.v6only,
            row.device,
            row.full,
            None if row.expires is None else row.expires * MILLISECOND,
        )


def _by_other_means(port: int, protocol: Protocol) -> Iterator[Socket]:
    return _by_proc(port, protocol) if sys.platform == "linux" else _by_psutil(port, protocol)


def _by_proc(port: int, protocol: Protocol) -> Iterator[Socket]:
    """From ``/proc/net/tcp`` and its like, 15 ms with 2,000 sockets. It does not list what is only bound."""
    wanted = f":{port:04X}"
    tick = SECOND // os.sysconf("SC_CLK_TCK")
    for family, suffix in ((socket.AF_INET, ""), (socket.AF_INET6, "6")):
        try:
            with open(f"/proc/net/{protocol}{suffix}") as file:
                lines = file.readlines()[1:]
        except FileNotFoundError:
            continue  # no such family here
        for line in lines:
            fields = line.split()
            if not fields[1].endswith(wanted):
                continue
            peer, peer_port = _from_hex(fields[2], family)
            timer, _, ticks = fields[5].partition(":")
            yield Socket(
                protocol,
                int(family),
                _STATES[int(fields[3], 16)],
                _from_hex(fields[1], family)[0],
                port,
                (peer, peer_port) if peer_port else None,
                int(fields[7]),
                int(fields[9]),
                remaining=int(ticks, 16) * tick if timer == "03" else None,
            )


def _from_hex(text: str, family: int) -> tuple[str, int]:
    """An address and port of ``/proc/net``: words of 32 bits in the byte order of the machine."""
    digits, _, port = text.partition(":")
    words = [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]
    return socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words)), int(port, 16)


def _by_psutil(port: int, protocol: Protocol) -> Iterator[Socket]:
    import psutil

    try:
        connections = psutil.net_connections(protocol)
    except psutil.AccessDenied as error:  # macOS lets only root ask
        raise PermissionError("the system lists sockets for root alone") from error
    for found in connections:
        if found.laddr and found.laddr.port == port:
            peer = (found.raddr.ip, found.raddr.port) if found.raddr else None
            state = found.status
            if state == psutil.CONN_NONE:  # what it says of all sockets of UDP
                state = "ESTABLISHED" if peer else "BOUND"
            yield Socket(protocol, int(found.family), state, found.laddr.ip, port, peer, None, 0, pid=found.pid)
