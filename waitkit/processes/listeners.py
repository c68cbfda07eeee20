"""The ports a tree of processes listens at, and that they are free again once it is gone."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from waitkit.conditions.condition import Condition
from waitkit.ground.durations import Nanoseconds
from waitkit.ports import sock_diag
from waitkit.ports.holders import who_holds
from waitkit.ports.sockets import listeners
from waitkit.waits.watching import Context, Verdict, Watch

__all__ = ["Listener", "ListenersGone", "listeners_of"]


class Listener(NamedTuple):
    """A TCP socket that listens. The inode is its identity."""

    port: int
    inode: int


def listeners_of(pids: Iterable[int]) -> tuple[Listener, ...]:
    """The TCP sockets that listen and that one of these processes has open, as far as the system tells."""
    inodes = {inode for pid in pids for inode in _sockets(pid)}
    if not inodes:
        return ()
    try:
        rows = sock_diag.dump(socket.IPPROTO_TCP, sock_diag.LISTENING, None)
    except OSError:
        return ()
    return tuple(Listener(row.local_port, row.inode) for row in rows if row.inode in inodes)


def _sockets(pid: int) -> Iterable[int]:
    folder = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(folder)
    except OSError:  # gone, or another user's
        return
    for number in numbers:
        try:
            link = os.readlink(f"{folder}/{number}")
        except OSError:
            continue
        if link.startswith("socket:["):
            yield int(link[8:-1])


class ListenersGone(Condition[bool]):
    """Holds when none of these sockets listens any more: a server like theirs can have their ports."""

    def __init__(self, sockets: Sequence[Listener], whose: str) -> None:
        self._sockets = sockets
        self._whose = whose

    @property
    def what(self) -> str:
        ports = sorted({one.port for one in self._sockets})
        return f"port{'s' if len(ports) > 1 else ''} {', '.join(map(str, ports))} of {self._whose} to be given up"

    def watch(self, context: Context) -> Watch:
        return _GoneWatch(self._sockets, context)


class _GoneWatch(Watch):
    __slots__ = ("_context", "_left", "_sockets")

    def __init__(self, sockets: Sequence[Listener], context: Context) -> None:
        self._sockets = sockets
        self._context = context
        self._left: list[int] = []

    def look(self, now: Nanoseconds) -> Verdict:
        self._left = sorted({one.port for one in self._sockets if _listens(one)})
        if not self._left:
            return Verdict(True, True)
        return Verdict(False, None, self._context.next_look(now))

    def seen(self) -> str:
        return f"still listened at: {', '.join(map(str, self._left))}" if self._left else ""

    def explain(self) -> Sequence[str]:
        return [f"port {port} is held by {holder}" for port in self._left for holder in who_holds(port)[:3]]


def _listens(one: Listener) -> bool:
    try:
        return any(found.inode == one.inode for found in listeners(one.port))
    except OSError:
        return False
