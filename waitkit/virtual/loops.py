"""Event loops on virtual time: a loop that has nothing to do waits on the clock, and its own timers are those of the clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from waitkit.engine.descriptors import watch_descriptor
from waitkit.engine.parking import Parker
from waitkit.ground.durations import SECOND
from waitkit.virtual.clock import VirtualClock
from waitkit.virtual.errors import VirtualClockError
from waitkit.virtual.telling import describe_task
from waitkit.waits.drivers import awaited_in_loops

__all__ = ["Loops"]


#: Seconds, seven weeks: up to here a float tells a nanosecond.
_MOST_EXACT: Final = 2**22


class Loops:
    """Puts virtual time into each event loop at its next step, and takes it out again.

    It concerns the selector loops of asyncio (the default on Unix): their ``select()`` becomes a wait on the clock, ``time()``
    the time of the clock, and the byte by which other threads wake them a wake-up that the clock knows of.

    A loop of a thread that was there before takes part once it is given something to do from inside. It goes on after the block.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._adopted: dict[Any, Any] = {}
        self._originals: dict[str, Any] = {}
        self._waits_before: set[Any] = set()

    def install(self) -> None:
        """Begin. Where asyncio is not imported yet, nobody has a loop; it is imported, as one may be made inside."""
        from asyncio import get_running_loop
        from asyncio.base_events import BaseEventLoop

        originals = self._originals
        originals["_run_once"] = run = BaseEventLoop._run_once  # type: ignore[attr-defined]
        originals["call_soon_threadsafe"] = call = BaseEventLoop.call_soon_threadsafe

        def run_once(loop: Any) -> None:
            if loop not in self._adopted and hasattr(loop, "_selector") and self._clock.is_member():
                self._adopt(loop)
            run(loop)

        def call_soon_threadsafe(loop: Any, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if loop not in self._adopted and hasattr(loop, "_selector") and self._clock.is_member():
                self._adopt_from_outside(loop)
            return call(loop, callback, *args, **kwargs)

        BaseEventLoop._run_once = run_once  # type: ignore[attr-defined]
        BaseEventLoop.call_soon_threadsafe = call_soon_threadsafe  # type: ignore[assignment,method-assign]
        try:
            running = get_running_loop()
        except RuntimeError:
            return
        self._adopt(running, runs=True)  # now, as its next step comes after what is scheduled until then

    def _adopt_from_outside(self, loop: Any) -> None:
        """The loop runs in another thread, which does not take part, and is about to be given something to do."""
        thread = loop._thread_id
        if thread is not None and not self._clock.takes_part(thread):
            self._clock.take_in(thread)  # before it is woken
            self._adopt(loop, runs=True, outlives=True)

    def _adopt(self, loop: Any, *, runs: bool = False, outlives: bool = False) -> None:
        """Put virtual time into *loop*, which *runs* in real time so far, or begins to run."""
        clock = self._clock
        before, start = loop.time(), clock.now()
        # The smaller a float, the more exact it is; beyond some months a loop cannot tell whether a timer is due. Who has looked
        # at the time of his loop before goes on with that, as long as it is no such number.
        base = before % _MOST_EXACT if runs else 0.0
        _put_back_timers(loop, before - base)
        selector = _Selector(clock, loop, outlives=outlives)
        write = loop._write_to_self

        def write_to_self() -> None:
            write()
            selector.parker.unpark()

        self._waits_before |= set(awaited_in_loops(loop))
        self._adopted[loop] = loop._selector
        loop._selector = selector
        loop._write_to_self = write_to_self
        loop.time = lambda: base + (clock.now() - start) / SECOND
        call_at = loop.call_at

        def call_at_instant(when: float, *args: Any, **kwargs: Any) -> Any:
            # To the nanosecond, as the clock counts: what the sums of floats make of one instant, and so which of two timers
            # comes first, hangs on the magnitude of the base, which is for how long the machine has been up.
            return call_at(base + round((when - base) * SECOND) / SECOND, *args, **kwargs)

        loop.call_at = call_at_instant

    def remove(self) -> None:
        """End: loops that go on go on in real time. It may be called again, where Ctrl-C cut it off."""
        from asyncio.base_events import BaseEventLoop

        for name, original in self._originals.items():
            setattr(BaseEventLoop, name, original)
        for loop, selector in list(self._adopted.items()):
            if "time" in vars(loop):
                virtual = loop.time()
                del loop.time
                _put_back_timers(loop, virtual - loop.time())
            for name in ("call_at", "_write_to_self"):
                vars(loop).pop(name, None)
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


def _put_back_timers(loop: Any, seconds: float) -> None:
    """The time of *loop* is to be so much earlier: each of its timers has as long to go as before."""
    for timer in loop._scheduled:
        timer._when -= seconds


class _Selector:
    """A selector whose ``select()`` is a wait on the clock.

    Args:
        clock: the clock.
        loop: whose selector it stands in for.
        outlives: the loop is not the block's: it goes on in real time after it, and no error of the clock ends it.
    """

    def __init__(self, clock: VirtualClock, loop: Any, *, outlives: bool) -> None:
        self._clock = clock
        self.outlives = outlives
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
        """What its thread waits for."""
        return "an event loop, its next task"

    def details(self) -> list[str]:
        """What the tasks of the loop wait for, and the lines of each."""
        from asyncio import all_tasks

        tasks = sorted(all_tasks(self._loop), key=lambda task: task.get_name())
        return [line for task in tasks for line in describe_task(task)]

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
        except VirtualClockError:
            if not self.outlives:
                raise
        finally:
            if subscription is not None:
                subscription.close()
        return self._inner.select(0)
