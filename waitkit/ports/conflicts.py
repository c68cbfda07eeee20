"""Which sockets bar a server from an address, by the rules of the Linux kernel; pure, and held against it by tests."""

from __future__ import annotations

import socket
from typing import NamedTuple

from waitkit.ports.sockets import Socket

__all__ = ["Target", "bars"]

_ANY = ("0.0.0.0", "::")

#: What the kernel writes as the IPv4 address of a socket that is bound to an address of IPv6 alone.
_STANDS_FOR_IPV6 = "127.0.0.6"


class Target(NamedTuple):
    """Where a server will bind: family and IP address; of IPv6 also flow and scope, where there are such."""

    family: int
    address: str
    scope: tuple[object, ...] = ()


def bars(found: Socket, target: Target, *, reuse_address: bool) -> bool | None:
    """Whether a socket keeps a server from binding *target* at the same port and listening.

    Args:
        found: as the system lists it.
        target: where the server will bind, without ``SO_REUSEPORT``.
        reuse_address: whether it sets ``SO_REUSEADDR``. Two sockets with the option share an address, if neither listens.

    Returns:
        ``None`` where it depends on what the list does not tell: whether the other one set the option, mostly.
    """
    if found.state == "SYN_RECV":
        return False  # it has no place of its own: it stands under its listener, which is listed too
    overlap = _overlap(found, target)
    if overlap is False:
        return False
    if found.state != "LISTEN" and reuse_address:
        return None
    return overlap


def _overlap(found: Socket, target: Target) -> bool | None:
    """Whether the addresses have something in common; ``None`` where kernels differ in it."""
    if found.device:
        return None  # bars us, unless the interface is one of another routing domain
    address = found.address.removeprefix("::ffff:")
    mapped = address != found.address
    if found.family == target.family and not mapped:
        return address == target.address or address in _ANY or target.address in _ANY
    if target.family == socket.AF_INET6 and target.address != "::":
        return False  # one address of IPv6 is wanted, and the other is one of IPv4
    if mapped or found.family == socket.AF_INET:
        return address == target.address or address == "0.0.0.0" or target.address in _ANY
    # IPv4 is wanted, and the other has an address of IPv6.
    if found.v6only:
        return False
    if address == "::":
        return True
    return None if target.address in (*_ANY, _STANDS_FOR_IPV6) else False
