"""Ending whoever holds a port, when that is asked for in so many words."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from waitkit.conditions.condition import all_of
from waitkit.conditions.processes import ProcessExited
from waitkit.ground.durations import SECOND, Duration, to_nanoseconds
from waitkit.ground.errors import WaitTimeout
from waitkit.ground.settings import DEFAULT, DefaultTimeout, scaled
from waitkit.ports.addresses import check_port
from waitkit.ports.free import port_free
from waitkit.ports.holders import Holder, who_holds
from waitkit.ports.owners import owns_one_of
from waitkit.ports.sockets import sockets_at
from waitkit.waits.drivers import block
from waitkit.waits.wait import Wait

__all__ = ["evict_port"]

_KILL: Final = getattr(signal, "SIGKILL", signal.SIGTERM)
_KERNEL_THREAD: Final = 0x0020_0000  # PF_KTHREAD of <linux/sched.h>
_AFTER_KILL: Final = 10 * SECOND


def evict_port(
    port: int,
    *,
    stop_signal: int = signal.SIGTERM,
    timeout: Duration | DefaultTimeout = DEFAULT,
    force: bool = False,
) -> tuple[Holder, ...]:
    """End the processes that hold TCP *port*, and return when a server could have it.

    They get the stop signal; those still there after *timeout* are killed. Then the port has to become free in the sense
    of :func:`waitkit.port_free`. Where it is free already, nothing is done. Those that listen or are bound are ended;
    where there are none, those whose connections keep the port. Clients of the server are nobody's business.

    All is checked before the first signal is sent. Refused are process 1, kernel threads, this process and those it
    descends from, whatever is said; other users' processes, unless by *force*; and those that the system does not name.

    Args:
        port: from 1 to 65535.
        stop_signal: the first signal; ``SIGKILL`` leaves no grace.
        timeout: how long the processes may take to follow it, 5 s unless told otherwise. After ``SIGKILL`` they, and after
            their end the port, have 10 s more.
        force: end other users' processes too, as far as we may.

    Returns:
        The holders whose processes were ended; empty where the port was free.

    Raises:
        TypeError, ValueError: an argument cannot be what it should be.
        PermissionError: a holder must not be ended, or the system does not let us. Nobody has got a signal then.
        WaitTimeout: the port is not free after all: a process does not go, somebody else has taken the port, or what is
            left of its connections bars it. The message says who.
    """
    check_port(port)
    number = signal.Signals(stop_signal)
    if not isinstance(force, bool):
        raise TypeError(f"force={force!r} is neither True nor False")
    grace = scaled(5 * SECOND) if timeout is DEFAULT else to_nanoseconds(timeout, "timeout")
    try:
        block(Wait(port_free(port), 0))
        return ()
    except WaitTimeout:
        holders = _to_be_ended(port)
    for holder in holders:
        _refuse(port, holder, force=force)
    if holders:
        _end(port, {holder.pid for holder in holders if holder.pid is not None}, number, grace)
    block(Wait(port_free(port), scaled(_AFTER_KILL)))
    return holders


def _to_be_ended(port: int) -> tuple[Holder, ...]:
    holders = tuple(holder for holder in who_holds(port) if holder.remaining is None)
    return tuple(holder for holder in holders if holder.state in ("LISTEN", "BOUND")) or holders


def _refuse(port: int, holder: Holder, *, force: bool) -> None:
    """Raise ``PermissionError`` where a holder must not be ended."""
    who = f"port {port} is held by {holder}"
    if holder.pid is None:
        raise PermissionError(f"{who}: who cannot be seen cannot be ended")
    if holder.pid == 1 or _is_kernel_thread(holder.pid):
        raise PermissionError(f"{who}: that is the system itself")
    if holder.pid == os.getpid():
        raise PermissionError(f"{who}: that is this process; close the socket")
    if holder.pid in _ancestors():
        raise PermissionError(f"{who}: this process descends from it, and would go with it")
    if not force and _user_of(holder.pid) not in (os.geteuid(), None):
        raise PermissionError(f"{who}: that is another user's; force=True ends it all the same")


def _is_kernel_thread(pid: int) -> bool:
    try:
        # Behind the name of the program, in which anything may stand: state, parent, group, session, terminal, its
        # group, flags.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return bool(int(fields[6]) & _KERNEL_THREAD)


def _ancestors() -> set[int]:
    import psutil

    return {parent.pid for parent in psutil.Process().parents()}


def _user_of(pid: int) -> int | None:
    import psutil

    try:
        return int(psutil.Process(pid).uids().effective)
    except psutil.Error:
        return None  # it has ended meanwhile


def _end(port: int, pids: set[int], number: signal.Signals, grace: int) -> None:
    """The ladder: the signal, the grace, ``SIGKILL``, the end."""
    with _identified(port, pids) as targets:
        gone = all_of(*(ProcessExited(pid) for pid in pids)).described(
            f"pid {', '.join(map(str, sorted(pids)))} to let go of port {port}"
        )
        _send(targets, number)
        if number != _KILL:
            try:
                block(Wait(gone, grace))
                return
            except WaitTimeout:
                _send(targets, _KILL)
        block(Wait(gone, scaled(_AFTER_KILL)))


@contextmanager
def _identified(port: int, pids: Iterable[int]) -> Iterator[dict[int, int | None]]:
    """A pidfd for each process that still holds the port, so that no signal goes to a later process of the same pid."""
    with ExitStack() as stack:
        targets: dict[int, int | None] = {}
        for pid in pids:
            try:
                pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
            except ProcessLookupError:
                continue
            if pidfd is not None:
                stack.callback(os.close, pidfd)
            # Between the list and the pidfd it may have ended: then this is another one, and has nothing of the port.
            if owns_one_of([pid], sockets_at(port)) is not False:
                targets[pid] = pidfd
        yield targets


def _send(targets: dict[int, int | None], number: signal.Signals) -> None:
    for pid, pidfd in targets.items():
        try:
            if pidfd is None:
                os.kill(pid, number)
            else:
                signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            continue  # it has ended
