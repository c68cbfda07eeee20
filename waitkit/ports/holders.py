"""Who holds a port: the facts that errors name. It looks at all processes, so it is asked when something has failed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from typing import Literal, NamedTuple

from waitkit.ground.durations import SECOND, format_duration
from waitkit.ports.addresses import check_port
from waitkit.ports.owners import owners_of
from waitkit.ports.sockets import Protocol, Socket, sockets_at

__all__ = ["Holder", "check_protocol", "describe", "describe_holders", "holders_of", "who_holds"]


class Holder(NamedTuple):
    """A socket that has a port, and whose it is: what :func:`waitkit.who_holds` finds.

    Attributes:
        pid: the process that has it open; ``None`` where the system does not tell (another user's), or where there is none.
        program: the name of that process's program; empty where there is no pid.
        user: the name of that process's user, else of the one who made the socket; empty where neither is known.
        state: of the socket, as in ``"LISTEN"``, ``"ESTABLISHED"``, ``"TIME_WAIT"``; ``"BOUND"`` where it has the port and
            neither listens nor is connected, as a UDP server and a reservation.
        address: the local address; ``"0.0.0.0"`` or ``"::"`` for all.
        protocol: ``"tcp"`` or ``"udp"``.
        remaining: the seconds until it is gone by itself; ``None`` for a socket that belongs to a process.
    """

    pid: int | None
    program: str
    user: str
    state: str
    address: str
    protocol: Protocol = "tcp"
    remaining: float | None = None

    def __str__(self) -> str:
        """``"pid 812 (postgres, user postgres), LISTEN on 0.0.0.0"``, or that there is no process, and until when."""
        where = f"{self.state} on {self.address}{' (udp)' if self.protocol == 'udp' else ''}"
        if self.remaining is not None:
            return f"no process: {where}, which passes in {format_duration(round(self.remaining * SECOND))}"
        if self.pid is None:
            whose = f"a process of user {self.user}" if self.user else "a process"
            return f"{whose} that is not visible to us, {where}"
        return f"pid {self.pid} ({self.program}, user {self.user}), {where}"


Holder.__module__ = "waitkit"


def check_protocol(protocol: str) -> Protocol:
    """A protocol that has ports.

    Raises:
        ValueError: it is neither ``"tcp"`` nor ``"udp"``.
    """
    if protocol == "tcp":
        return "tcp"
    if protocol == "udp":
        return "udp"
    raise ValueError(f'protocol={protocol!r} is none with ports: give "tcp" or "udp"')


def who_holds(port: int, protocol: Literal["tcp", "udp"] = "tcp") -> tuple[Holder, ...]:
    """Who has *port*: sockets whose local port it is, with their processes. Clients of a server there are not among them.

    Listeners come first. Connections of one process at one address are one holder, and so are the remains of connections
    in ``TIME_WAIT`` at one address; of these the last to pass is told. It looks at all processes, some 20 ms on a busy
    machine. Where the system does not tell (macOS, unless root asks), nobody is found.

    Args:
        port: from 1 to 65535.
        protocol: ``"tcp"`` or ``"udp"``, which have ports of their own.

    Raises:
        TypeError, ValueError: *port* is none, or *protocol* is neither.
    """
    check_port(port)
    try:
        sockets = sockets_at(port, check_protocol(protocol))
    except OSError:
        return ()
    return holders_of(sockets)


def holders_of(sockets: Collection[Socket]) -> tuple[Holder, ...]:
    """Whose these sockets are, in the order in which they are told."""
    owners = owners_of(sockets)
    names = {pid: _program_and_user(pid) for pid in {pid for pids in owners.values() for pid in pids}}
    longest: dict[Holder, Holder] = {}
    for found in sockets:
        for holder in _holders(found, {pid: names[pid] for pid in owners.get(found, [])}):
            kind = holder._replace(remaining=None)
            if kind not in longest or (longest[kind].remaining or 0) < (holder.remaining or 0):
                longest[kind] = holder
    return tuple(sorted(longest.values(), key=_rank))


def _holders(found: Socket, owners: dict[int, tuple[str, str]]) -> Iterator[Holder]:
    if found.inode == 0 and found.pid is None:
        if found.remaining is None:
            return  # a connection that is still being made: its listener is in the list
        yield Holder(
            None, "", "", found.state, found.address, found.protocol, remaining=round(found.remaining / SECOND, 3)
        )
    elif owners:
        for pid, names in owners.items():
            yield Holder(pid, *names, found.state, found.address, found.protocol)
    else:
        yield Holder(None, "", _name_of_user(found.uid), found.state, found.address, found.protocol)


def _rank(holder: Holder) -> tuple[int, int, str]:
    order = {"LISTEN": 0, "BOUND": 1}.get(holder.state, 2)
    return order, holder.pid or 0, holder.address


def _program_and_user(pid: int) -> tuple[str, str]:
    import psutil

    try:
        process = psutil.Process(pid)
        return process.name(), process.username()
    except psutil.Error:
        return "ended", "unknown"


def _name_of_user(uid: int | None) -> str:
    if uid is None:
        return ""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def describe_holders(port: int, protocol: Protocol = "tcp", *, leave_out_own_reservations: bool = False) -> list[str]:
    """Who has *port*, in lines as :func:`describe` makes them."""
    holders = who_holds(port, protocol)
    if leave_out_own_reservations:
        holders = tuple(holder for holder in holders if (holder.pid, holder.state) != (os.getpid(), "BOUND"))
    return describe(port, holders)


def describe(port: int, holders: Sequence[Holder]) -> list[str]:
    """A line for each of the first few holders: ``"port 5432 is held by pid 812 (postgres, user ...), LISTEN on ..."``."""
    return [f"port {port} is held by {holder}" for holder in holders[:3]]
