"""Ending whoever holds a port, with all it has started, when that is asked for in so many words."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from waitkit.conditions.condition import all_of, as_condition
from waitkit.conditions.processes import ProcessExited
from waitkit.engine.clock import now
from waitkit.ground.checks import check_bool
from waitkit.ground.durations import SECOND, Duration, format_duration, to_nanoseconds
from waitkit.ground.errors import WaitFailed, WaitTimeout
from waitkit.ground.settings import DEFAULT, DefaultTimeout, scaled
from waitkit.ground.signal_numbers import check_signal
from waitkit.ports.addresses import check_port
from waitkit.ports.doomed import AFTER_KILL, Doomed, ancestors
from waitkit.ports.free import port_free
from waitkit.ports.holders import Holder, who_holds
from waitkit.waits.drivers import block
from waitkit.waits.wait import Wait

if TYPE_CHECKING:
    pass

__all__ = ["evict_port"]

_KERNEL_THREAD: Final = 0x0020_0000  # PF_KTHREAD of <linux/sched.h>
#: Supervisors start again at once, or after 100 ms (systemd, docker) to 1 s (runit).
_STARTED_AGAIN: Final = SECOND
_NO_LOGIN: Final = ("", str(2**32 - 1))


def evict_port(
    port: int,
    *,
    stop_signal: int = signal.SIGTERM,
    timeout: Duration | DefaultTimeout = DEFAULT,
    force: bool = False,
) -> tuple[Holder, ...]:
    """End the processes that hold TCP *port*, with all they have started, and return when a server could have it.

    They get the stop signal; when they are gone what they had started gets it, too; those still there after *timeout* are
    killed. Then the port has to become free in the sense of :func:`waitkit.port_free`. Where it is free already, nothing is
    done. Those that listen or are bound are ended; where there are none, those whose connections keep the port. Clients of
    the server are nobody's business. What a process has started are its descendants, and, where it leads a session, those
    in it; a daemon that has left both is not found.

    Who started the holder is not ended, and may start it again. So where the holder's parent is another process than this
    one, it is watched for 1 s more, or until the parent is gone, whether somebody else listens at the port: that is an
    error. A supervisor that takes longer is not noticed; what it supervises is ended by asking it (``systemctl stop``).

    All is checked before the first signal is sent. Refused are process 1, kernel threads, this process and those it
    descends from, whatever is said; and those that the system does not name. Refused unless by *force* are other users'
    processes, and system processes, whoever we are. A system process is

    - one of a service of systemd: the first ``.service`` in the path of its control group is neither ``user@...``, where
      users' own services run, nor the one that we are in ourselves;
    - one that comes from no login, while we do: its ``/proc/.../loginuid`` is unset, and ours is set. In a container, and
      where nobody keeps account of logins, ours is unset, and so nobody is one by this rule.

    What this process has started, and what descends from that, is none.

    Args:
        port: from 1 to 65535.
        stop_signal: the first signal; ``SIGKILL`` leaves no grace.
        timeout: how long the processes may take to follow it, 5 s unless told otherwise. After ``SIGKILL`` they, and after
            their end the port, have 10 s more.
        force: end other users' and system processes too, as far as we may.

    Returns:
        The holders whose processes were ended; empty where the port was free.

    Raises:
        TypeError, ValueError: an argument cannot be what it should be.
        PermissionError: a holder, or, unless by *force*, something it has started, must not be ended, or the system does not
            let us. Nobody has got a signal then.
        WaitTimeout: the port is not free after all: a process does not go, or what is left of its connections bars it. The
            message says who.
        WaitFailed: somebody else has taken the port meanwhile. The message says who, and who started that.
    """
    check_port(port)
    number = check_signal(stop_signal, "stop_signal")
    check_bool(force, "force")
    grace = scaled(5 * SECOND) if timeout is DEFAULT else to_nanoseconds(timeout, "timeout")
    try:
        block(Wait(port_free(port), 0, explained=False))
        return ()
    except WaitTimeout:
        holders = _to_be_ended(port)
    for holder in holders:
        _refuse(port, holder, force=force)
    with Doomed(port, {holder.pid for holder in holders if holder.pid is not None}) as doomed:
        doomed.check(force=force)
        doomed.end(number, grace)
        _see_it_free(port, doomed)
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
    if holder.pid in ancestors(os.getpid()):
        raise PermissionError(f"{who}: this process descends from it, and would go with it")
    if force:
        return
    if _user_of(holder.pid) not in (os.geteuid(), None):
        raise PermissionError(f"{who}: that is another user's; force=True ends it all the same")
    if reason := _why_of_the_system(holder.pid):
        raise PermissionError(f"{who}: that is a process of the system, {reason}; force=True ends it all the same")


def _is_kernel_thread(pid: int) -> bool:
    # Behind the name of the program, in which anything may stand: state, parent, group, session, terminal, its group, flags.
    fields = _told(pid, "stat").rpartition(")")[2].split()
    return len(fields) > 6 and bool(int(fields[6]) & _KERNEL_THREAD)


def _why_of_the_system(pid: int) -> str:
    """Why it is none of what users have started; empty where it is."""
    me = os.getpid()
    if me in ancestors(pid):
        return ""
    service = _service_of(pid)
    if service and service != _service_of(me):
        return f"of {service}: systemctl stop {service} ends it"
    if _told(pid, "loginuid").strip() in _NO_LOGIN and _told(me, "loginuid").strip() not in _NO_LOGIN:
        return "which comes from no login"
    return ""


def _service_of(pid: int) -> str:
    """The service of systemd that a process is in; empty for none, and for what users have started."""
    for line in _told(pid, "cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        services = [part for part in path.split("/") if part.endswith(".service")]
        if services and (number == "0" or controllers == "name=systemd"):
            return "" if services[0].startswith("user@") else services[0]
    return ""


def _told(pid: int, name: str) -> str:
    """What the system tells of a process in one of its files; empty where it does not."""
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


def _user_of(pid: int) -> int | None:
    import psutil

    try:
        return int(psutil.Process(pid).uids().effective)
    except psutil.Error:
        return None  # it has ended meanwhile


def _see_it_free(port: int, doomed: Doomed) -> None:
    """The port becomes free, and stays so while the one that has started the holder is about to start another.

    Raises:
        WaitTimeout: it does not become free.
        WaitFailed: somebody else listens there.
    """
    ended = now()
    another = as_condition(lambda: any(holder.state == "LISTEN" for holder in who_holds(port)))
    try:
        block(Wait(port_free(port), scaled(AFTER_KILL), unless=another))
        if doomed.parents:
            over = all_of(*map(ProcessExited, doomed.parents))
            try:
                block(Wait(over, scaled(_STARTED_AGAIN), unless=~port_free(port), explained=False))
            except WaitTimeout:
                pass
    except WaitFailed as error:
        headline = f"port {port} was taken again {format_duration(now() - ended)} after its holder had ended"
        raise WaitFailed(
            error.facts._replace(headline=headline, last="", notes=tuple(_who_again(port, doomed)))
        ) from None


def _who_again(port: int, doomed: Doomed) -> list[str]:
    import psutil

    notes = []
    parents = {parent.pid for parent in doomed.parents}
    for holder in who_holds(port):
        if holder.remaining is not None:
            continue
        notes.append(f"port {port} is held by {holder}")
        try:
            parent = None if holder.pid is None else psutil.Process(holder.pid).parent()
            if parent is not None and parent.pid in parents:
                notes.append(
                    f"pid {holder.pid} was started by pid {parent.pid} ({parent.name()}), as was the one that was ended: "
                    "what it supervises is ended by asking it, or by ending it first"
                )
        except psutil.Error:
            continue
    return notes
