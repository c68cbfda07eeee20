"""The two drivers of a wait: a thread parks between looks, a task of an event loop awaits. Nothing else differs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from waitkit.engine import forks
from waitkit.engine.descriptor_place import DescriptorPlace
from waitkit.engine.parking import Parker
from waitkit.ground.callers import Caller
from waitkit.waits.loop_looks import Looker
from waitkit.waits.loop_time import LoopTime
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

    time = LoopTime(asyncio.get_running_loop(), wait.clock)
    looker = Looker(wait, time)
    try:
        if not await looker.look():
            parker = _LoopParker(time)
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


class _LoopParker:
    """What :class:`Parker` is to a thread, for a task: ``unpark`` may be called from any thread."""

    __slots__ = ("_future", "_time", "_woken")

    def __init__(self, time: LoopTime) -> None:
        self._time = time
        self._woken = False
        self._future: asyncio.Future[None] | None = None

    async def park(self, wait: Wait) -> bool:
        until = wait.due
        timer = None if until is None else self._time.call_at(until, self._end_rest)
        _in_loops[wait] = self._time.loop
        try:
            if not self._woken:
                self._future = self._time.loop.create_future()
                await self._future
            woken, self._woken = self._woken, False
            return woken
        finally:
            _in_loops.pop(wait, None)
            self._future = None
            if timer is not None:
                timer.cancel()

    def unpark(self) -> None:
        self._time.call(self._wake)

    def _wake(self) -> None:
        self._woken = True
        self._end_rest()

    def _end_rest(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
