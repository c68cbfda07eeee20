"""Ports and addresses as users write them, checked at once."""

from __future__ import annotations

import socket
from typing import TypeAlias

__all__ = ["Address", "check_host", "check_port", "is_literal", "is_local", "resolve"]

#: An address family with the address to connect to.
Address: TypeAlias = tuple[socket.AddressFamily, tuple[object, ...] | str]

_LOOPBACK_6 = bytes(15) + b"\1"


def check_port(port: int, name: str = "port") -> int:
    """The number of a port, as a plain ``int``.

    Raises:
        TypeError: it is no ``int`` (``bool`` included).
        ValueError: it is not from 1 to 65535.
    """
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"{name}={port!r} is not a port: give a number from 1 to 65535")
    if not 1 <= port <= 65_535:
        raise ValueError(f"{name}={port!r} is not a port: give a number from 1 to 65535")
    return int(port)


def check_host(host: str) -> str:
    """A host name or an IP address.

    Raises:
        TypeError: it is no text, or empty.
    """
    if not isinstance(host, str) or not host:
        raise TypeError(f"host={host!r} is not a host: give a name or an IP address, such as 'localhost' or '10.0.0.1'")
    return host


def is_literal(host: str) -> bool:
    """Whether *host* needs no name service: an IP address, or ``localhost``."""
    return host == "localhost" or _packed(host.partition("%")[0]) is not None


def _is_loopback(host: str) -> bool:
    """Whether *host* is surely this machine, by a loopback address."""
    packed = _packed(host.partition("%")[0])
    return (
        host == "localhost" or packed == _LOOPBACK_6 or (packed is not None and len(packed) == 4 and packed[0] == 127)
    )


def _packed(host: str) -> bytes | None:
    """An IP address as the system has it; ``None`` where the text is none."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, host)
        except (OSError, ValueError):  # it is none of this family; no text of an address at all
            pass
    return None


def is_local(address: Address) -> bool:
    """Whether an address that :func:`resolve` gave is this machine's own. In doubt it is not.

    The kernel is asked for the way to it, which for an own address begins there too; nothing is sent.
    """
    family, where = address
    if isinstance(where, str):
        return True  # a path
    host = str(where[0])
    if _is_loopback(host):
        return True
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((host, 9, *where[2:]))
            return bool(sock.getsockname()[0] == host)
    except OSError:
        return False


def resolve(host: str, port: int) -> list[Address]:
    """All addresses of *host* that a client may try, in order.

    ``localhost`` is both loopback addresses, whatever the system's tables say: servers bind the one or the other.

    Raises:
        OSError: the name service does not know the host, or is out of reach.
    """
    if host == "localhost":
        addresses: list[Address] = [(socket.AF_INET, ("127.0.0.1", port))]
        return [*addresses, (socket.AF_INET6, ("::1", port))] if socket.has_ipv6 else addresses
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(socket.AddressFamily(family), address) for family, _, _, _, address in found]
