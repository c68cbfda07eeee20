"""Timers: callbacks at instants of the clock, from one heap, and one thread at a time that watches it."""

from __future__ import annotations

import heapq
import itertools
import threading
from functools import partial
from typing import Final

from waitkit.engine import forks
from waitkit.engine.background import LINGER, CannotStart, run_shown, start_thread
from waitkit.engine.clock import SystemClock, current_clock
from waitkit.engine.forks import on_fork_in_child
from waitkit.engine.locks import ForkSafeLock
from waitkit.engine.parking import Parker
from waitkit.engine.signals import Wake
from waitkit.engine.workers import run_in_worker
from waitkit.ground.durations import MILLISECOND, Nanoseconds

__all__ = ["Timer", "Timers", "call_at", "current_timers", "use_timers"]

#: So long a lasting callback may hold up the others; then somebody else goes on with them.
PATIENCE: Final = 5 * MILLISECOND

#: So many threads may be out in callbacks that have held up the others; what may last is left to the workers then.
MOST_OUT: Final = 4


class Timer:
    """An entry of the heap. :meth:`cancel` marks it; it is dropped when it comes up, or when half of the heap is dead."""

    __slots__ = ("_callback", "_owner", "due", "lasting", "latest")

    def __init__(self, owner: Timers, due: Nanoseconds, latest: Nanoseconds, callback: Wake, lasting: bool) -> None:
        self._owner = owner
        self.due = due
        #: nobody waits longer than that for others to come due, so that one wake-up serves them all
        self.latest = latest
        #: whether the callback may take its time
        self.lasting = lasting
        self._callback: Wake | None = callback

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


class _Watch:
    """The office of the thread that watches the heap: it has it until it ends, or a deputy has taken over.

    Attributes:
        parker: where it rests.
        busy_since: the instant at which it began a lasting callback, while it is in one.
    """

    __slots__ = ("busy_since", "parker")

    def __init__(self, parker: Parker) -> None:
        self.parker = parker
        self.busy_since: Nanoseconds | None = None


