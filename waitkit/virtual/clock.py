"""The virtual clock: who takes part, who may run, and when time may pass.

The rules, each of which a test holds it to:

- Threads *take part*: the one that enters the block, all that are started inside (the parent counts its child before it
  runs), work given to a ``ThreadPoolExecutor``, and any other thread from its first wait on. One of them runs at a time; the
  others are parked in a wait, or ready, in a queue. So a test runs the same way each time.
- Whoever wakes a thread puts it into that queue *before* it can run: between a wake-up and the moment the woken thread runs,
  time cannot pass.
- Time passes only when nobody runs and nobody is ready: then it jumps to the earliest due time, and wakes that one entry;
  of equal times, the one that came first.
- Threads that do not take part are looked at before time passes: who was woken by one that does counts as running until he
  rests again, see :mod:`waitkit.virtual.outsiders`.
- Where a thread waits for something outside of the program (a process, a socket, a file), time does not jump: it passes as
  fast as real time, until the wait has ended.
"""

from __future__ import annotations

import heapq
import random
import threading
from collections.abc import Callable
from typing import Final

from waitkit.engine.clock import Place
from waitkit.ground.durations import SECOND, Nanoseconds
from waitkit.virtual.errors import VirtualClockError, VirtualDeadlock
from waitkit.virtual.outsiders import Outsiders
from waitkit.virtual.real import is_ours, real_now
from waitkit.virtual.turns import Seat, Turns

__all__ = ["VirtualClock", "VirtualClockError", "VirtualDeadlock"]


