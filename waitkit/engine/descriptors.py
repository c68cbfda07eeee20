"""File descriptors: one thread waits on all of them (pidfds, pipes, sockets) and calls back when one is ready."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import starmap
from typing import Protocol

from waitkit.engine.background import LINGER, CannotStart, run_shown, start_thread
from waitkit.engine.forks import on_fork_in_child
from waitkit.engine.locks import ForkSafeLock
from waitkit.engine.owned import OwnedDescriptor
from waitkit.engine.selector import READ, WRITE, Ready, Selector, make_selector
from waitkit.engine.signals import Wake
from waitkit.ground.durations import SECOND

__all__ = [
    "CannotStart",
    "DescriptorSubscription",
    "Descriptors",
    "descriptor_subscription",
    "own_descriptors",
    "watch_descriptor",
]


class _Watches(Protocol):
    """Who has a subscription called."""

    def add(self, subscription: DescriptorSubscription) -> None: ...

    def drop(self, subscription: DescriptorSubscription) -> None: ...


class DescriptorSubscription:
    """Wants one call when a descriptor is ready; then it is spent.

    Who has one made, keeps it, and calls :meth:`begin` then, can always close it, even if Ctrl-C falls in between.
    """

    __slots__ = ("_owner", "events", "fd", "wake")

    def __init__(self, owner: _Watches, fd: int, events: int, wake: Wake) -> None:
        self._owner = owner
        self.fd = fd
        self.events = events
        self.wake: Wake | None = wake

    def begin(self) -> None:
        """Be called from now on.

        Raises:
            CannotStart: this platform has no fitting selector, or no thread can be started: look from time to time.
            OSError: the kernel cannot watch this descriptor (regular files are always ready), or it is closed.
        """
        self._owner.add(self)

    @property
    def live(self) -> bool:
        """Neither called nor closed."""
        return self.wake is not None

    def close(self) -> None:
        """Do not call any more. Close the subscription *before* the descriptor."""
        if self.wake is not None:
            self._owner.drop(self)
            self.wake = None  # at last: a close that was interrupted is done again


class Descriptors:
    """The descriptors that somebody waits for, and the thread ``waitkit-descriptors`` that waits for them.

    ``_lock`` guards ``_subscribed``, the selector's registrations and ``_running``. An interrupt may leave a descriptor in
    ``_subscribed`` that the selector does not have, never the other way round. The thread waits without the lock; a descriptor
    that is ready loses its subscribers *before* they are called, so that one which stays ready does not make it spin.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._selector: Selector | None = None
        self._pipe: list[OwnedDescriptor] = []
        self._subscribed: dict[int, list[DescriptorSubscription]] = {}
        self._running = False

    def subscription(self, fd: int, wake: Wake, *, write: bool = False) -> DescriptorSubscription:
        """What :meth:`watch` gives, not begun yet."""
        return DescriptorSubscription(self, fd, WRITE if write else READ, wake)

    def watch(self, fd: int, wake: Wake, *, write: bool = False) -> DescriptorSubscription:
        """Call *wake* once, when *fd* can be read (or has ended), or with *write*, when it can be written.

        Raises:
            CannotStart, OSError: as :meth:`DescriptorSubscription.begin`.
        """
        subscription = self.subscription(fd, wake, write=write)
        subscription.begin()
        return subscription

    def add(self, subscription: DescriptorSubscription) -> None:
        """Watch for it; see :meth:`DescriptorSubscription.begin`."""
        fd = subscription.fd
        with self._lock:
            if self._selector is None:
                self._open()
            others = self._subscribed.get(fd, [])
            try:
                self._register(fd, [*others, subscription])
                if not self._running:
                    self._running = True
                    start_thread("descriptors", self._run, otherwise=self._not_running, real=True, forks_nothing=True)
            except BaseException:
                self._keep(fd, others)
                raise

    def _not_running(self) -> None:
        self._running = False

    def _open(self) -> None:
        """Make the selector, and the pipe whose writing end is always ready. The lock is held."""
        try:
            (self._pipe,) = map(list, map(map, (OwnedDescriptor,), starmap(os.pipe, [()])))  # see OwnedDescriptor
            self._selector = make_selector()
        except BaseException as error:
            self._close()
            if isinstance(
                error, OSError
            ):  # no descriptor is left, or this is not Linux, BSD or macOS: let those who ask look from time to time
                raise CannotStart(str(error)) from error
            raise  # Ctrl-C

    def _register(self, fd: int, subscribers: list[DescriptorSubscription]) -> None:
        """Have the selector watch *fd* for just these. The lock is held."""
        selector = self._selector
        assert selector is not None
        if fd in self._subscribed:
            # Never modify(): where its owner closed the descriptor under a waiter, and the number came back as
            # another file, the kernel has forgotten a registration that the selector still knows.
            selector.unregister(fd)
            del self._subscribed[fd]
        if subscribers:
            events = 0
            for subscription in subscribers:
                events |= subscription.events
            self._subscribed[fd] = subscribers
            try:
                selector.register(fd, events)
            except OSError:
                del self._subscribed[fd]
                raise

    def _keep(self, fd: int, subscribers: list[DescriptorSubscription]) -> None:
        """Have the selector watch *fd* for just these from now on. The lock is held.

        Where it cannot, as its owner has closed the descriptor under them, they are all called: let each see to that.
        """
        try:
            self._register(fd, subscribers)
        except OSError:
            _call(subscribers)
        if self._running and not self._subscribed:
            self._have_it_notice()

    def drop(self, subscription: DescriptorSubscription) -> None:
        """It is closed: watch for it no longer."""
        with self._lock:
            subscribers = self._subscribed.get(subscription.fd, [])
            if subscription not in subscribers:
                return
            others = [other for other in subscribers if other is not subscription]
            try:
                self._keep(subscription.fd, others)
            except BaseException:  # Ctrl-C, perhaps when they were watched no more, and not yet again
                self._keep(subscription.fd, others)
                raise

    def _have_it_notice(self) -> None:
        """Wake the thread, which waits for nothing without a limit now, so that it can end. The lock is held."""
        fd = self._pipe[1].fileno()
        self._register(fd, [self.subscription(fd, _nothing, write=True)])

    def _run(self) -> None:
        while True:
            selector = self._selector
            assert selector is not None
            ready = selector.select(None if self._subscribed else LINGER / SECOND)
            wakes = self._take(ready)
            for wake in wakes:
                run_shown(wake)
            if not wakes and (self._ended() or not self._renewed(selector)):
                return

    def _take(self, ready: list[Ready]) -> list[Wake]:
        wakes: list[Wake] = []
        with self._lock:
            for fd, events in ready:
                if fd not in self._subscribed:
                    continue
                staying: list[DescriptorSubscription] = []
                called: list[DescriptorSubscription] = []
                for subscription in self._subscribed[fd]:
                    (called if subscription.events & events else staying).append(subscription)
                try:
                    self._register(fd, staying)
                except OSError:  # its owner has just closed it: let them all see to that
                    called += staying
                for subscription in called:
                    if subscription.wake is not None:
                        wakes.append(subscription.wake)
                        subscription.wake = None
        return wakes

    def _renewed(self, selector: Selector) -> bool:
        """Begin anew after a wake-up by nothing we know, which would come again and again.

        epoll keeps an entry for as long as the *file* is open: one that was closed under its waiter, and lives on in a
        duplicate, has no number by which the entry could be taken out.

        Returns:
            False where there is no descriptor left to do that with: all are called, to look from time to time.
        """
        with self._lock:
            entries, self._subscribed = self._subscribed, {}
            selector.close()
            try:
                self._selector = make_selector()
            except OSError:
                self._selector = None
                self._end()
                for subscribers in entries.values():
                    _call(subscribers)
                return False
            for fd, subscribers in entries.items():
                self._keep(fd, subscribers)
            return True

    def _ended(self) -> bool:
        with self._lock:
            if self._subscribed:
                return False
            self._end()
            return True

    def _end(self) -> None:
        self._close()
        self._running = False

    def _close(self) -> None:
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        for end in self._pipe:
            end.close()
        self._pipe = []
        self._subscribed = {}

    def own(self) -> set[int]:
        """The descriptors that exist only for this: they are closed when nobody waits any more."""
        with self._lock:
            found = {end.fileno() for end in self._pipe}
            return found if self._selector is None else {*found, self._selector.fileno()}

    def forget(self) -> None:
        """Close what a fork inherited. The epoll is shared with the parent, so none of its entries is touched."""
        self._close()


def _call(subscriptions: Iterable[DescriptorSubscription]) -> None:
    for subscription in subscriptions:
        if subscription.wake is not None:
            subscription.wake()
            subscription.wake = None


def _nothing() -> None:
    pass


_descriptors = Descriptors()


def own_descriptors() -> set[int]:
    """The descriptors that waitkit keeps open while its thread is there to wait for others'."""
    return _descriptors.own()


def watch_descriptor(fd: int, wake: Wake, *, write: bool = False) -> DescriptorSubscription:
    """As :meth:`Descriptors.watch`, on the descriptors of this process."""
    return _descriptors.watch(fd, wake, write=write)


def descriptor_subscription(fd: int, wake: Wake, *, write: bool = False) -> DescriptorSubscription:
    """As :meth:`Descriptors.subscription`, on the descriptors of this process."""
    return _descriptors.subscription(fd, wake, write=write)


@on_fork_in_child
def _reset() -> None:
    global _descriptors
    inherited, _descriptors = _descriptors, Descriptors()
    inherited.forget()
