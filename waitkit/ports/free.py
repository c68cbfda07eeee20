"""A port that is free, as a condition."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from waitkit.conditions.condition import Condition
from waitkit.engine.clock import now as clock_now
from waitkit.engine.signals import Wake
from waitkit.ground.checks import check_bool
from waitkit.ground.durations import Nanoseconds
from waitkit.ports.addresses import check_host, check_port
from waitkit.ports.binding import bind_at, everywhere
from waitkit.ports.conflicts import Target, bars
from waitkit.ports.holders import Holder, describe, who_holds
from waitkit.ports.names import Addresses, NoAnswerYet
from waitkit.ports.sockets import Socket, listeners, listeners_are_known, lists_bound_sockets, sockets_at
from waitkit.waits.watching import Context, Verdict, Watch

__all__ = ["port_free"]

#: How often the list is asked at one look, while those who have the port come and go.
_QUESTIONS: Final = 5
#: In so many lists, one after the other, somebody is who stays: a thread that the system has put aside for a moment is in two.
_STAYS: Final = 3

_IN_USE: Final = os.strerror(errno.EADDRINUSE).lower()
#: No descriptor or memory is left to ask with. That passes, and says nothing of the port.
_OUT_OF_MEANS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_NO_SUCH_FAMILY: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class _PortFree(Condition[int]):
    def __init__(self, port: int, host: str | None, *, reuse_address: bool) -> None:
        self.port = port
        self.host = host
        self.reuse_address = reuse_address

    @property
    def what(self) -> str:
        return f"port {self.port}{f' of {self.host}' if self.host else ''} to be free"

    def watch(self, context: Context) -> Watch:
        return _PortFreeWatch(self, context)


class _PortFreeWatch(Watch):
    __slots__ = ("_addresses", "_bindable", "_condition", "_context", "_trouble")
    outside = True

    def __init__(self, condition: _PortFree, context: Context) -> None:
        self._condition = condition
        self._context = context
        self._trouble = ""
        self._bindable: set[Target] = set()
        self._addresses = None if condition.host is None else Addresses(condition.host, condition.port, context)

    @property
    def may_block(self) -> bool:
        return self._addresses is not None and self._addresses.may_block

    def arm(self, wake: Wake) -> None:
        if self._addresses is not None:
            self._addresses.arm(wake)

    def look(self, now: Nanoseconds) -> Verdict:
        try:
            free = self._free()
        except OSError as error:
            if not isinstance(error, NoAnswerYet) and error.errno not in _OUT_OF_MEANS:
                error.add_note(f"That was found while waiting for {self._condition.what}.")
                raise
            self._trouble = (error.strerror or str(error)).lower()
            return Verdict(False, None, self._context.next_look(clock_now()))
        after = clock_now()
        again = self._context.next_look(after, after - now)
        self._trouble = "it is free" if free else _IN_USE
        return Verdict(free, self._condition.port if free else None, again)

    def _free(self) -> bool:
        wanted = self._condition
        return all(
            self._can_be_had(target) and is_free(target, wanted.port, reuse_address=wanted.reuse_address)
            for target in self._targets()
        )

    def _targets(self) -> Sequence[Target]:
        if self._addresses is None:
            return [everywhere()]
        return [Target(family, str(address[0]), tuple(address[2:])) for family, address in self._addresses.known()]

    def _can_be_had(self, target: Target) -> bool:
        """Make sure that this machine has such an address. Waiting will not mend it, so if not, that is an error.

        It is asked of UDP, with any port, so that no TCP port is taken for it, not for an instant.
        """
        if target not in self._bindable:
            try:
                with socket.socket(target.family, socket.SOCK_DGRAM) as sock:
                    sock.bind((target.address, 0, *target.scope))
            except OSError as error:
                if self._condition.host != "localhost" or error.errno not in _NO_SUCH_FAMILY:
                    raise
                return True  # without IPv6, localhost is 127.0.0.1 alone, and nobody can have ::1
            self._bindable.add(target)
        return True

    def seen(self) -> str:
        return self._trouble

    def explain(self) -> Sequence[str]:
        if self._trouble != _IN_USE:
            return ()
        wanted = self._condition
        holders = who_holds(wanted.port)
        found = describe(wanted.port, holders) or [
            f"port {wanted.port} is bound by a socket that the system does not list"
        ]
        if not wanted.reuse_address and self._is_free_with_the_option(holders):
            found.append("a server that sets SO_REUSEADDR could have it now")
        return found

    def _is_free_with_the_option(self, holders: Sequence[Holder]) -> bool:
        """Whether that can be told without a bind that is in somebody's way.

        A server of another process on its way from bind to listen may look as if it would stay. Connections do not listen.
        """
        if not holders or any(one.state in ("BOUND", "LISTEN") and one.pid != os.getpid() for one in holders):
            return False
        return all(is_free(target, self._condition.port, reuse_address=True) for target in self._targets())


def is_free(target: Target, port: int, *, reuse_address: bool) -> bool:
    """Whether a server could bind *target* at *port* and listen now.

    The list of sockets answers it where it can: a bind of ours, however short, would bar those who bind at that instant.
    Who listens is asked first, as that costs little and is what usually is in the way.

    Raises:
        OSError: this user may not bind the port.
    """
    if not listeners_are_known():
        return _try_to_bind(target, port, reuse_address=reuse_address)
    if any(bars(found, target, reuse_address=reuse_address) for found in listeners(port)):
        return False
    if not lists_bound_sockets() or port < _first_unprivileged_port():
        return _try_to_bind(target, port, reuse_address=reuse_address)
    undecided: list[Socket] | None = None
    seen = 0
    for _ in range(_QUESTIONS):
        before, undecided = undecided, []
        for found in sockets_at(port):
            verdict = bars(found, target, reuse_address=reuse_address)
            if verdict:
                return False
            if verdict is None:
                undecided.append(found._replace(remaining=None))
        if not undecided:
            return True
        seen = seen + 1 if undecided == before else 1
        if seen == _STAYS:
            # It depends on what no list tells: whether those who have the address set SO_REUSEADDR. A short bind of ours
            # says it, and bars nobody whom they do not bar, as they stay.
            return _try_to_bind(target, port, reuse_address=reuse_address)
        # A server on its way from bind to listen looks like this for an instant, and may be gone in the next.
    return False


def _try_to_bind(target: Target, port: int, *, reuse_address: bool) -> bool:
    try:
        bind_at(target, port, reuse=reuse_address).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise  # not allowed to bind it: waiting will not mend that
        return False
    return True


def _first_unprivileged_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except OSError:
        return 1_024


def port_free(port: int, host: str | None = None, *, reuse_address: bool = True) -> Condition[int]:
    """Holds when a TCP server could have *port*; its value is the port.

    Free means: a server that binds *host* at *port* now and listens would succeed, where it sets ``SO_REUSEADDR``, as
    nearly all do, or with ``reuse_address=False`` where it does not. It sets no ``SO_REUSEPORT``: ports that a group of
    servers shares by it count as taken. So

    - a listener at the same address, or at all addresses, always bars it;
    - a socket that is bound and silent, as that of :func:`waitkit.reserved_port`, and the remains of connections
      (``TIME_WAIT``, for 60 s) bar a server without the option; one with the option they bar only where they were made
      without it;
    - IPv6 listeners count against IPv4, as far as they take connections of it; a listener at another address does not count.

    On Linux from 6.8 on the kernel's list of sockets is asked, and nobody is disturbed. Elsewhere, for ports that only
    root may bind, and for a server with the option where somebody has the port, does not listen and stays, it is tried by a
    bind without listening, which lasts some microseconds and could in that time bar another's bind.

    Args:
        port: from 1 to 65535.
        host: the address the server will bind; of a name, all its addresses. ``"::"`` takes IPv4 too. ``None``: all
            addresses, IPv4 and IPv6, so that a listener at any single one of them counts.
        reuse_address: whether the server sets ``SO_REUSEADDR``.

    Raises:
        TypeError, ValueError: *port* or *host* is none, or *reuse_address* no ``bool``.
        OSError: in the wait: this machine has no such address, or this user may not bind the port.
    """
    check_bool(reuse_address, "reuse_address")
    return _PortFree(check_port(port), None if host is None else check_host(host), reuse_address=reuse_address)
