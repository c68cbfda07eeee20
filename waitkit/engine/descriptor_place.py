"""Rest at a descriptor: a thread that nobody else can wake asks the kernel itself, and needs no other thread for that."""

from __future__ import annotations

import select
from typing import Any, Final

from waitkit.engine.clock import SystemClock
from waitkit.engine.descriptors import DescriptorSubscription
from waitkit.engine.parking import Parker
from waitkit.engine.selector import READ, WRITE
from waitkit.engine.signals import Wake
from waitkit.ground.durations import MILLISECOND, Nanoseconds

__all__ = ["DescriptorPlace"]

# Where there is epoll, poll() takes all that it takes, and regular files.
_POLL: Final[Any] = select.poll if hasattr(select, "epoll") else None
#: ``poll(2)`` counts milliseconds in an int of C.
_LONGEST: Final = 2**31 - 1


class DescriptorPlace:
    """Where the thread of one wait rests that only descriptors can end, or time, or a signal.

    Between a process that ends and the thread that waits for it stands no other thread then: the wake-up takes half as long. It
    offers what :class:`Descriptors` does, to its own thread alone. Nobody can wake who rests here: who waits for anything else
    besides rests at a :class:`Parker`.
    """

    __slots__ = ("_parker", "_poll", "_subscribed")

    def __init__(self, parker: Parker) -> None:
        self._parker = parker
        self._subscribed: list[DescriptorSubscription] = []
        self._poll: Any = None  # made of what is subscribed, where that stays the same

    @staticmethod
    def suits(parker: Parker) -> bool:
        """Whether a thread that would rest at *parker* can rest here: in real time, where the system offers ``poll(2)``."""
        return _POLL is not None and isinstance(parker.clock, SystemClock)

    def subscription(self, fd: int, wake: Wake, *, write: bool = False) -> DescriptorSubscription:
        """As :meth:`Descriptors.subscription`."""
        return DescriptorSubscription(self, fd, WRITE if write else READ, wake)

    def add(self, subscription: DescriptorSubscription) -> None:
        """Have rests end when it is ready."""
        self._poll = None
        self._subscribed.append(subscription)

    def drop(self, subscription: DescriptorSubscription) -> None:
        """It was closed."""
        self._poll = None
        self._subscribed = [other for other in self._subscribed if other is not subscription]

    def rest(self, until: Nanoseconds | None) -> bool:
        """As :meth:`Parker.rest`. What is subscribed is called in this thread."""
        if self._subscribed:
            timeout = None if until is None else min((until - SystemClock.now()) // MILLISECOND, _LONGEST)
            if timeout is None or timeout > 0:
                if self._poll is None:
                    self._poll = self._made_poll()
                if ready := self._poll.poll(timeout):
                    self._call({fd for fd, _ in ready})
                    return self._parker.rest(0)  # which was just woken
                if timeout == _LONGEST:
                    return False  # early, and to be rested on
        return self._parker.rest(until)  # for less than a millisecond, where there is a limit

    def _made_poll(self) -> Any:
        poll, events = _POLL(), dict[int, int]()
        for subscription in self._subscribed:
            wanted = select.POLLOUT if subscription.events & WRITE else select.POLLIN
            events[subscription.fd] = events.get(subscription.fd, 0) | wanted
            poll.register(subscription.fd, events[subscription.fd])
        return poll

    def _call(self, ready: set[int]) -> None:
        for subscription in self._subscribed.copy():
            if subscription.fd in ready:
                self.drop(subscription)
                wake, subscription.wake = subscription.wake, None
                if wake is not None:
                    wake()
