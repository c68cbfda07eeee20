"""Who holds a port: asked only when something has failed, as the answer costs tens of milliseconds."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Holder", "describe_holders", "holders_of"]


class Holder(NamedTuple):
    """A TCP socket at a port, and whose it is.

    Attributes:
        pid: its process; ``None`` where the system does not tell (another user's), or where there is none.
        program: the name of the program; empty where the process is unknown.
        state: of the socket, as in ``LISTEN`` or ``TIME_WAIT``.
        address: the local address.
    """

    pid: int | None
    program: str
    state: str
    address: str

    def __str__(self) -> str:
        if self.state == "TIME_WAIT":
            return f"no process: {self.state} on {self.address}, which passes within a minute"
        who = "a process not visible to this user" if self.pid is None else f"pid {self.pid} ({self.program})"
        return f"{who}, {self.state} on {self.address}"


def holders_of(port: int) -> list[Holder]:
    """The sockets whose *local* port is *port*: listeners first, then the rest. Empty where the system does not tell."""
    import psutil

    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):  # macOS lets only root ask
        return []
    found = {
        Holder(connection.pid, _program(connection.pid), connection.status, connection.laddr.ip)
        for connection in connections
        if connection.laddr and connection.laddr.port == port
    }
    return sorted(found, key=lambda holder: (holder.state != "LISTEN", holder.pid or 0, holder.address))


def _program(pid: int | None) -> str:
    import psutil

    if pid is None:
        return ""
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return "ended"


def describe_holders(port: int) -> list[str]:
    """A line for each of the first few holders: ``"port 5432 is held by pid 812 (postgres), LISTEN on 0.0.0.0"``."""
    return [f"port {port} is held by {holder}" for holder in holders_of(port)[:3]]
