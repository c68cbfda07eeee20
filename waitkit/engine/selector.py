"""What the system offers for waiting on many descriptors: epoll on Linux, kqueue on BSD and macOS, elsewhere nothing."""

from __future__ import annotations

import errno
import select
import selectors
from typing import Any, Final, Protocol, TypeAlias

__all__ = ["READ", "WRITE", "Ready", "Selector", "make_selector"]

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE

#: A descriptor, and what it is ready for: :data:`READ`, :data:`WRITE` or both.
Ready: TypeAlias = tuple[int, int]


class Selector(Protocol):
    """A selector in which another thread may register descriptors while one waits."""

    def register(self, fd: int, events: int) -> None:
        """Tell of *fd* from now on. ``OSError`` where the system does not watch this one, or it is closed."""

    def unregister(self, fd: int) -> None:
        """Tell of *fd* no more. Nothing happens where it is not registered, or was closed."""

    def select(self, timeout: float | None) -> list[Ready]:
        """What is ready, after *timeout* seconds at the latest; ``None``: not before something is."""

    def fileno(self) -> int:
        """Its own descriptor."""

    def close(self) -> None:
        """Give it back."""


class _Epoll:
    """``select.epoll``, without the table that ``selectors`` keeps beside ours: that takes ten times as long as the system."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.fileno = self._epoll.fileno
        self.close = self._epoll.close

    def register(self, fd: int, events: int) -> None:
        self._epoll.register(fd, (select.EPOLLIN if events & READ else 0) | (select.EPOLLOUT if events & WRITE else 0))

    def unregister(self, fd: int) -> None:
        try:
            self._epoll.unregister(fd)
        except OSError:
            pass

    def select(self, timeout: float | None) -> list[Ready]:
        # The end of the other side, or an error, is something to be read and to be written.
        return [
            (fd, (READ if events & ~select.EPOLLOUT else 0) | (WRITE if events & ~select.EPOLLIN else 0))
            for fd, events in self._epoll.poll(timeout)
        ]


class _Kqueue:
    """``selectors.KqueueSelector`` in the same words."""

    def __init__(self) -> None:
        kind: Any = vars(selectors)["KqueueSelector"]  # which mypy does not know on Linux
        self._selector = kind()
        self.fileno = self._selector.fileno
        self.close = self._selector.close

    def register(self, fd: int, events: int) -> None:
        self._selector.register(fd, events)

    def unregister(self, fd: int) -> None:
        try:
            self._selector.unregister(fd)
        except KeyError:
            pass

    def select(self, timeout: float | None) -> list[Ready]:
        return [(key.fd, events) for key, events in self._selector.select(timeout)]


def make_selector() -> Selector:
    """One of this system.

    Raises:
        OSError: it offers none, or no descriptor is left.
    """
    if hasattr(select, "epoll"):
        return _Epoll()
    if hasattr(select, "kqueue"):
        return _Kqueue()
    raise OSError(errno.ENOSYS, "this platform has neither epoll nor kqueue")
