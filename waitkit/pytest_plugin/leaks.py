"""What a test leaves behind: threads, child processes, listening ports and open files."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
import traceback
from typing import Any, Final, NamedTuple

import pytest

from waitkit.engine.frames import current_frames
from waitkit.ground.errors import WaitTimeout
from waitkit.waiting import wait_for
from waitkit.waits.scopes import outside_scopes

__all__ = ["Snapshot", "fail_if_any", "snapshot"]

_PATIENCE: Final = "1s"
# waitkit's own threads end by themselves when nothing waits any more, two seconds later; their descriptors with them.
_OURS: Final = "waitkit-"
# multiprocessing keeps these for the rest of the program's life, once it has needed them; waitkit its guardian for seconds.
_HELPERS: Final = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "/waitkit/processes/guard.py")


class Snapshot(NamedTuple):
    """What there is, each thing with the words for it.

    Attributes:
        threads: by the thread itself.
        processes: by number and time of start.
        ports: by address and port.
        files: by descriptor and what it is open for.
    """

    threads: dict[object, str]
    processes: dict[object, str]
    ports: dict[object, str]
    files: dict[object, str]

    def added(self, later: Snapshot) -> list[str]:
        """The words for what *later* has and this has not."""
        return [
            words
            for mine, theirs in zip(self, later, strict=True)
            for thing, words in theirs.items()
            if thing not in mine
        ]


def snapshot() -> Snapshot:
    """What there is now."""
    ports = _ports()
    return Snapshot(_threads(), _processes(), dict(ports), _files({inode for _, inode in ports if inode}))


def _threads() -> dict[object, str]:
    frames = current_frames()
    return {
        thread: _thread(thread, frames)
        for thread in threading.enumerate()
        if not thread.name.startswith(_OURS) and thread is not threading.current_thread()
    }


def _thread(thread: threading.Thread, frames: dict[int, Any]) -> str:
    frame = frames.get(thread.ident or 0)
    stack = "" if frame is None else "".join(traceback.format_stack(frame)[-4:]).rstrip()
    return f"thread {thread.name}{' (daemon)' if thread.daemon else ''}, which is at\n{stack}"


def _processes() -> dict[object, str]:
    import psutil

    found: dict[object, str] = {}
    for child in psutil.Process().children(recursive=True):
        try:
            key = (child.pid, child.create_time())
            if child.status() == psutil.STATUS_ZOMBIE:
                found[key] = f"process {child.pid}: ended, but nobody has waited for it"
                continue
            words = " ".join(child.cmdline())
            if not any(helper in words for helper in _HELPERS):
                found[key] = f"process {child.pid}: {words or child.name()}"
        except psutil.NoSuchProcess:
            continue
    return found


def _ports() -> dict[tuple[Any, str], str]:
    import psutil

    me = psutil.Process()
    # Its name until psutil 6.
    connections = getattr(me, "net_connections", None) or me.connections
    found = {}
    for connection in connections("inet"):
        if connection.status == psutil.CONN_LISTEN:
            words = f"port {connection.laddr.port}, listening on {connection.laddr.ip}"
        elif connection.type == socket.SOCK_DGRAM and connection.laddr and not connection.raddr:
            words = f"UDP port {connection.laddr.port}, bound at {connection.laddr.ip}"
        else:
            continue
        found[connection.laddr, _target(connection.fd)] = words
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _files(ports: set[str]) -> dict[object, str]:
    """The open descriptors, without those of *ports*, which are told there, and without those that others keep."""
    on_linux = os.path.isdir("/proc/self/fd")
    kept = _kept_open()
    found: dict[object, str] = {}
    for name in os.listdir("/proc/self/fd" if on_linux else "/dev/fd"):
        fd, target = int(name), _target(int(name))
        if on_linux and not target:
            continue  # that of the directory itself, which is closed by now
        if target not in ports and fd not in kept:
            found[fd, target] = f"file descriptor {fd}: {target or 'open'}"
    return found


def _target(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""


def _kept_open() -> set[int]:
    """Descriptors that are nobody's leak: of waitkit's idle thread and guardian, and of multiprocessing's helpers."""
    from waitkit.engine.descriptors import own_descriptors

    kept = own_descriptors()
    guardian = sys.modules.get("waitkit.processes.guardian")
    if guardian is not None:
        kept |= guardian.descriptors_of_guardian()
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    server = sys.modules.get("multiprocessing.forkserver")
    for thing, name in (
        (getattr(tracker, "_resource_tracker", None), "_fd"),
        (getattr(server, "_forkserver", None), "_forkserver_alive_fd"),
    ):
        fd = getattr(thing, name, None)
        if isinstance(fd, int):
            kept.add(fd)
    return kept


def fail_if_any(before: Snapshot) -> None:
    """Fail the test where there is more than *before*, after a moment for what is just ending."""
    with outside_scopes():
        try:
            wait_for(lambda: not before.added(snapshot()), _PATIENCE, message="what the test has started to end")
        except WaitTimeout:
            gc.collect()  # an exception that was caught keeps the frames it passed, and what they opened
        else:
            return
    left = before.added(snapshot())
    if left:
        pytest.fail("the test has left behind:\n" + "\n".join(f"- {words}" for words in left), pytrace=False)
