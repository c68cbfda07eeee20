"""Threads that do not take part: who of them was woken from inside and has not come to rest again, and who may act at all.

They rest in real time, where the clock cannot count them: threads that wait since before the block, and those that were started
where time stands still. What the clock can do is look where they are, and it has to know three things:

- *Awake* is who was woken by a thread that takes part, or by one that is awake. He counts as running from the wake-up on, until
  he is found in another rest than the one he was woken from. A rest is a wait of waitkit or a ``threading.Condition.wait``
  whose lock nobody has released; each is one call, so it is known by its frame.
- *Unsettled* is who is found somewhere else, and has not been seen to sleep there: he may be running. Nobody is waited for
  longer than the grace for that, as he may have nothing to do with it.
- *May act* says, before a deadlock is told, whether one of them could end it: who polls, or has moved since.
"""

from __future__ import annotations

import concurrent.futures.thread as executors
import selectors
import threading
from collections.abc import Collection, Iterator
from types import FrameType
from typing import Any, Final, NamedTuple

from waitkit.engine.background import REAL
from waitkit.engine.clock import Place, SystemClock
from waitkit.engine.descriptor_place import DescriptorPlace
from waitkit.engine.frames import Spot, current_frames, spot_of
from waitkit.ground.durations import MILLISECOND, SECOND, Nanoseconds
from waitkit.virtual.real import busy, real_now

__all__ = ["Outsiders"]

#: So long a thread must not have moved, nor computed, to be taken for one that sleeps.
_A_LOOK: Final = MILLISECOND
#: So long one that blocks somewhere unknown is given to move before a deadlock is told. Most that block so have nothing to do
#: with it (pytest-xdist has one that reads a pipe), but it may be a loop around ``time.sleep``.
_PATIENCE: Final = SECOND // 2

_REST: Final = SystemClock.rest.__code__
_REST_AT_DESCRIPTORS: Final = DescriptorPlace.rest.__code__
_IDLE: Final = executors._worker.__code__
_COUNTS_IN_MS: Final = getattr(selectors, "PollSelector", None)


class _Rest(NamedTuple):
    """One call in which a thread rests."""

    frame: FrameType
    #: the parking place, where it is one of waitkit
    place: Place | None
    #: the lock that its wake-up releases
    lock: Any
    #: how long at most; ``None``: until it is woken
    limit: Nanoseconds | None


class _Mark(NamedTuple):
    """Where a thread was found that rests nowhere we know."""

    where: Spot
    busy: Nanoseconds
    since: Nanoseconds
    asleep: bool


