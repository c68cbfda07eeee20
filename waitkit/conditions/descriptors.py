"""Descriptors as conditions: a connection, socket or pipe that can be read."""

from __future__ import annotations

import errno
import io
import select
import selectors
from typing import Final, Protocol, TypeVar

from waitkit.conditions.condition import Condition
from waitkit.engine.descriptor_place import DescriptorPlace
from waitkit.engine.descriptors import CannotStart, DescriptorSubscription, descriptor_subscription
from waitkit.engine.signals import Wake
from waitkit.ground.durations import Nanoseconds
from waitkit.waits.watching import NOT_YET, Context, Verdict, Watch

__all__ = ["GREATEST_INT", "HasFileno", "Readable", "is_ready", "readable"]


#: Of an int of C, as a descriptor is, and a process id.
GREATEST_INT: Final = 2**31 - 1


class HasFileno(Protocol):
    """Whatever has a file descriptor."""

    def fileno(self) -> int: ...


F = TypeVar("F", bound=HasFileno | int)


class DescriptorWatch(Watch):
    """A watch that is woken when a descriptor is ready; subclasses say which, and judge."""

    __slots__ = ("_context", "_place", "_subscription", "_wake")
    outside = True

    def __init__(self, context: Context) -> None:
        self._context = context
        self._wake: Wake | None = None
        self._place: DescriptorPlace | None = None
        self._subscription: DescriptorSubscription | None = None

    def arm(self, wake: Wake) -> None:
        self._wake, self._place = wake, None

    def arm_at(self, place: DescriptorPlace, wake: Wake) -> bool:
        self._wake, self._place = wake, place
        return True

    def listen(self, fd: int, *, write: bool = False) -> bool:
        """Be woken when *fd* is ready. False where that cannot be had: look again after a gap instead."""
        if self._wake is None:
            return False
        former = self._subscription
        if former is not None and former.live:
            if former.fd == fd:
                return True
            former.close()  # it goes on as another descriptor
        make = descriptor_subscription if self._place is None else self._place.subscription
        self._subscription = subscription = make(fd, self._wake, write=write)
        try:
            subscription.begin()
        except (CannotStart, PermissionError):  # EPERM: a regular file, which is always ready and never watched
            self._subscription = None
            return False
        return True

    @property
    def was_called(self) -> bool:
        """Whether the descriptor was ready, and nobody has listened to it since."""
        return self._subscription is not None and not self._subscription.live

    def close(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None


class Readable(Condition[F]):
    """A descriptor that can be read without blocking, or has ended; its value is what was given."""

    def __init__(self, thing: F) -> None:
        self._thing = thing
        _fileno(thing)

    @property
    def what(self) -> str:
        name = f"descriptor {self._thing}" if isinstance(self._thing, int) else repr(self._thing)
        return f"{name} to be readable"

    def watch(self, context: Context) -> Watch:
        return _ReadableWatch(self._thing, context)


class _ReadableWatch(DescriptorWatch):
    __slots__ = ("_thing",)

    def __init__(self, thing: HasFileno | int, context: Context) -> None:
        super().__init__(context)
        self._thing = thing

    def look(self, now: Nanoseconds) -> Verdict:
        fd = _fileno(self._thing)
        if is_ready(fd):
            # Not listened to: of what is readable already the kernel tells at once, and again after each look. That it no
            # longer is, nobody tells.
            return Verdict(True, self._thing, self._context.next_look(now) if self._context.both_ways else None)
        # What has come since the question is told at once, so it need not be asked again.
        return NOT_YET if self.listen(fd) else Verdict(False, None, self._context.next_look(now))


def is_ready(fd: int, *, write: bool = False) -> bool:
    """Whether *fd* can be read (or written) right now, or has ended. Never blocks."""
    if hasattr(select, "poll"):
        poller = select.poll()
        poller.register(fd, select.POLLOUT if write else select.POLLIN)
        for _, event in poller.poll(0):
            if event & select.POLLNVAL:
                raise OSError(errno.EBADF, f"descriptor {fd} is not open")
            return True
        return False
    with selectors.SelectSelector() as selector:
        selector.register(fd, selectors.EVENT_WRITE if write else selectors.EVENT_READ)
        return bool(selector.select(0))


def _fileno(thing: HasFileno | int) -> int:
    has_one = isinstance(thing, int) or (callable(getattr(thing, "fileno", None)) and not isinstance(thing, type))
    if isinstance(thing, bool) or not has_one:
        raise TypeError(f"{thing!r} has no file descriptor: give its number, or something with fileno()")
    try:
        fd = thing if isinstance(thing, int) else thing.fileno()
    except io.UnsupportedOperation:  # io.StringIO and its like
        raise TypeError(f"{thing!r} has no file descriptor: it is in memory alone") from None
    if isinstance(fd, bool) or not isinstance(fd, int):
        raise TypeError(f"{thing!r} has no file descriptor: its fileno() gives {fd!r}")
    if fd < 0:
        raise ValueError(f"{thing!r} has no open file descriptor (it says {fd})")
    if fd > GREATEST_INT:
        raise ValueError(f"{fd} is beyond all file descriptors, which go up to {GREATEST_INT}")
    return fd


def readable(thing: F) -> Condition[F]:
    """Holds when a file descriptor can be read without blocking, or has reached its end; its value is *thing*.

    A wait is woken by the kernel where it offers epoll or kqueue. Regular files are always readable. The kernel does not know of
    what Python has read ahead: a buffered file (``popen.stdout``) whose next line is in its buffer already is not readable. Have
    it unbuffered (``bufsize=0``), or wait for what a thread reads from it.

    Args:
        thing: a connection, socket or pipe, anything with ``fileno()``, or the number of a descriptor. It must stay
            open while somebody waits.

    Raises:
        TypeError: it has no descriptor.
        ValueError: its descriptor is closed, or its number is beyond all descriptors.
    """
    return Readable(thing)
