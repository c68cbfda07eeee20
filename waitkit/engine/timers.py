"""Timers: callbacks at instants of the clock, from one agenda, and one thread at a time that watches it."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from typing import Final

from waitkit.engine import forks
from waitkit.engine.agenda import Agenda
from waitkit.engine.background import LINGER, CannotStart, run_shown, show_error, start_thread
from waitkit.engine.clock import SystemClock, current_clock
from waitkit.engine.forks import on_fork_in_child, reset_in_child
from waitkit.engine.locks import ForkSafeLock
from waitkit.engine.parking import Parker
from waitkit.engine.signals import Wake
from waitkit.engine.workers import run_in_worker
from waitkit.ground.durations import MILLISECOND, Nanoseconds

__all__ = ["Timer", "Timers", "call_at", "current", "current_timers", "use_timers"]

#: So long a lasting callback may hold up the others; then somebody else goes on with them.
PATIENCE: Final = 5 * MILLISECOND

#: So long after the next callback is due the deputy looks whether it holds up others; more often would cost more than it is for.
_REST_OF_DEPUTY: Final = 4 * PATIENCE
#: So many threads may be out in callbacks that have held up the others; what may last is left to the workers then.
MOST_OUT: Final = 4

#: So many lasting callbacks that are due are taken from the agenda at once: others wait for all of them as for one.
_MOST_READY: Final = 16


class Timer:
    """An entry of the agenda. :meth:`cancel` marks it; it is dropped when it comes up, or when half of the agenda is dead."""

    __slots__ = ("_callback", "_owner", "due", "lasting", "latest", "live")

    def __init__(self, owner: Timers, due: Nanoseconds, latest: Nanoseconds, callback: Wake, lasting: bool) -> None:
        self._owner = owner
        self.due = due
        #: nobody waits longer than that for others to come due, so that one wake-up serves them all
        self.latest = latest
        #: whether the callback may take its time
        self.lasting = lasting
        self._callback: Wake | None = callback
        #: not cancelled
        self.live = True

    def cancel(self) -> None:
        """Do not call back. After the call back, or again, it does nothing."""
        if self._callback is not None:
            self._callback = None
            self.live = False
            self._owner._note_cancelled()

    def fire(self) -> None:
        """Call back, unless cancelled."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class _Watch:
    """The office of the thread that watches the agenda: it has it until it ends, or a deputy has taken over.

    Attributes:
        parker: where it rests.
        busy_since: the instant at which it began a lasting callback, while it is in one.
    """

    __slots__ = ("busy_since", "parker")

    def __init__(self, parker: Parker) -> None:
        self.parker = parker
        self.busy_since: Nanoseconds | None = None


class Timers:
    """An agenda of timers: they fire in the order of their time, and of their coming where times are equal.

    Callbacks are called in the thread ``waitkit-timers``, which is started by the first entry and ends when it has been idle for
    a while. Most are short. One that may take its time (*lasting*: a run of a poller that was short the last time) is called
    there, too, as to hand it to another thread costs more than it does; meanwhile a deputy stands by. Its rest ends soon after
    the next entry is due; if that has been held up by then, it takes over the watch, and the thread that comes back from its
    callback finds that it has lost it, and ends. So nobody is woken for a callback that is short, and one that is not
    holds up the others for some milliseconds, once.

    ``_lock`` guards the agenda, ``_watch``, and what is known of the deputy. Callbacks are called
    outside of it. In virtual time entries fire at their very instants, and what may last is left to the workers.
    """

    def __init__(self) -> None:
        self._clock = current_clock()
        self._exact = not isinstance(self._clock, SystemClock)
        self._lock = ForkSafeLock()
        reset_in_child(self, Timers.forget)
        self.forget()

    def forget(self) -> None:
        """Begin anew, as in a forked child: the threads, and what is due, are the parent's."""
        self._agenda: Agenda[Timer] = Agenda()
        self._watch: _Watch | None = None
        self._ready: deque[Timer] = deque()
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
            self._agenda.add(timer)
            # A thread in a callback looks at the agenda when it comes back.
            wake = watch.busy_since is None and self._agenda.first() is timer
        if wake:
            watch.parker.unpark()
        return timer

    def _nobody_watches(self) -> None:
        self._watch = None

    def _note_cancelled(self) -> None:
        with self._lock:
            self._agenda.note_dead()

    # The watch.

    def _run(self, watch: _Watch) -> None:
        generation = forks.current
        idle_until: Nanoseconds | None = None
        while self._watch is watch and forks.current == generation:  # a callback that lasts may have forked
            timer: Timer | None
            until: Nanoseconds | None
            if self._ready:
                timer, until = self._ready.popleft(), None
            else:
                watch.busy_since = None
                timer, until = self._next(watch)
            if timer is not None:
                if timer.lasting and watch.busy_since is None:
                    self._hand_over(timer)
                else:  # as run_shown(timer.fire), but without these two, as thousands of pollers come this way
                    callback, timer._callback = timer._callback, None
                    try:
                        if callback is not None:
                            callback()
                    except BaseException:  # noqa: BLE001 - it is shown
                        show_error()
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
        """The timer that is due, or when to look again; neither where there is none."""
        with self._lock:
            instant = self._clock.now()
            timer = self._agenda.take(instant)
            if timer is None:
                return None, self._when_to_look()
            if not timer.lasting or self._exact or self._out >= MOST_OUT:
                return timer, None
            if self._deputy is None and not self._appoint_deputy(instant):
                return timer, None
            self._last_lasting = watch.busy_since = instant
            while len(self._ready) < _MOST_READY and (another := self._agenda.take(instant)) is not None:
                self._ready.append(another)
            called = self._deputy if self._deputy_due > instant + 2 * _REST_OF_DEPUTY else None
        if called is not None:
            called.unpark()
        return timer, None

    def _when_to_look(self) -> Nanoseconds | None:
        first = self._agenda.first()
        if first is None:
            return None
        # Waiting for others is worth while only where there are some.
        others = any(timer.due <= first.latest for timer in self._agenda.some_after_first())
        return first.latest if others else first.due

    def _ended(self, idle_until: Nanoseconds) -> bool:
        with self._lock:
            if len(self._agenda) or self._clock.now() < idle_until:
                return False
            self._watch = None
            return True

    # What lasts.

    def _appoint_deputy(self, instant: Nanoseconds) -> bool:
        """Have a deputy stand by. False where there is none to be had. The lock is held."""
        self._deputy = Parker(clock=self._clock)
        self._deputy_due = instant + PATIENCE
        try:
            start_thread("deputy", partial(self._stand_by, self._deputy), otherwise=self._no_deputy)
        except CannotStart:
            return False
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
        first = self._agenda.first()
        return idle_until if first is None else min(idle_until, max(instant, first.latest) + _REST_OF_DEPUTY)


#: As :func:`current_timers`, for what is on the way of each run of a poller: read it as ``timers.current``.
current = Timers()


def call_at(due: Nanoseconds, callback: Wake, *, slack: Nanoseconds = 0, lasting: bool = False) -> Timer:
    """As :meth:`Timers.call_at`, on the timers of this process."""
    return current.call_at(due, callback, slack=slack, lasting=lasting)


def current_timers() -> Timers:
    """The timers of this process, for who stays with them whatever is used later."""
    return current


def use_timers(timers: Timers) -> Timers:
    """Make *timers* those of this process. Returns the ones used until now."""
    global current
    previous, current = current, timers
    return previous


@on_fork_in_child
def _reset() -> None:
    global current
    current = Timers()