class Outsiders:
    """Those of this process, for one virtual clock. Used under the clock's lock.

    Args:
        grace: so many real nanoseconds they are waited for where it is not known that they have to do with it.
    """

    def __init__(self, grace: Nanoseconds) -> None:
        self._grace = grace
        #: all that are known; who takes part meanwhile is passed over
        self.threads: set[int] = set()
        self._awake: dict[int, FrameType] = {}
        #: places of which a wake-up was left before anybody rested there
        self._tokens: set[Place] = set()
        self._marks: dict[int, _Mark] = {}
        self._passed_over: set[int] = set()
        self._held = (-1, 0)
        self._stuck = (-1, 0)
        self._marks_when_stuck: dict[int, _Mark] = {}

    def begin(self) -> None:
        """All threads that exist now, but the calling one and those which are about real things."""
        here = threading.get_ident()
        self.threads = {thread for thread in current_frames() if thread != here and not _is_real(thread)}

    def add(self, thread: int | None) -> None:
        """One more, which was started and does not take part."""
        if thread is not None and not _is_real(thread):
            self.threads.add(thread)

    def joined(self, thread: int) -> None:
        """It takes part from now on: what it does is counted otherwise."""
        self._awake.pop(thread, None)

    def forget(self) -> None:
        """In a forked child, which has none of them."""
        self.threads.clear()
        self._awake.clear()

    # Wake-ups.

    def wake_at(self, place: Place) -> None:
        """Who rests at *place* is about to be woken from inside; where nobody does, the next who comes."""
        if not self._wake({place}):
            self._tokens.add(place)

    def wake_for(self, locks: Collection[object]) -> None:
        """Those who wait for these locks in ``Condition.wait`` have been woken from inside; they cannot have come far."""
        self._wake(locks)

    def _wake(self, what: Collection[object]) -> bool:
        found = False
        for thread, frame in current_frames().items():
            rest = None if _is_real(thread) else _rest_of(frame, woken=True)
            if rest is not None and (rest.place in what or rest.lock in what):
                self._awake[thread] = rest.frame
                self.threads.add(thread)
                found = True
        return found

    def is_awake(self, thread: int) -> bool:
        """Whether it was woken from inside, and has not been seen to rest since."""
        return thread in self._awake

    def awake(self) -> list[int]:
        """Who was woken from inside, and does not rest yet."""
        if self._awake:
            frames = current_frames()
            for thread, woken_from in list(self._awake.items()):
                rest = _rest_of(frames.get(thread))
                if thread not in frames or (rest is not None and not self._goes_on(thread, rest, woken_from)):
                    self._awake.pop(thread, None)
        return list(self._awake)

    def _goes_on(self, thread: int, rest: _Rest, woken_from: FrameType | None) -> bool:
        """Whether *rest* is the one it was woken from, or one that ends at once by a wake-up which came before."""
        if rest.place in self._tokens and rest.place is not None:
            self._tokens.discard(rest.place)
            self._awake[thread] = rest.frame
            return True
        return rest.frame is woken_from

    def forget_awake(self) -> None:
        """They have been waited for long enough."""
        self._awake.clear()

    # All others.

    def hold_up(self, members: Collection[int], progress: int) -> bool:
        """Whether time must not pass now, because one of them runs or may be running.

        Args:
            members: who takes part.
            progress: what changes with everything that happens inside; where it stays, this is asked again.
        """
        if self.awake():
            return True
        unsettled = [thread for thread, frame in self._others(members) if self._is_unsettled(thread, frame)]
        if not unsettled:
            return bool(self._awake)
        if self._held[0] != progress:
            self._held = (progress, real_now())
        elif real_now() - self._held[1] > self._grace:
            self._passed_over.update(unsettled)
            return False
        return True

    def _others(self, members: Collection[int]) -> Iterator[tuple[int, FrameType]]:
        frames = current_frames()
        self.threads &= frames.keys()
        for thread in self.threads.difference(members, self._awake):
            yield thread, frames[thread]

    def _is_unsettled(self, thread: int, frame: FrameType) -> bool:
        if thread in self._passed_over:
            return False
        rest = _rest_of(frame)
        if rest is not None:
            return self._goes_on(thread, rest, None)
        seen = self._marks.get(thread)
        if seen is not None and seen.where == spot_of(frame):
            if seen.asleep:
                return False  # what has not moved since it slept still does
            if real_now() - seen.since < _A_LOOK:
                return True
            if 0 <= busy(thread) == seen.busy:
                self._marks[thread] = seen._replace(asleep=True)
                return False
        self._marks[thread] = _mark(thread, frame)
        return True

    def may_act(self, members: Collection[int], progress: int) -> bool:
        """Before a deadlock is told: whether one of them may yet end it. The arguments are those of :meth:`hold_up`."""
        if self._stuck[0] != progress:
            self._stuck, self._marks_when_stuck = (progress, real_now()), {}
        waited = real_now() - self._stuck[1]
        return waited <= self._grace and any(
            self._moves(thread, frame, waited) for thread, frame in list(self._others(members))
        )

    def _moves(self, thread: int, frame: FrameType, waited: Nanoseconds) -> bool:
        rest = _rest_of(frame)
        limit = _limit_of_select(frame) if rest is None else rest.limit
        if limit is not None:
            return limit <= self._grace
        if rest is not None:
            return False
        now = _mark(thread, frame)
        then = self._marks_when_stuck.setdefault(thread, now)
        return waited < _PATIENCE or (now.where, now.busy) != (then.where, then.busy)


def _is_real(thread: int) -> bool:
    return getattr(threading._active.get(thread), REAL, False)  # type: ignore[attr-defined]


def _mark(thread: int, frame: FrameType) -> _Mark:
    return _Mark(spot_of(frame), busy(thread), real_now(), asleep=False)


def _rest_of(frame: FrameType | None, *, woken: bool = False) -> _Rest | None:
    """The rest that a thread is in, by its innermost frame; ``None``: it rests nowhere we know, or is *woken* already."""
    if frame is None:
        return None
    code = frame.f_code
    if code is _REST:
        place, until = frame.f_locals["place"], frame.f_locals["until"]
        if place.idle:
            until = None
        limit = None if until is None else until - real_now()
        return _Rest(frame, place, place.token, limit) if woken or place.token.locked() else None
    if code is _REST_AT_DESCRIPTORS:
        until = frame.f_locals["until"]
        return _Rest(frame, None, None, None if until is None else until - real_now())
    # By its name: something else may stand in its place since before we were imported.
    if code.co_qualname == "Condition.wait" and frame.f_globals is vars(threading):
        waiter, timeout = frame.f_locals.get("waiter"), frame.f_locals["timeout"]
        limit = None if timeout is None else round(timeout * SECOND)
        # notify() takes it off the list; from then on it has been woken.
        return _Rest(frame, None, waiter, limit) if woken or waiter in frame.f_locals["self"]._waiters else None
    return _Rest(frame, None, None, None) if code is _IDLE else None


def _limit_of_select(frame: FrameType) -> Nanoseconds | None:
    """For how long a selector waits, where that is so and not for ever."""
    if frame.f_globals.get("__name__") == "selectors" and frame.f_code.co_name == "select":
        timeout = frame.f_locals.get("timeout")
        if timeout is not None and timeout >= 0:
            unit = MILLISECOND if type(frame.f_locals["self"]) is _COUNTS_IN_MS else SECOND
            return round(float(timeout) * unit)
    return None
