"""Why a process found its address in use though nobody listens there: what its own words and the list of sockets tell."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable
from typing import Final

from waitkit.ground.durations import Nanoseconds, format_duration
from waitkit.ports.sockets import Socket, sockets_at

__all__ = ["lingering", "ports_in", "reserved_here", "says_in_use", "why_in_use"]

#: In the words of the C library, Go, Java and nginx; of Node; of asyncio.
_IN_USE: Final = re.compile(
    rf"address already in use|EADDRINUSE|address is already in use|{re.escape(os.strerror(errno.EADDRINUSE))}",
    re.IGNORECASE,
)

#: A number that stands alone, or after a colon, as in ``127.0.0.1:8000``.
_NUMBER: Final = re.compile(r"(?<![\w.])[1-9]\d{1,4}(?![\w]|\.\d)")

_MOST_PORTS: Final = 5


def says_in_use(text: str) -> bool:
    """Whether somebody complains that an address is in use."""
    return _IN_USE.search(text) is not None


def ports_in(text: str) -> list[int]:
    """What may be ports among the arguments of a process, the first few."""
    return [number for word in _NUMBER.findall(text) if (number := int(word)) <= 65_535][:_MOST_PORTS]


def reserved_here() -> set[int]:
    """The TCP ports that this process keeps reserved."""
    reserve = sys.modules.get("waitkit.ports.reserve")  # where nobody has imported it, nothing is reserved
    held: set[int] = set() if reserve is None else reserve.ports_held()
    return held


def lingering(ports: Iterable[int]) -> dict[int, Nanoseconds]:
    """Of these ports those that nobody has any more but the remains of connections, and for how long yet."""
    found: dict[int, Nanoseconds] = {}
    for port in ports:
        sockets = _sockets_at(port)
        remaining = [one.remaining for one in sockets if one.remaining is not None]
        if remaining and not any(one.state == "LISTEN" for one in sockets):
            found[port] = max(remaining)
    return found


def _sockets_at(port: int) -> list[Socket]:
    try:
        return sockets_at(port)
    except OSError:
        return []


def why_in_use(ports: Iterable[int]) -> list[str]:
    """A line for each of these ports that bars a server without ``SO_REUSEADDR``, with what to do about it."""
    ports = list(ports)
    reserved, lingers = reserved_here(), lingering(ports)
    notes = []
    for port in ports:
        if port in reserved and not any(one.state == "LISTEN" for one in _sockets_at(port)):
            notes.append(
                f"port {port} is reserved here, by reserved_port(), for a server that sets SO_REUSEADDR; for one that does "
                "not, call release() of the reservation just before the start, or hand it a socket that listens already: "
                "sockets=[reservation.listen()]"
            )
        if port in lingers:
            notes.append(
                f"port {port} is in TIME_WAIT for {format_duration(lingers[port])} yet, as connections of a server that is "
                "gone have left it: a server that sets SO_REUSEADDR each time before it binds need not wait for that"
            )
    return notes
