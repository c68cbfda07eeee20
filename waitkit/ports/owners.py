"""From a socket to the processes that have it open: through ``/proc/<pid>/fd``, for the sockets that are wanted.

And from an address to the sockets that answer there, as a wait for the readiness of a process counts no answer but its own.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from waitkit.ports.addresses import Address, is_local
from waitkit.ports.sockets import Socket, listeners
from waitkit.waits.watching import Context

__all__ = [
    *("AnswersOfOne", "UnixListener", "answering_at", "owners_of", "owners_of_inode", "owns_inode", "owns_one_of"),
    "unix_listeners",
]


class AnswersOfOne(Context):
    """The context of a wait in which only the answers of one process count, at ports and sockets of this machine."""

    __slots__ = ()

    def asks_for_port(self, port: int) -> None:
        """A condition of this wait is about this port."""
        raise NotImplementedError

    def objection_to_listeners(self, found: Sequence[Socket]) -> str:
        """Why an answer does not count that comes from one of these sockets, in words; empty where it does."""
        raise NotImplementedError

    def objection_to_unix_listener(self, path: str, pid: int) -> str:
        """Likewise at a unix socket where this process called ``listen()``; 0 is one that is not known."""
        raise NotImplementedError


def answering_at(found: Iterable[Socket], address: str) -> list[Socket]:
    """Who of these listeners of one port answers a connection to this IP address of the machine.

    Linux gives it to the one that is bound most exactly: to that very address before all addresses, and of the latter to one of
    IPv4 before one of both families. Several answer in turn where they share the port by ``SO_REUSEPORT``.
    """
    address = address.removeprefix("::ffff:")
    exactly = (address, f"::ffff:{address}")
    ranked = [
        ((other.address in exactly, ":" in address or other.family == socket.AF_INET), other)
        for other in found
        if other.takes(address)
    ]
    best = max((rank for rank, _ in ranked), default=None)
    return [other for rank, other in ranked if rank == best]


def owns_one_of(pids: Iterable[int], sockets: Iterable[Socket]) -> bool | None:
    """Whether one of these processes has one of these sockets open. The rest of the system is not looked at.

    Some 2 us for each descriptor of the processes, up to the first that fits.

    Returns:
        ``None`` where nobody can say: none of those that could be asked has it, and some could not (they belong to another
        user), or the system does not tell whose the sockets are. A process that has ended has nothing.
    """
    sockets = tuple(sockets)
    known = {found.pid for found in sockets if found.pid is not None}
    inodes = {found.inode for found in sockets if found.inode}
    pids = tuple(pids)
    if not known.isdisjoint(pids):
        return True
    if not inodes:
        return None if sockets and not known else False
    return owns_inode(pids, inodes)


def owns_inode(pids: Iterable[int], inodes: Iterable[int]) -> bool | None:
    """Whether one of these processes has a socket of one of these numbers open; ``None`` where nobody can say."""
    links = {f"socket:[{inode}]" for inode in inodes}
    unknown = False
    for pid in pids:
        try:
            if any(link in links for link in _links(pid)):
                return True
        except PermissionError:
            unknown = True
    return None if unknown else False


class UnixListener(NamedTuple):
    """A unix socket that listens: the path it was bound to, as its server wrote it, and its number in the kernel."""

    path: str
    inode: int


def unix_listeners() -> list[UnixListener]:
    """All of them; nobody where the system does not list them."""
    try:
        with open("/proc/net/unix", "rb") as file:
            rows = [line.split(maxsplit=7) for line in file.readlines()[1:]]
    except OSError:
        return []
    # Number, references, protocol, flags, type, state, inode, path; the flag is __SO_ACCEPTCON.
    return [
        UnixListener(os.fsdecode(row[7].rstrip(b"\n")), int(row[6]))
        for row in rows
        if len(row) == 8 and int(row[3], 16) & 0x1_0000
    ]


def owners_of(sockets: Collection[Socket]) -> dict[Socket, list[int]]:
    """For each of these sockets the processes that have it open, in order: more than one where a child inherited it.

    All processes are looked at; those of other users tell nothing, unless we are root. Sockets of nobody are left out.
    """
    by_link = {f"socket:[{found.inode}]": found for found in sockets if found.inode}
    owners: dict[Socket, list[int]] = {found: [found.pid] for found in sockets if found.pid is not None}
    if not by_link:
        return owners
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            for link in by_link.keys() & set(_links(int(name))):
                owners.setdefault(by_link[link], []).append(int(name))
        except PermissionError:
            continue  # another user's
    return {found: sorted(pids) for found, pids in owners.items()}


def sockets_of(pid: int) -> set[int]:
    """The numbers of the sockets that a process has open; none where it is gone, or another user's."""
    try:
        return {int(link[8:-1]) for link in _links(pid) if link.startswith("socket:[")}
    except PermissionError:
        return set()


def answering_to(address: Address, port: int) -> list[Socket]:
    """Who answers a connection to this address: nobody we know where it is none of this machine, or the system does not tell."""
    if not is_local(address):
        return []
    try:
        return answering_at(listeners(port), str(address[1][0]))
    except OSError:
        return []


def owners_of_inode(inode: int) -> list[int]:
    """The processes that have the socket of this number open, as far as they may be asked."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and owns_inode([int(name)], [inode])]


def _links(pid: int) -> Iterator[str]:
    """Where the descriptors of a process lead. One that ends meanwhile has none.

    Raises:
        PermissionError: it is not for us to know.
    """
    folder = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return
    for number in numbers:
        try:
            yield os.readlink(f"{folder}/{number}")
        except (FileNotFoundError, ProcessLookupError):
            continue  # closed meanwhile
