"""The two drivers of a wait: a thread parks between looks, a task of an event loop awaits. Nothing else differs."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from waitkit.engine import forks
from waitkit.engine.clock import Clock, SystemClock, current_clock
from waitkit.engine.descriptor_place import DescriptorPlace
from waitkit.engine.parking import Parker
from waitkit.engine.timers import Timer, current_timers
from waitkit.ground.callers import Caller
from waitkit.ground.durations import MICROSECOND, SECOND, Nanoseconds
from waitkit.waits.wait import Wait

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

__all__ = ["Flow", "awaited_in_loops", "block", "drive", "drive_in_loop", "wait_in_loop"]

#: A policy at work: it yields the waits to make, is sent what they gave, and returns its result.
Flow: TypeAlias = Generator[Wait, Any, T]


def block(wait: Wait) -> Any:
    """Drive *wait* in this thread. Returns its value, or raises what ended it."""
    try:
        try:
            if not wait.look():
                _park_between_looks(wait)
            wait.close()
        except BaseException as error:
            wait.close(error)
            raise
    except BaseException as error:
        wait.close(error)  # again, as Ctrl-C may have cut off the closing
        raise
    return wait.value


def _park_between_looks(wait: Wait) -> None:
    # Not in block(): CPython has no handler for the bytecode that goes back to the head of a loop, though Ctrl-C comes
    # there; within a function that is called under "try" it does no harm.
    parker = Parker(wait, wait.clock)
    rest = parker.rest
    try:
        place = DescriptorPlace(parker) if wait.outside and DescriptorPlace.suits(parker) else None
        if wait.arm(parker.unpark, place) and place is not None:
            rest = place.rest
        while not wait.look():
            if parker.generation != forks.current:  # the look has forked
                parker.renew()
                continue
            while not rest(wait.due) and wait.reports and wait.only_reports():
                pass
    finally:
        parker.place.purpose = (
            None  # a circle: wait, watch, wake, parker, wait. What it holds would wait for a collection
        )


async def wait_in_loop(wait: Wait) -> Any:
    """Drive *wait* in the running event loop, which goes on with its other tasks. Returns and raises as :func:`block`."""
    import asyncio

    loop = asyncio.get_running_loop()
    looker = _Looker(wait, loop)
    try:
        if not await looker.look():
            parker = _LoopParker(loop, wait.clock)
            wait.arm(parker.unpark)
            while not await looker.look():
                while not await parker.park(wait) and wait.reports and wait.only_reports():
                    pass
        wait.close()
    except BaseException as error:
        looker.afterwards(partial(wait.close, error))
        raise
    return wait.value


def drive(flow: Flow[T]) -> T:
    """Make the waits of *flow* in this thread. Returns its result; what a wait raises is raised in the flow first."""
    step: Callable[[Any], Wait] = flow.send
    answer: Any = None
    while True:
        try:
            wait = step(answer)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        try:
            step, answer = flow.send, block(wait)
        except BaseException as error:  # noqa: BLE001 - the flow gets it, and lets it out unless it knows better
            step, answer = flow.throw, error


async def drive_in_loop(flow: Flow[T], caller: Caller | None = None) -> T:
    """As :func:`drive`, in the running event loop.

    Args:
        flow: what is to be driven.
        caller: who waits, where that is known: in a task, the frames lead to the event loop.
    """
    step: Callable[[Any], Wait] = flow.send
    answer: Any = None
    while True:
        try:
            wait = step(answer)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        wait.caller = wait.caller or caller
        try:
            step, answer = flow.send, await wait_in_loop(wait)
        except BaseException as error:  # noqa: BLE001 - as above
            step, answer = flow.throw, error


#: The waits that rest in an event loop, and in which.
_in_loops: dict[Wait, asyncio.AbstractEventLoop] = {}


def awaited_in_loops(loop: object) -> list[Wait]:
    """The waits that rest in *loop*, for a clock that has to know what it waits for."""
    return [wait for wait, its_loop in list(_in_loops.items()) if its_loop is loop]


class _Looker:
    """Looks without blocking the loop: a look that may take its time is made in a thread of the loop's executor."""

    __slots__ = ("_in_thread", "_loop", "_wait")

    def __init__(self, wait: Wait, loop: asyncio.AbstractEventLoop) -> None:
        self._wait = wait
        self._loop = loop
        self._in_thread: asyncio.Future[_Looked] | None = None

    async def look(self) -> bool:
        if not self._wait.may_block:
            return self._wait.look()
        import asyncio

        self._in_thread = self._loop.run_in_executor(None, contextvars.copy_context().run, _look, self._wait)
        holds, error = await asyncio.shield(self._in_thread)
        if error is not None:
            raise error
        return holds

    def afterwards(self, close: Callable[[], None]) -> None:
        """Close the wait, but not under a look that goes on in a thread after its task was cancelled."""
        if self._in_thread is None or self._in_thread.done():
            close()
        else:
            self._in_thread.add_done_callback(lambda _: close())


_Looked: TypeAlias = tuple[bool, BaseException | None]


def _look(wait: Wait) -> _Looked:
    """Look, and return what that raises: no future can hold a ``StopIteration``, and it logs what nobody asks for."""
    try:
        return wait.look(), None
    except BaseException as error:  # noqa: BLE001 - it is raised where the look is awaited
        return False, error


class _LoopParker:
    """What :class:`Parker` is to a thread, for a task: ``unpark`` may be called from any thread."""

    __slots__ = ("_clock", "_future", "_loop", "_timers", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self._timers = current_timers()
        self._woken = False
        self._future: asyncio.Future[None] | None = None

    async def park(self, wait: Wait) -> bool:
        until = wait.due
        timer = None if until is None else self._call_at(until)
        _in_loops[wait] = self._loop
        try:
            if not self._woken:
                self._future = self._loop.create_future()
                await self._future
            woken, self._woken = self._woken, False
            return woken
        finally:
            _in_loops.pop(wait, None)
            self._future = None
            if timer is not None:
                timer.cancel()

    def _call_at(self, until: Nanoseconds) -> Timer | asyncio.TimerHandle:
        """Have the rest end then: by a timer of the loop, which needs no thread, where its time is that of the wait."""
        clock = self._clock
        if isinstance(clock, SystemClock) and clock is current_clock():
            # A loop rounds its time, and must not come a moment too early: the look that follows would be in vain.
            return self._loop.call_later((until - clock.now() + MICROSECOND) / SECOND, self._end_rest)
        # Virtual time is exact to the nanosecond, and a loop's is not; and who began to wait in real time goes on in that,
        # though his loop has gone over to virtual time.
        return self._timers.call_at(until, self._time_has_come)

    def unpark(self) -> None:
        self._call_in_loop(self._wake)

    def _time_has_come(self) -> None:
        self._call_in_loop(self._end_rest)

    def _call_in_loop(self, function: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            pass  # the loop is closed: nobody waits there any more

    def _wake(self) -> None:
        self._woken = True
        self._end_rest()

    def _end_rest(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