class VirtualClock(Turns):
    """A clock of which waitkit's waits see nothing but :class:`waitkit.engine.clock.Clock`; made by ``virtual_clock()``."""

    def __init__(self, *, auto: bool, real_things: bool, seed: int | None, grace: Nanoseconds = 5 * SECOND) -> None:
        super().__init__()
        self.outsiders: Final = Outsiders(grace)
        #: time does not pass because of them: somebody has to call :meth:`look_again`
        self.held_up = False
        #: called when that begins
        self.on_hold: Callable[[], object] = bool
        self._auto = auto
        self._real_things = real_things
        self.start: Final = random.Random(seed).randrange(10**6 * SECOND, 10**7 * SECOND)  # noqa: S311 - nothing secret
        self._now = self.start
        self._parked: dict[Place, Seat] = {}
        self._due: list[tuple[Nanoseconds, bool, int, Seat]] = []
        self._limits: list[Nanoseconds] = []
        self._real_since: Nanoseconds | None = None
        #: where each thread has rested last; of a wait that looks again and again it is the same place
        self._rested: dict[int, Place] = {}
        #: grows whenever a thread of the test comes to another wait than its last, which looks and runs of pollers do not
        self.course = 0
        #: called after each jump, with the new instant
        self.on_jump: Callable[[Nanoseconds], None] | None = None
        #: makes the error of a deadlock
        self.explain: Callable[[], str] = str

    # What waits see: the protocol of a clock.

    def now(self) -> Nanoseconds:
        since = self._real_since
        return self._now if since is None else self._now + real_now() - since

    def rest(self, place: Place, until: Nanoseconds | None) -> bool:
        seat = Seat(threading.get_ident(), place, None if place.idle else until)
        with self._lock:
            if self._closed:
                raise VirtualClockError("the virtual clock that this wait began on was left")
            self._members.add(seat.thread)
            self.outsiders.joined(seat.thread)
            self._note_course(seat.thread, place)
            self._park(seat)
            try:
                if not place.token.locked():  # a wake-up is there already
                    self._make_ready(seat)
                self._leave_turn(seat.thread)  # which asks those that are parked what they wait for
            except BaseException:
                self._interrupted(seat)
                raise
        self._take_turn(seat)
        return place.token.acquire(False)

    def _note_course(self, thread: int, place: Place) -> None:
        if self._rested.get(thread) is place and hasattr(place.purpose, "without_limit"):
            return  # another look. An event loop has one place for all of its tasks
        self._rested[thread] = place
        self.course += not is_ours(thread)

    def notify(self, place: Place) -> None:
        with self._lock:
            try:
                place.token.release()
            except RuntimeError:  # a wake-up is there already
                pass
            seat = self._parked.get(place)
            if seat is not None:
                self._make_ready(seat)
                self._go_on()

    def _park(self, seat: Seat) -> None:
        assert seat.place is not None
        self._parked[seat.place] = seat
        if seat.due is not None:
            heapq.heappush(self._due, (seat.due, seat.last, next(self._sequence), seat))

    def _make_ready(self, seat: Seat) -> None:
        self._pass_real_time()
        if seat.place is not None:
            self._parked.pop(seat.place, None)
            seat.place = None  # its entry among those that are due is dead
        self._ready.append(seat)

    def _interrupted(self, seat: Seat) -> None:
        with self._lock:
            if seat.place is not None:
                self._parked.pop(seat.place, None)
                seat.place = None
            super()._interrupted(seat)

    def _let_time_pass(self) -> bool:
        """Nobody runs and nobody is ready. True where somebody is now."""
        was_held_up, self.held_up = self.held_up, False
        passed = self._pass_time()
        if self.held_up and not was_held_up:
            self.on_hold()
        return passed

    def _pass_time(self) -> bool:
        self.held_up = bool(self.outsiders.threads) and self.outsiders.hold_up(self._members, self.progress)
        # Asked in any case: what raises does so in the thread that comes to rest.
        kind = "outside" if self._real_things else "real"
        outside = any(_is(place, kind) for place in self._parked)
        if self.held_up:
            return False
        for seat in list(self._parked.values()):
            if seat.until_parked is not None and self.parked_others(seat) >= seat.until_parked:
                self._make_ready(seat)
                return True
        if self._holders and not self._all_holders_rest:
            return False
        self._drop_dead_entries()
        if self.something_ends:
            return False
        if outside:
            if self._real_since is None:
                self._real_since = real_now()
            return False
        if self._holders:
            return False
        if not self._due:
            return self._fail_all()
        due, _, _, seat = self._due[0]
        if not self._auto and due > self._now and not any(limit >= due for limit in self._limits):
            return self._fail_all()
        heapq.heappop(self._due)
        self._now = max(self._now, due)
        self._make_ready(seat)
        if self.on_jump is not None:
            self.on_jump(self._now)
        return True

    def _drop_dead_entries(self) -> None:
        while self._due and self._due[0][-1].place is None:
            heapq.heappop(self._due)

    def _pass_real_time(self) -> None:
        """Something happens while real time passes: stop at this instant."""
        if self._real_since is not None:
            self._now, self._real_since = self.now(), None
            if self.on_jump is not None:
                self.on_jump(self._now)

    def real_delay(self) -> Nanoseconds | None:
        """While real time passes: how long until the earliest entry is due; else ``None``."""
        with self._lock:
            if self._real_since is None:
                return None
            self._drop_dead_entries()
            return max(0, self._due[0][0] - self.now()) if self._due else 3_600 * SECOND

    def fire_in_real_time(self) -> None:
        """Wake the earliest entry that has become due while real time passed."""
        with self._lock:
            if self._real_since is not None and self._due and self._due[0][0] <= self.now():
                seat = heapq.heappop(self._due)[-1]
                if seat.place is not None:
                    self._make_ready(seat)
                self._go_on()

    def _fail_all(self) -> bool:
        """All wait, and nothing is due: end the waits, except those of threads of waitkit's own that have nothing to do."""
        waiting = [seat for place, seat in self._parked.items() if not place.idle]
        self.held_up = bool(self.outsiders.threads) and self.outsiders.may_act(self._members, self.progress)
        if self.held_up or not waiting:
            return False
        self._fail(VirtualDeadlock, self.explain(), waiting)
        return True

    def _fail(self, kind: type[VirtualClockError], message: str, seats: list[Seat]) -> None:
        for seat in seats:
            seat.error = kind(message)
            self._make_ready(seat)

    def fail(self, message: str) -> None:
        """End all waits with an error; who has had the turn without ever coming has it no longer."""
        with self._lock:
            self._fail(VirtualClockError, message, list(self._parked.values()))
            self._running = {thread for thread in self._running if thread >= 0}
            self.outsiders.forget_awake()
            self._go_on()

    def fail_without_limit(self, message: str) -> bool:
        """End the waits that have no limit with an error. False where none of them is parked just now."""
        with self._lock:
            waiting = [
                seat for place, seat in self._parked.items() if _is(place, "without_limit") and not is_ours(seat.thread)
            ]
            self._fail(VirtualDeadlock, message, waiting)
            self._go_on()
            return bool(waiting)

    def rest_until(self, limit: Nanoseconds, purpose: str) -> None:
        """Let time pass up to this instant, where it does not by itself, and return when all that is due then has happened."""
        seat = Seat(threading.get_ident(), Place(purpose), limit)
        seat.last = True
        with self._lock:
            self.course += 1
            self._limits.append(limit)
            self._park(seat)
            self._leave_turn(seat.thread)
        try:
            self._take_turn(seat)
        finally:
            self._limits.remove(limit)

    def rest_until_parked(self, count: int) -> None:
        """Return when so many other threads are parked, and none runs."""
        seat = Seat(threading.get_ident(), Place(f"{count} threads to wait"))
        seat.until_parked = count
        with self._lock:
            self.course += 1
            self._park(seat)
            self._leave_turn(seat.thread)
        self._take_turn(seat)

    def parked_others(self, than: Seat | None = None) -> int:
        """How many threads wait, those of waitkit's own that have nothing to do not counted."""
        return sum(not place.idle for place, seat in self._parked.items() if seat is not than)

    def awake(self) -> list[int]:
        """Those that do not take part, but were woken from inside, and do not rest again yet."""
        with self._lock:
            return self.outsiders.awake()

    def others(self) -> list[int]:
        """The threads that do not take part."""
        with self._lock:
            return sorted(self.outsiders.threads - self._members)

    def started_outside(self, thread: int | None) -> None:
        """One that does not take part was started."""
        with self._lock:
            self.outsiders.add(thread)

    def woken_outside(self, place: Place) -> None:
        """Somebody who rests in real time is about to be woken."""
        with self._lock:
            if self._is_from_inside():
                self.outsiders.wake_at(place)

    def notified_outside(self, locks: list[object]) -> None:
        """Those who wait in real time for these locks of a ``threading.Condition`` have been woken."""
        with self._lock:
            if self._is_from_inside():
                self.outsiders.wake_for(locks)

    def _is_from_inside(self) -> bool:
        here = threading.get_ident()
        return here in self._members or self.outsiders.is_awake(here)

    def parked(self) -> list[tuple[int, Place]]:
        """The threads that wait, and where."""
        with self._lock:
            return [(seat.thread, place) for place, seat in self._parked.items()]

    @property
    def stands_still(self) -> bool:
        """Whether all who are in a block in which time stands still wait themselves, so that nobody will end it."""
        return bool(self._holders) and self._all_holders_rest

    @property
    def _all_holders_rest(self) -> bool:
        return {seat.thread for seat in self._parked.values()}.issuperset(self._holders)

    @property
    def something_ends(self) -> bool:
        """Whether somebody waits for what is about to happen without him, and needs no time."""
        return any(_is(place, "ends_by_itself") for place in self._parked)

    @property
    def waited_for(self) -> bool:
        """Whether anybody waits, or is ready, for whom those that run stand in the way."""
        return bool(self._ready) or self.parked_others() > 0

    def close(self) -> list[int]:
        """The end: every wait ends with an error. Returns the threads that still wait."""
        with self._lock:
            left = [
                seat.thread
                for place, seat in self._parked.items()
                if not is_ours(seat.thread) and not _is(place, "outlives")
            ]
            self._fail(
                VirtualClockError, "the virtual clock that this wait began on was left", list(self._parked.values())
            )
            self._closed = True
            self._pass_real_time()
            for seat in list(self._ready):
                self._run(seat)
            self._ready.clear()
            return left

    def forget_others(self) -> None:
        """A forked child: of all threads only the caller exists."""
        self._lock = threading.RLock()
        self.outsiders.forget()
        here = threading.get_ident()
        self._members, self._running, self._holders = {here}, {here}, []
        self._parked, self._due = {}, []
        self._ready.clear()


def _is(place: Place, what: str) -> bool:
    """What a thread waits for says of itself.

    That it is ``outside`` of the program, that it takes ``real`` time whatever was asked for, that it ``ends_by_itself`` at last,
    that it ``outlives`` the block, that it is a wait ``without_limit``.
    """
    return bool(getattr(place.purpose, what, False))