class Timers:
    """A heap of ``(latest, sequence)``: entries fire in the order of their time, and of their coming where times are equal.

    Callbacks are called in the thread ``waitkit-timers``, which is started by the first entry and ends when it has been idle for
    a while. Most are short. One that may take its time (*lasting*: a run of a poller that was short the last time) is called
    there, too, as to hand it to another thread costs more than it does; meanwhile a deputy stands by. Its rest ends soon after
    the next entry is due; if that has been held up by then, it takes over the watch, and the thread that comes back from its
    callback finds that it has lost it, and ends. So nobody is woken for a callback that is short, and one that is not
    holds up the others for some milliseconds, once.

    ``_lock`` guards the heap, the count of dead entries, ``_watch``, and what is known of the deputy. Callbacks are called
    outside of it. In virtual time entries fire at their very instants, and what may last is left to the workers.
    """

    def __init__(self) -> None:
        self._clock = current_clock()
        self._exact = not isinstance(self._clock, SystemClock)
        self._lock = ForkSafeLock()
        self._heap: list[tuple[Nanoseconds, int, Timer]] = []
        self._sequence = itertools.count()
        self._dead = 0
        self._watch: _Watch | None = None
        self._deputy: Parker | None = None
        self._deputy_due = self._last_lasting = self._out = 0

    def call_at(self, due: Nanoseconds, callback: Wake, *, slack: Nanoseconds = 0, lasting: bool = False) -> Timer:
        """Call *callback* once, at the instant *due* or as soon after it as the machine allows.

        Args:
            due: an instant of the current clock; one that has passed is due at once.
            callback: short, never blocking, unless it is *lasting*; it runs in the timers' thread.
            slack: by how much it may come later, where others are due soon after it: one wake-up then serves them all.
            lasting: the callback may take its time, though it seldom does. It may run in a worker, too.

        Raises:
            CannotStart: the thread is needed and cannot be started.
        """
        latest = due if self._exact else due + slack
        timer = Timer(self, due, latest, callback, lasting)
        with self._lock:
            watch = self._watch
            if watch is None:
                watch = self._watch = _Watch(Parker(clock=self._clock))
                start_thread("timers", partial(self._run, watch), otherwise=self._nobody_watches)
            heapq.heappush(self._heap, (latest, next(self._sequence), timer))
            # A thread in a callback looks at the heap when it comes back.
            wake = self._heap[0][2] is timer and watch.busy_since is None
        if wake:
            watch.parker.unpark()
        return timer

    def _nobody_watches(self) -> None:
        self._watch = None

    def _note_cancelled(self) -> None:
        with self._lock:
            self._dead += 1
            if self._dead > 64 and self._dead > len(self._heap) // 2:
                self._heap = [entry for entry in self._heap if entry[2].live]
                heapq.heapify(self._heap)
                self._dead = 0

    # The watch.

    def _run(self, watch: _Watch) -> None:
        generation = forks.current
        idle_until: Nanoseconds | None = None
        while self._watch is watch and forks.current == generation:  # a callback that lasts may have forked
            timer, until = self._next(watch)
            if timer is not None:
                if timer.lasting and watch.busy_since is None:
                    self._hand_over(timer)
                else:
                    run_shown(timer.fire)
                watch.busy_since = None
                idle_until = None
            elif until is not None:
                watch.parker.park(until)
                idle_until = None
            elif idle_until is None:
                idle_until = self._clock.now() + LINGER
            elif self._ended(idle_until):
                return
            else:
                watch.parker.linger(idle_until)
        if forks.current == generation:
            with self._lock:
                self._out -= 1

    def _next(self, watch: _Watch) -> tuple[Timer | None, Nanoseconds | None]:
        """The entry that is due, or when to look again; neither where the heap is empty."""
        with self._lock:
            heap = self._heap
            while heap and not heap[0][2].live:
                heapq.heappop(heap)
                self._dead = max(0, self._dead - 1)
            if not heap:
                return None, None
            first = heap[0][2]
            instant = self._clock.now()
            if first.due <= instant:
                heapq.heappop(heap)
                if not first.lasting or not self._may_last(watch, instant):
                    return first, None
                called = self._deputy if self._deputy_due > instant + 2 * PATIENCE else None
            else:
                # Waiting for others is worth while only where there are some; the second is one of these two.
                others = any(entry[2].due <= first.latest for entry in heap[1:3])
                return None, first.latest if others else first.due
        if called is not None:
            called.unpark()
        return first, None

    def _ended(self, idle_until: Nanoseconds) -> bool:
        with self._lock:
            if self._heap or self._clock.now() < idle_until:
                return False
            self._watch = None
            return True

    # What lasts.

    def _may_last(self, watch: _Watch, instant: Nanoseconds) -> bool:
        """Note that *watch* begins a lasting callback, if it may: a deputy has to stand by. The lock is held."""
        if self._exact or self._out >= MOST_OUT:
            return False
        if self._deputy is None:
            self._deputy = Parker(clock=self._clock)
            self._deputy_due = instant + PATIENCE
            try:
                start_thread("deputy", partial(self._stand_by, self._deputy), otherwise=self._no_deputy)
            except CannotStart:
                return False
        self._last_lasting = watch.busy_since = instant
        return True

    def _hand_over(self, timer: Timer) -> None:
        try:
            run_in_worker(timer.fire)
        except CannotStart:  # the interpreter is going down
            run_shown(timer.fire)

    def _no_deputy(self) -> None:
        self._deputy = None

    def _stand_by(self, parker: Parker) -> None:
        while True:
            with self._lock:
                due = self._due_of_deputy()
                if due is None:
                    self._deputy = None
                    self._out += 1
                    watch = self._watch = _Watch(parker)
                    break
                if due == 0:
                    self._deputy = None
                    return
                self._deputy_due = due
            parker.park(due)
        threading.current_thread().name = "waitkit-timers"
        self._run(watch)

    def _due_of_deputy(self) -> Nanoseconds | None:
        """When the deputy is to look again; ``None`` where it is to take over now, and 0 where nobody needs one."""
        instant = self._clock.now()
        since = None if self._watch is None else self._watch.busy_since
        if since is not None:
            return None if instant >= since + PATIENCE else since + PATIENCE
        idle_until = self._last_lasting + LINGER
        if instant >= idle_until:
            return 0
        return min(idle_until, max(instant, self._heap[0][0]) + PATIENCE) if self._heap else idle_until


_timers = Timers()


def call_at(due: Nanoseconds, callback: Wake, *, slack: Nanoseconds = 0, lasting: bool = False) -> Timer:
    """As :meth:`Timers.call_at`, on the timers of this process."""
    return _timers.call_at(due, callback, slack=slack, lasting=lasting)


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
