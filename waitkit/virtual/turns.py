"""Turns: which of the threads that take part may run. One at a time, in the order in which they became ready."""

from __future__ import annotations

import itertools
import threading
from _thread import allocate_lock
from collections import deque

from waitkit.engine.clock import Place
from waitkit.ground.durations import Nanoseconds

__all__ = ["Crew", "Seat", "Turns"]


class Crew:
    """The threads of an executor: so many pieces of its work can be in progress at a time."""

    __slots__ = ("busy", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.busy = 0


class Seat:
    """One thread that is parked, ready, or about to take part. It may run when its baton is released."""

    __slots__ = ("_baton", "crew", "due", "error", "last", "place", "thread", "until_parked", "withdrawn")

    def __init__(self, thread: int, place: Place | None = None, due: Nanoseconds | None = None) -> None:
        self.thread = thread
        #: where it is parked; ``None``: it is not, and never was
        self.place = place
        self.due = due
        #: of those that are due at the same instant it comes after all others
        self.last = False
        #: what it finds when it goes on
        self.error: BaseException | None = None
        #: for work of an executor, which is ready only when one of its threads is free
        self.crew: Crew | None = None
        #: it waits for so many others to be parked
        self.until_parked: int | None = None
        #: nobody will take it: its work was cancelled, its thread could not be started
        self.withdrawn = False
        self._baton = allocate_lock()
        self._baton.acquire()

    def take_turn(self) -> None:
        """Block until it is this thread's turn."""
        self._baton.acquire()

    def give_turn(self) -> None:
        """Let it run."""
        self._baton.release()


class Turns:
    """Who takes part, who runs, who is ready; what happens when nobody is, a subclass says.

    ``_lock`` guards all that follows, and what a subclass adds. It is re-entrant, because a signal handler may wake somebody;
    it is a leaf but for the lock of the place that a thread rests at, which is taken before it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._running: set[int] = set()
        self._ready: deque[Seat] = deque()
        self._members: set[int] = set()
        self._sequence = itertools.count()
        #: the threads in a block in which time stands still, each as often as it is in one
        self._holders: list[int] = []
        self._closed = False
        #: counts everything that happens; where it stands still, nothing does
        self.progress = 0

    def _let_time_pass(self) -> bool:
        """Nobody runs and nobody is ready. True where somebody is now."""
        raise NotImplementedError

    def _leave_turn(self, thread: int) -> None:
        self._running.discard(thread)
        self._go_on()

    def _go_on(self) -> None:
        """Where nobody runs, let the next one; where nobody is ready, let time pass."""
        self.progress += 1
        self._let_run()

    def _let_run(self) -> None:
        while not self._running and not self._closed:
            seat = self._next()
            if seat is not None:
                self._run(seat)
            elif not self._let_time_pass():
                return

    def look_again(self) -> None:
        """As when somebody has come to rest, though nobody has: whether time may pass can hang on others."""
        with self._lock:
            nobody_ran = not self._running
            self._let_run()
            if nobody_ran and self._running:
                self.progress += 1

    def _next(self) -> Seat | None:
        for seat in self._ready:
            if seat.crew is None or seat.crew.busy < seat.crew.size:
                self._ready.remove(seat)
                return seat
        return None

    def _run(self, seat: Seat) -> None:
        if seat.crew is not None:
            seat.crew.busy += 1
        self._running.add(seat.thread)
        seat.give_turn()

    def let_another_run(self) -> None:
        """Give a turn beside those that run but make no progress: one of them may need what a ready one holds."""
        with self._lock:
            seat = self._next()
            if seat is not None:
                self.progress += 1
                self._run(seat)

    def is_member(self) -> bool:
        """Whether the calling thread takes part, and is not in a block in which time stands still."""
        here = threading.get_ident()
        return here in self._members and here not in self._holders

    def takes_part(self, thread: int) -> bool:
        """Whether another thread takes part, wherever it is."""
        return thread in self._members

    def enter(self) -> None:
        """The calling thread takes part, and runs."""
        with self._lock:
            self._members.add(threading.get_ident())
            self._running.add(threading.get_ident())

    def take_in(self, thread: int) -> None:
        """A thread that was there before takes part, and runs: it was given something to do."""
        with self._lock:
            self._members.add(thread)
            self._running.add(thread)

    def expect(self, crew: Crew | None = None, *, first: bool = False) -> Seat:
        """Something will run that takes part: it has its place in the queue from now on, the *first* or the last."""
        with self._lock:
            seat = Seat(-next(self._sequence) - 1)  # no thread yet
            seat.crew = crew
            (self._ready.appendleft if first else self._ready.append)(seat)
            return seat

    def begin(self, seat: Seat) -> bool:
        """The calling thread is what was expected. Returns when it may run; False where it is expected no longer."""
        here = threading.get_ident()
        with self._lock:
            if seat.withdrawn:
                return False
            self._members.add(here)
            if seat.thread in self._running:  # its turn came before it did
                self._running.discard(seat.thread)
                self._running.add(here)
            seat.thread = here
        seat.take_turn()
        return True

    def withdraw(self, seat: Seat) -> None:
        """What was expected does not come. Where it has come already, nothing happens."""
        with self._lock:
            if seat.withdrawn or seat.thread >= 0:
                return
            seat.withdrawn = True
            if seat in self._ready:
                self._ready.remove(seat)
            elif seat.thread in self._running:
                if seat.crew is not None:
                    seat.crew.busy -= 1
                self._leave_turn(seat.thread)

    def end(self, seat: Seat) -> None:
        """The calling thread no longer takes part."""
        with self._lock:
            if seat.crew is not None:
                seat.crew.busy -= 1
            self._members.discard(threading.get_ident())
            self._leave_turn(threading.get_ident())

    def drop(self, thread: int) -> None:
        """A thread that took part without having been started inside is no more."""
        with self._lock:
            self._members.discard(thread)
            self._leave_turn(thread)

    def hold(self) -> None:
        """The calling thread runs, but is not waited for, and time stands still until :meth:`release`."""
        with self._lock:
            self._holders.append(threading.get_ident())
            self._leave_turn(threading.get_ident())

    def release(self) -> None:
        """End a :meth:`hold`. Returns when it is this thread's turn."""
        seat = Seat(threading.get_ident())
        with self._lock:
            if seat.thread in self._holders:  # not so in a forked child, which began anew
                self._holders.remove(seat.thread)
            if self._closed:
                return  # it goes on without us
            self._ready.append(seat)
            self._go_on()
        self._take_turn(seat)

    def _take_turn(self, seat: Seat) -> None:
        """Block until it is the turn of *seat*, which was parked or is ready. Raises the error that its rest ended with."""
        try:
            seat.take_turn()
        except BaseException:  # Ctrl-C
            self._interrupted(seat)
            raise
        if seat.error is not None:
            raise seat.error

    def _interrupted(self, seat: Seat) -> None:
        """The thread of *seat* runs, though it was not its turn."""
        with self._lock:
            if seat in self._ready:
                self._ready.remove(seat)
            self._running.add(seat.thread)

    def running(self) -> list[int]:
        """The threads whose turn it is."""
        with self._lock:
            return [thread for thread in self._running if thread > 0]

    @property
    def somebody_runs(self) -> bool:
        """Whether it is anybody's turn, be it one that has not come yet."""
        return bool(self._running)

    @property
    def expecting(self) -> bool:
        """Whether it is the turn of one that has not come yet."""
        return any(thread < 0 for thread in self._running)

    @property
    def stalled(self) -> bool:
        """Whether somebody is ready while another runs."""
        return bool(self._ready) and bool(self._running)
