"""What stands in the place of the sleeping functions while a guard is installed, and how it gets there and away again."""

from __future__ import annotations

import asyncio
import asyncio.tasks
import inspect
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Final

from waitkit.engine.clock import SystemClock, current_clock
from waitkit.guard.ledger import Kind, Ledger
from waitkit.guard.sites import note_start, place_of

__all__ = ["Patches"]

_NAME: Final = "sleep"
_EVENT_WAIT: Final = threading.Event.wait.__code__


class _Sleep:
    """``time.sleep``, timed. Like the function in C, and unlike one in Python, it is no method where a class has it."""

    def __init__(self, real: Callable[[float], None], ledger: Ledger) -> None:
        self._real = real
        self._ledger = ledger
        # Kept here, where libraries that freeze time by exchanging the functions of modules do not look.
        self._clock = time.perf_counter_ns
        self.__name__ = self.__qualname__ = _NAME
        self.__module__ = "time"
        self.__doc__ = real.__doc__

    def __call__(self, seconds: float, /) -> None:
        start = self._clock()
        try:
            self._real(seconds)
        finally:
            # sleep(0) lets others have a turn: it guesses at no time.
            if seconds and (place := place_of(sys._getframe(1))) is not None:
                self._ledger.add("time.sleep", place, start, self._clock())

    def __reduce__(self) -> str:
        return _NAME  # by its name, as all functions are pickled: another process finds the real one there

    def __repr__(self) -> str:
        return f"<{self._real!r}, timed by waitkit>"


def _timed_async(real: Callable[..., Coroutine[Any, Any, Any]], ledger: Ledger) -> Callable[..., Any]:
    """``asyncio.sleep``, timed. The caller is found when it is called: a task that runs it has none."""
    clock = time.perf_counter_ns

    def sleep(delay: float, result: object = None) -> Coroutine[Any, Any, Any]:
        frame = sys._getframe(1)
        return timed(delay, result, frame) if delay else real(delay, result)

    async def timed(delay: float, result: object, frame: FrameType | None) -> object:
        place = place_of(frame)
        frame = None  # its variables must not live as long as the sleep
        start = clock()
        in_real_time = isinstance(current_clock(), SystemClock)
        try:
            return await real(delay, result)
        finally:
            if place is not None and in_real_time:
                ledger.add("asyncio.sleep", place, start, clock())

    sleep.__module__, sleep.__qualname__, sleep.__doc__ = "asyncio.tasks", _NAME, real.__doc__
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(sleep)
    sleep._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return sleep


def _timed_wait(real: Callable[..., bool], ledger: Ledger) -> Callable[..., bool]:
    """``Condition.wait``, on which the other waits of ``threading`` and ``queue`` stand: timed where nobody notified it."""
    clock = time.perf_counter_ns

    def wait(self: threading.Condition, timeout: float | None = None) -> bool:
        if timeout is None:
            return real(self)
        start = clock()
        notified = real(self, timeout)
        if not notified and timeout > 0:
            caller = sys._getframe(1)
            kind: Kind = "Event.wait" if caller.f_code is _EVENT_WAIT else "Condition.wait"
            place = place_of(caller)
            if place is not None:
                ledger.add(kind, place, start, clock())
        return notified

    wait.__module__, wait.__qualname__, wait.__doc__ = real.__module__, real.__qualname__, real.__doc__
    return wait


def _noting_start(real: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """``Thread.start``, which notes who started the thread."""

    def start(self: threading.Thread) -> None:
        note_start(self, sys._getframe(1))
        real(self)

    start.__module__, start.__qualname__, start.__doc__ = real.__module__, real.__qualname__, real.__doc__
    return start


class Patches:
    """Puts the timed functions where the real ones are, and the real ones back.

    A module that took the function by its name (``from time import sleep``) has the timed one while this is installed,
    whether it was imported before or during that time. What holds it otherwise (a default argument, a ``partial``, a
    class's attribute) and took it before goes on with the real one, unseen.

    Args:
        ledger: where sleeps are taken down.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._pairs: list[tuple[object, object]] = []  # real, timed
        self._methods: list[tuple[type, str, Callable[..., Any]]] = []  # of which class, its name, the real one

    def install(self) -> None:
        """Exchange the functions."""
        real_sleep, real_async = vars(time)[_NAME], vars(asyncio)[_NAME]
        self._pairs = [
            (real_sleep, _Sleep(real_sleep, self._ledger)),
            (real_async, _timed_async(real_async, self._ledger)),
        ]
        for real, timed in self._pairs:
            _exchange(real, timed)
        self._put(threading.Condition, "wait", lambda real: _timed_wait(real, self._ledger))
        self._put(threading.Thread, "start", _noting_start)

    def _put(self, owner: type, name: str, make: Callable[[Any], Callable[..., Any]]) -> None:
        real = getattr(owner, name)
        self._methods.append((owner, name, real))
        setattr(owner, name, make(real))

    def remove(self) -> None:
        """Put back what was there."""
        for real, timed in self._pairs:
            _exchange(timed, real)
        self._pairs = []
        for owner, name, real in self._methods:
            setattr(owner, name, real)
        self._methods = []


def _exchange(old: object, new: object) -> None:
    """Put *new* wherever a module has *old* under some name."""
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if type(names) is dict and not str(names.get("__name__", "")).startswith("waitkit.guard"):
            for name in [name for name, value in list(names.items()) if value is old]:
                names[name] = new
