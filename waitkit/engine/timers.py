"""Timers: callbacks at instants of the clock, from one heap and one thread."""

from __future__ import annotations

import heapq
import itertools

from waitkit.engine.background import LINGER, run_shown, start_thread
from waitkit.engine.clock import now
from waitkit.engine.forks import on_fork_in_child
from waitkit.engine.locks import ForkSafeLock
from waitkit.engine.parking import Parker
from waitkit.engine.signals import Wake
from waitkit.ground.durations import Nanoseconds

__all__ = ["Timer", "Timers", "call_at", "current_timers", "use_timers"]


class Timer:
    """An entry of the heap. :meth:`cancel` marks it; it is dropped when it comes up, or when half of the heap is dead."""

    __slots__ = ("_callback", "_owner", "due", "sequence")

    def __init__(self, owner: Timers, due: Nanoseconds, sequence: int, callback: Wake) -> None:
        self._owner = owner
        self.due = due
        self.sequence = sequence
        self._callback: Wake | None = callback

    def __lt__(self, other: Timer) -> bool:
        return (self.due, self.sequence) < (other.due, other.sequence)

    @property
    def live(self) -> bool:
        """Neither fired nor cancelled."""
        return self._callback is not None

    def cancel(self) -> None:
        """Do not call back. After the call back, or again, it does nothing."""
        if self._callback is not None:
            self._callback = None
            self._owner._note_cancelled()

    def fire(self) -> None:
        """Call back, unless cancelled."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Timers:
    """A heap of ``(due, sequence)``: entries fire in the order of their time, and of their coming where times are equal.

    ``_lock`` guards the heap, the count of dead entries and ``_running``. Callbacks are called outside of it, in
    the thread ``waitkit-timers``, which is started by the first entry and ends when it has been idle for a while.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._heap: list[Timer] = []
        self._sequence = itertools.count()
        self._dead = 0
        self._running = False
        self._parker = Parker()

    def call_at(self, due: Nanoseconds, callback: Wake) -> Timer:
        """Call *callback* once, at the instant *due* or as soon after it as the machine allows.

        Args:
            due: an instant of the current clock; one that has passed is due at once.
            callback: short, never blocking; it runs in the timers' thread.

        Raises:
            CannotStart: the thread is needed and cannot be started.
        """
        timer = Timer(self, due, next(self._sequence), callback)
        with self._lock:
            if not self._running:
                self._running = True
                self._parker = Parker()
                start_thread("timers", self._run, otherwise=self._not_running)
            heapq.heappush(self._heap, timer)
            first = self._heap[0] is timer
        if first:
            self._parker.unpark()
        return timer

    def _not_running(self) -> None:
        self._running = False

    def _note_cancelled(self) -> None:
        with self._lock:
            self._dead += 1
            if self._dead > 64 and self._dead > len(self._heap) // 2:
                self._heap = [timer for timer in self._heap if timer.live]
                heapq.heapify(self._heap)
                self._dead = 0

    def _run(self) -> None:
        idle_until = now() + LINGER
        while True:
            timer, until = self._next()
            if timer is not None:
                run_shown(timer.fire)
                idle_until = now() + LINGER
            elif until is not None:
                self._parker.park(until)
            elif self._ended(idle_until):
                return
            else:
                self._parker.linger(idle_until)

    def _next(self) -> tuple[Timer | None, Nanoseconds | None]:
        """The entry that is due, or when to look again; neither where the heap is empty."""
        with self._lock:
            while self._heap and not self._heap[0].live:
                heapq.heappop(self._heap)
                self._dead = max(0, self._dead - 1)
            if not self._heap:
                return None, None
            if self._heap[0].due <= now():
                return heapq.heappop(self._heap), None
            return None, self._heap[0].due

    def _ended(self, idle_until: Nanoseconds) -> bool:
        with self._lock:
            if self._heap or now() < idle_until:
                return False
            self._running = False
            return True


_timers = Timers()


def call_at(due: Nanoseconds, callback: Wake) -> Timer:
    """As :meth:`Timers.call_at`, on the timers of this process."""
    return _timers.call_at(due, callback)


def current_timers() -> Timers:
    """The timers of this process, for who stays with them whatever is used later."""
    return _timers


def use_timers(timers: Timers) -> Timers:
    """Make *timers* those of this process. Returns the ones used until now."""
    global _timers
    previous, _timers = _timers, timers
    return previous


@on_fork_in_child
def _reset() -> None:
    global _timers
    _timers = Timers()
