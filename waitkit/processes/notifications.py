"""What a child has told us by ``sd_notify``: a socket for each process, read as it comes, from its own tree alone."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from typing import Final, Literal

from waitkit.conditions.condition import Condition
from waitkit.engine.descriptors import DescriptorSubscription, watch_descriptor
from waitkit.engine.locks import ForkSafeLock
from waitkit.engine.signals import Signal, Wake
from waitkit.ground.durations import Nanoseconds
from waitkit.processes.subjects import subject_of
from waitkit.waits.watching import NOT_YET, Context, Verdict, Watch

__all__ = ["Notifications", "Stopping", "ready_notified"]

_CREDENTIALS: Final = struct.Struct("=iII")
_LONGEST: Final = 65_536
_MOST_DESCRIPTORS: Final = 16


#: What is longer is no number of an error, and nothing that the system could be asked about.
_LONGEST_ERRNO: Final = 6


class Notifications:
    """The socket a process and its tree may notify, and what they said.

    ``_lock`` guards the socket and what was said; the question whose a message is, is asked without it.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._socket: socket.socket | None = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        #: notified when something was said
        self.changed = Signal()
        self.ready = False
        self.status = ""
        self.stopping = False
        self.errno: int | None = None
        #: what was not counted, and why
        self.ignored = ""
        self._belongs: Callable[[int], bool] | None = None
        self._subscription: DescriptorSubscription | None = None
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            # An abstract name: it is in no folder, so any user of a child reaches it, and nothing is left of it.
            self._socket.bind(f"\0waitkit/{os.getpid()}/{os.urandom(8).hex()}")
        except BaseException:
            self._socket.close()
            raise

    @property
    def address(self) -> str:
        """What ``NOTIFY_SOCKET`` is to be."""
        assert self._socket is not None
        name: bytes = self._socket.getsockname()
        return "@" + name[1:].decode()

    def listen(self, belongs: Callable[[int], bool]) -> None:
        """Begin to read. *belongs* says whether a process is one of those that count."""
        self._belongs = belongs
        self._listen()

    def _listen(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._subscription = watch_descriptor(self._socket.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        self.read()
        self._listen()

    def read(self) -> None:
        """Take in what is there."""
        heard = False
        while (message := self._receive()) is not None:
            self._take(*message)
            heard = True
        if heard:
            self.changed.notify()

    def _receive(self) -> tuple[bytes, int] | None:
        """A message, and the process it is from; ``None`` where there is none."""
        with self._lock:
            if self._socket is None:
                return None
            space = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(_MOST_DESCRIPTORS * 4)
            try:
                text, ancillary, _, _ = self._socket.recvmsg(_LONGEST, space)
            except (BlockingIOError, ConnectionError):
                return None
            sender = 0
            for level, kind, data in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                    sender = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0]
                elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    # sd_notify_barrier(3): who sends a descriptor waits until we have closed it.
                    for position in range(0, len(data) - len(data) % 4, 4):
                        os.close(struct.unpack_from("=i", data, position)[0])
            return text, sender

    def _take(self, text: bytes, sender: int) -> None:
        if self._belongs is None or not self._belongs(sender):
            first = text.partition(b"\n")[0].decode("utf-8", "replace")
            self.ignored = f"{first} of process {sender}, which is not of its tree, does not count"
            return
        for line in text.decode("utf-8", "replace").split("\n"):
            name, _, value = line.partition("=")
            if name == "READY" and value == "1":
                self.ready = True
            elif name == "STATUS":
                self.status = value
            elif name == "STOPPING" and value == "1":
                self.stopping = True
            elif name == "ERRNO" and value.isdecimal() and value.isascii() and len(value) < _LONGEST_ERRNO:
                self.errno = int(value)

    def facts(self) -> list[str]:
        """What is known, in words."""
        found = []
        if self.status:
            found.append(f"its last status: {self.status}")
        if self.stopping:
            found.append("it has said that it is stopping")
        if self.errno is not None:
            found.append(f"its error: {os.strerror(self.errno)} (ERRNO={self.errno})")
        return [*found, self.ignored] if self.ignored else found

    def close(self) -> None:
        """The process is gone: take in what is left, and stop listening."""
        self.read()
        with self._lock:
            if self._subscription is not None:
                self._subscription.close()
                self._subscription = None
            if self._socket is not None:
                self._socket.close()
                self._socket = None


class _ReadyNotified(Condition[bool]):
    @property
    def what(self) -> str:
        return "its READY=1 by sd_notify"

    def watch(self, context: Context) -> Watch:
        return _NotifiedWatch(subject_of(context, "ready_notified()").notifications(), "ready")


class Stopping(Condition[bool]):
    """A process that has said ``STOPPING=1``."""

    def __init__(self, notifications: Notifications, name: str) -> None:
        self._notifications = notifications
        self._name = name

    @property
    def what(self) -> str:
        return f"{self._name} to say that it is stopping"

    def watch(self, context: Context) -> Watch:
        return _NotifiedWatch(self._notifications, "stopping")


class _NotifiedWatch(Watch):
    __slots__ = ("_notifications", "_word")
    outside = True

    def __init__(self, notifications: Notifications | None, word: Literal["ready", "stopping"]) -> None:
        self._notifications = notifications
        self._word = word

    def arm(self, wake: Wake) -> None:
        if self._notifications is not None:
            self._notifications.changed.subscribe(wake, self)

    def look(self, now: Nanoseconds) -> Verdict:
        said = self._notifications is not None and getattr(self._notifications, self._word)
        return Verdict(True, True) if said else NOT_YET

    def close(self) -> None:
        if self._notifications is not None:
            self._notifications.changed.unsubscribe(self)

    def seen(self) -> str:
        return "" if self._notifications is None else "; ".join(self._notifications.facts()) or "nothing was notified"


def ready_notified() -> Condition[bool]:
    """Holds when a process has told us by ``sd_notify`` that it is ready: ``ready="notify"``, to be combined with others.

    For ``ready=`` of :func:`waitkit.managed_process` alone, which knows the process. Only what comes from the process itself
    or its descendants counts; the kernel tells who sent it. A sender that has ended when its message is read counts, too: the
    name of the socket is a secret of the tree.
    """
    return _ReadyNotified()
