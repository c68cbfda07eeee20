"""Event loops on virtual time: a loop that has nothing to do waits on the clock, and its own timers are those of the clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from waitkit.engine.descriptors import watch_descriptor
from waitkit.engine.parking import Parker
from waitkit.ground.durations import SECOND
from waitkit.virtual.clock import VirtualClock
from waitkit.waits.drivers import awaited_in_loops

__all__ = ["Loops"]


class Loops:
    """Puts virtual time into each event loop at its next step, and takes it out again.

    It concerns the selector loops of asyncio (the default on Unix): their ``select()`` becomes a wait on the clock, ``time()``
    the time of the clock, and the byte by which other threads wake them a wake-up that the clock knows of.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._adopted: dict[Any, Any] = {}
        self._original: Callable[[Any], None] | None = None
        self._waits_before: set[Any] = set()

    def install(self) -> None:
        """Begin. Where asyncio is not imported yet, nobody has a loop; it is imported, as one may be made inside."""
        from asyncio import get_running_loop
        from asyncio.base_events import BaseEventLoop

        original = self._original = BaseEventLoop._run_once  # type: ignore[attr-defined]

        def run_once(loop: Any) -> None:
            if loop not in self._adopted and hasattr(loop, "_selector") and self._clock.is_member():
                self._adopt(loop)
            original(loop)

        BaseEventLoop._run_once = run_once  # type: ignore[attr-defined]
        try:
            running = get_running_loop()
        except RuntimeError:
            return
        self._adopt(running)  # now, as its next step comes after what is scheduled until then

    def _adopt(self, loop: Any) -> None:
        clock = self._clock
        base, start = loop.time(), clock.now()
        selector = _Selector(clock, loop)
        write = loop._write_to_self

        def write_to_self() -> None:
            write()
            selector.parker.unpark()

        self._waits_before |= set(awaited_in_loops(loop))
        self._adopted[loop] = loop._selector
        loop._selector = selector
        loop._write_to_self = write_to_self
        loop.time = lambda: base + (clock.now() - start) / SECOND

    def remove(self) -> None:
        """End: loops that go on go on in real time. It may be called again, where Ctrl-C cut it off."""
        from asyncio.base_events import BaseEventLoop

        if self._original is not None:
            BaseEventLoop._run_once = self._original  # type: ignore[attr-defined]
        for loop, selector in list(self._adopted.items()):
            if "time" in vars(loop):
                virtual = loop.time()
                del loop.time
                ahead = virtual - loop.time()
                for timer in loop._scheduled:  # each has as long to go as before
                    timer._when -= ahead
            vars(loop).pop("_write_to_self", None)
            loop._selector = selector
            del self._adopted[loop]

    def left(self) -> list[str]:
        """What tasks wait for that began to wait inside: their deadlines will not come."""
        return [
            f"  a task: {wait.describe()}"
            for loop in self._adopted
            for wait in awaited_in_loops(loop)
            if wait not in self._waits_before
        ]


class _Selector:
    """A selector whose ``select()`` is a wait on the clock."""

    def __init__(self, clock: VirtualClock, loop: Any) -> None:
        self._clock = clock
        self._loop = loop
        self._inner = loop._selector
        self.parker = Parker(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    # What the clock asks of whatever a thread waits for.

    @property
    def outside(self) -> bool:
        """Whether the loop waits for sockets, or one of its tasks for something outside."""
        more_than_its_own_pipe = len(self._inner.get_map()) > 1
        return more_than_its_own_pipe or any(wait.outside for wait in awaited_in_loops(self._loop))

    def describe(self) -> str:
        """What the tasks of the loop wait for."""
        waits = [wait.describe() for wait in awaited_in_loops(self._loop)]
        return f"an event loop: {'; '.join(waits) or 'its next task'}"

    def select(self, timeout: float | None = None) -> Any:
        """What is ready; where nothing is, the clock decides how long that takes."""
        ready = self._inner.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        due = None if timeout is None else self._clock.now() + round(timeout * SECOND)
        subscription = None
        if len(self._inner.get_map()) > 1 or getattr(self._loop, "_signal_handlers", None):
            subscription = watch_descriptor(self._inner.fileno(), self.parker.unpark)
        try:
            self.parker.park(due)
        finally:
            if subscription is not None:
                subscription.close()
        return self._inner.select(0)
