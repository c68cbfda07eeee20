"""The ports and unix sockets a tree of processes serves, and that they are free again once it is gone."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable, Sequence
from typing import Final, Literal, NamedTuple

from waitkit.conditions.condition import Condition
from waitkit.ground.durations import Nanoseconds
from waitkit.ports import sock_diag
from waitkit.ports.holders import describe_holders
from waitkit.ports.owners import owners_of_inode, sockets_of, unix_listeners
from waitkit.ports.sockets import Protocol, listeners
from waitkit.waits.watching import Context, Verdict, Watch

__all__ = ["Listener", "ListenersGone", "listeners_of"]

#: UDP has no listening: in this state of TCP is listed what is bound, and connected to nobody.
_BOUND_TO_NOBODY: Final = 1 << 7


class Listener(NamedTuple):
    """A socket that clients come to: at a TCP port where it listens, at a UDP port, or at the path of a unix socket.

    The inode is its identity.
    """

    inode: int
    place: int | str
    kind: Literal["tcp", "udp", "unix"] = "tcp"

    def __str__(self) -> str:
        return (
            f"unix socket {self.place}"
            if self.kind == "unix"
            else f"port {self.place}{' (udp)' * (self.kind == 'udp')}"
        )

    @property
    def _protocol(self) -> Protocol:
        return "udp" if self.kind == "udp" else "tcp"

    def is_there(self) -> bool:
        """Whether it still takes clients."""
        if isinstance(self.place, str):
            return any(found.inode == self.inode for found in unix_listeners())
        try:
            return any(found.inode == self.inode for found in listeners(self.place, self._protocol))
        except OSError:
            return False

    def holders(self) -> list[str]:
        """A line for each of the first few who have it, or its port."""
        if isinstance(self.place, str):
            return [f"{self} is held by pid {pid}" for pid in owners_of_inode(self.inode)[:3]]
        return describe_holders(self.place, self._protocol)


def listeners_of(pids: Iterable[int], *, without: Collection[int] = ()) -> tuple[Listener, ...]:
    """The sockets of these processes that clients come to, as far as the system tells.

    Args:
        pids: the processes.
        without: inodes of sockets that do not count.
    """
    inodes = {inode for pid in pids for inode in sockets_of(pid)}.difference(without)
    found: list[Listener] = []
    # What is left after the question for TCP are mostly connections. Many processes have none, and cost nothing more.
    for question in (_of_tcp, _of_udp, _of_unix):
        if inodes:
            found += [one for one in question() if one.inode in inodes]
            inodes.difference_update(one.inode for one in found)
    return tuple(found)


def _of_tcp() -> list[Listener]:
    return [Listener(row.inode, row.local_port) for row in _dump(socket.IPPROTO_TCP, sock_diag.LISTENING)]


def _of_udp() -> list[Listener]:
    return [Listener(row.inode, row.local_port, "udp") for row in _dump(socket.IPPROTO_UDP, _BOUND_TO_NOBODY)]


def _of_unix() -> list[Listener]:
    return [Listener(one.inode, one.path, "unix") for one in unix_listeners()]


def _dump(protocol: int, states: int) -> list[sock_diag.Row]:
    try:
        return sock_diag.dump(protocol, states, None)
    except OSError:
        return []


class ListenersGone(Condition[bool]):
    """Holds when none of these sockets takes clients any more: a server like theirs can have their places."""

    def __init__(self, sockets: Sequence[Listener], whose: str) -> None:
        self._sockets = sockets
        self._whose = whose

    @property
    def what(self) -> str:
        return f"{_named(self._sockets)} of {self._whose} to be given up"

    def watch(self, context: Context) -> Watch:
        return _GoneWatch(self._sockets, context)


class _GoneWatch(Watch):
    __slots__ = ("_context", "_left", "_sockets")

    def __init__(self, sockets: Sequence[Listener], context: Context) -> None:
        self._sockets = sockets
        self._context = context
        self._left: list[Listener] = []

    def look(self, now: Nanoseconds) -> Verdict:
        self._left = [one for one in self._sockets if one.is_there()]
        if not self._left:
            return Verdict(True, True)
        return Verdict(False, None, self._context.next_look(now))

    def seen(self) -> str:
        return f"clients are still taken at: {_named(self._left)}" if self._left else ""

    def explain(self) -> Sequence[str]:
        return list(dict.fromkeys(note for one in self._left for note in one.holders()))


def _named(sockets: Sequence[Listener]) -> str:
    return ", ".join(sorted(set(map(str, sockets))))
