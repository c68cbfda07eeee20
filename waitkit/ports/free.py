"""A port that is free, as a condition."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence

from waitkit.conditions.condition import Condition
from waitkit.ground.durations import Nanoseconds
from waitkit.ports.addresses import check_host, check_port
from waitkit.ports.holders import describe_holders
from waitkit.waits.watching import Context, Verdict, Watch

__all__ = ["bind_everywhere", "port_free"]


def bind_everywhere(port: int, *, reuse: bool) -> socket.socket:
    """Bind *port* (0: any) at all addresses, IPv6 and IPv4 alike where the system can, without listening.

    Raises:
        OSError: the port is taken, or may not be had.
    """
    if socket.has_dualstack_ipv6():
        try:
            return _bind(socket.AF_INET6, ("::", port), reuse)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
    return _bind(socket.AF_INET, ("0.0.0.0", port), reuse)


def _bind(family: socket.AddressFamily, address: tuple[object, ...], reuse: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6 and address[0] == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if reuse:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


class _PortFree(Condition[int]):
    def __init__(self, port: int, host: str | None) -> None:
        self.port = port
        self.host = host

    @property
    def what(self) -> str:
        return f"port {self.port}{f' of {self.host}' if self.host else ''} to be free"

    def watch(self, context: Context) -> Watch:
        return _PortFreeWatch(self, context)


class _PortFreeWatch(Watch):
    __slots__ = ("_condition", "_context", "_trouble")

    def __init__(self, condition: _PortFree, context: Context) -> None:
        self._condition = condition
        self._context = context
        self._trouble = ""

    def look(self, now: Nanoseconds) -> Verdict:
        again = self._context.next_look(now)
        try:
            self._try()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise  # not allowed to bind it, no such address: waiting will not mend that
            self._trouble = os.strerror(errno.EADDRINUSE).lower()
            return Verdict(False, None, again)
        self._trouble = "it is free"
        return Verdict(True, self._condition.port, again)

    def _try(self) -> None:
        host, port = self._condition.host, self._condition.port
        if host is None:
            bind_everywhere(port, reuse=True).close()
            return
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            _bind(socket.AddressFamily(family), address, reuse=True).close()

    def seen(self) -> str:
        return self._trouble

    def explain(self) -> Sequence[str]:
        if self._trouble == "it is free":
            return ()
        found = describe_holders(self._condition.port)
        return found or [f"port {self._condition.port} is bound by a socket that the system does not list"]


def port_free(port: int, host: str | None = None) -> Condition[int]:
    """Holds when a TCP server could have *port*; its value is the port.

    Free means: a server that sets ``SO_REUSEADDR``, as nearly all do, could bind it and listen now. It is tried by such a
    bind, without listening, so a port reserved with :func:`waitkit.reserved_port` counts as free: it is, for the server
    it is kept for. Connections in ``TIME_WAIT`` count only where they bar such a server too, which is when the server
    that left them did not set the option.

    Args:
        port: from 1 to 65535.
        host: the address the server will bind. ``None``: all addresses, IPv4 and IPv6, so that a listener at any single
            one of them counts.

    Raises:
        TypeError, ValueError: *port* or *host* is none.
    """
    return _PortFree(check_port(port), None if host is None else check_host(host))
