"""The clocks of the standard library, moved along with the virtual one by libraries that are made for that."""

from __future__ import annotations

import datetime as dt
import operator
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, Protocol, SupportsIndex

from waitkit.engine.clock import now
from waitkit.engine.parking import Parker
from waitkit.ground.durations import SECOND, Nanoseconds
from waitkit.virtual.clock import VirtualClock

__all__ = ["OuterTime", "outer_time"]


class OuterTime(Protocol):
    """What moves along with the virtual clock."""

    def begin(self) -> None: ...
    def end(self) -> None: ...


def outer_time(drive: str | None, clock: VirtualClock) -> OuterTime:
    """What ``drive=`` names.

    Raises:
        ValueError: *drive* is none of what there is.
        ModuleNotFoundError: it is not installed.
    """
    if drive is None:
        return _Untouched()
    if drive == "time-machine":
        return _Driven(_TimeMachine(import_module("time_machine")), clock)
    if drive == "freezegun":
        return _Driven(_Freezegun(import_module("freezegun")), clock)
    raise ValueError(f"drive={drive!r} is neither 'time-machine' nor 'freezegun'; None leaves the clocks alone")


class _Untouched:
    def begin(self) -> None:
        pass

    def end(self) -> None:
        pass


class _Library(Protocol):
    def start(self, at: float) -> None: ...
    def shift(self, seconds: float) -> None: ...
    def stop(self) -> None: ...


class _TimeMachine:
    def __init__(self, module: Any) -> None:
        self._module = module

    def start(self, at: float) -> None:
        # A number, not a datetime that knows its zone: with that one travels into the zone as well.
        self._travel = self._module.travel(at, tick=False)
        self._traveller = self._travel.start()

    def shift(self, seconds: float) -> None:
        self._traveller.shift(seconds)

    def stop(self) -> None:
        self._travel.stop()


class _Freezegun:
    def __init__(self, module: Any) -> None:
        self._module = module
        self._api: Any = import_module("freezegun.api")

    def start(self, at: float) -> None:
        api = self._api
        # Freezegun shows real time to modules that are to be ignored, and to whatever they call, five calls deep: to the
        # functions that waitkit calls, and to those that a thread begins with. It shall be those modules themselves, no more.
        # What pytest measures of its tests is real time, too.
        self._depth, api.call_stack_inspection_limit = api.call_stack_inspection_limit, 1
        # Its naive times are in UTC, and with an offset those with a zone are off by that.
        self._now = vars(api.FakeDatetime)["now"]
        api.FakeDatetime.now = classmethod(partial(_now_in_zone, self._now.__func__))
        offset = dt.datetime.fromtimestamp(at).astimezone().utcoffset()
        self._freezer = self._module.freeze_time(
            dt.datetime.fromtimestamp(at, dt.UTC), tz_offset=offset, ignore=["waitkit", "_pytest"]
        )
        self._frozen = self._freezer.start()

    def shift(self, seconds: float) -> None:
        self._frozen.tick(dt.timedelta(seconds=seconds))

    def stop(self) -> None:
        self._freezer.stop()
        self._api.FakeDatetime.now = self._now
        self._api.call_stack_inspection_limit = self._depth


def _now_in_zone(now: Callable[..., Any], kind: Any, tz: dt.tzinfo | None = None) -> Any:
    return now(kind, tz) if tz is None else now(kind, tz) - kind._tz_offset()


class _Driven:
    def __init__(self, library: _Library, clock: VirtualClock) -> None:
        self._library = library
        self._clock = clock
        self._shown: Nanoseconds = 0
        self._sleep = time.sleep
        self._begun = False

    def begin(self) -> None:
        self._shown = self._clock.now()
        self._sleep = time.sleep
        self._library.start(time.time())
        self._begun = True
        self._clock.on_jump = self._follow
        time.sleep = self._sleep_virtually  # type: ignore[assignment]

    def _follow(self, instant: Nanoseconds) -> None:
        passed, self._shown = instant - self._shown, instant
        self._library.shift(passed / SECOND)

    def _sleep_virtually(self, seconds: float) -> None:
        if not self._clock.is_member():
            return self._sleep(seconds)
        due = now() + _length(seconds)
        parker = Parker(f"time.sleep({seconds!r})")
        while now() < due:
            parker.park(due)
        return None

    def end(self) -> None:
        time.sleep = self._sleep
        self._clock.on_jump = None
        if self._begun:
            self._begun = False
            self._library.stop()


def _length(seconds: float | SupportsIndex) -> Nanoseconds:
    """What ``time.sleep`` takes, no more and no less, in nanoseconds.

    Raises:
        TypeError, ValueError, OverflowError: as that does.
    """
    value = seconds if isinstance(seconds, float) else operator.index(seconds)
    if value < 0:
        raise ValueError("sleep length must be non-negative")
    return round(value * SECOND)  # of a NaN a ValueError, of what is infinite an OverflowError
