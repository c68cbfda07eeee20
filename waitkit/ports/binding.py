"""Binding a socket as servers do it: at one address, or at all of them in both families."""

from __future__ import annotations

import errno
import socket

from waitkit.ports.conflicts import Target

__all__ = ["bind_at", "everywhere"]

_IPV6_EVERYWHERE = Target(socket.AF_INET6, "::")
_IPV4_EVERYWHERE = Target(socket.AF_INET, "0.0.0.0")


def everywhere() -> Target:
    """All addresses: IPv6 and IPv4 alike where the system can, else those of IPv4."""
    if socket.has_dualstack_ipv6():
        try:
            socket.socket(socket.AF_INET6).close()
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:
                raise
        else:
            return _IPV6_EVERYWHERE
    return _IPV4_EVERYWHERE


def bind_at(
    target: Target,
    port: int,
    *,
    reuse: bool,
    kind: socket.SocketKind = socket.SOCK_STREAM,
    v6only: bool = False,
) -> socket.socket:
    """A socket bound to *target* at *port* (0: any), not listening. ``"::"`` takes IPv4 too, unless *v6only*.

    Raises:
        OSError: the port is taken, or may not be had.
    """
    sock = socket.socket(target.family, kind)
    try:
        if target.address == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        if reuse:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((target.address, port, *target.scope))
    except BaseException:
        sock.close()
        raise
    return sock
