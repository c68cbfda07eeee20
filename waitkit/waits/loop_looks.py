"""The looks of a wait in an event loop: at once where that takes no time, and in a thread where it may."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from waitkit.engine.background import CannotStart
from waitkit.engine.locks import Token
from waitkit.engine.workers import run_in_looker
from waitkit.ground.durations import MILLISECOND
from waitkit.waits.loop_time import LoopTime
from waitkit.waits.wait import Wait

if TYPE_CHECKING:
    import asyncio

__all__ = ["Looker"]

#: So long beyond the deadline a look may wait for a thread: it is the one that the wait ends with.
_GRACE: Final = 100 * MILLISECOND


class Looker:
    """Looks for one wait without blocking the loop: a look that may take its time is made in a thread."""

    __slots__ = ("_in_thread", "_time", "_wait")

    def __init__(self, wait: Wait, time: LoopTime) -> None:
        self._wait = wait
        self._time = time
        self._in_thread: _LookInThread | None = None

    async def look(self) -> bool:
        """As :meth:`Wait.look`."""
        if not self._wait.may_block:
            return self._wait.look()
        self._in_thread = _LookInThread(self._wait, self._time)
        return await self._in_thread.made()

    def afterwards(self, close: Callable[[], None]) -> None:
        """Close the wait, but not under a look that goes on in its thread, as no look is cut off: then that thread does it."""
        if self._in_thread is None:
            close()
        else:
            self._in_thread.afterwards(close)


_Outcome: TypeAlias = tuple[bool, BaseException | None]


class _LookInThread:
    """One look, in a thread of ours: those of the loop's executor may all be busy with what the program gave them.

    Two things are done once, by whoever takes a token first: to begin the look, or to call it off; and to close the wait.
    """

    __slots__ = ("_closes", "_context", "_future", "_is_over", "_time", "_to_be_made", "_wait")

    def __init__(self, wait: Wait, time: LoopTime) -> None:
        self._wait = wait
        self._time = time
        self._future: asyncio.Future[_Outcome] = time.loop.create_future()
        self._context = contextvars.copy_context()
        self._to_be_made = Token()
        self._closes: list[Callable[[], None]] = []
        self._is_over = False

    async def made(self) -> bool:
        """Have it made. Returns and raises as :meth:`Wait.look`."""
        wait, time = self._wait, self._time
        try:
            run_in_looker(self._run)
        except CannotStart:  # the interpreter is going down: there is no other thread to look
            return wait.look()
        deadline = wait.deadline
        limit = None
        if deadline is not None:
            limit = time.call_at(max(deadline, time.clock.now()) + _GRACE, self._give_up)
        try:
            holds, error = await self._future
        finally:
            if limit is not None:
                limit.cancel()
        if error is None:
            return holds
        try:
            raise error
        finally:
            del error

    def afterwards(self, close: Callable[[], None]) -> None:
        """Call *close* when it is over, or now, where it is or never begins."""
        if self._to_be_made.take():
            close()
            return
        self._closes.append(close)
        if self._is_over:
            self._close()

    def _close(self) -> None:
        try:
            close = self._closes.pop()
        except IndexError:
            return
        close()

    def _run(self) -> None:
        if self._to_be_made.take():
            outcome = self._context.run(self._look)
            self._is_over = True
            self._close()
            self._time.call(partial(self._tell, outcome))

    def _look(self) -> _Outcome:
        try:
            return self._wait.look(), None
        except BaseException as error:  # noqa: BLE001 - it is raised where the look is awaited
            return False, error

    def _give_up(self) -> None:
        if self._to_be_made.take():
            self._tell((False, self._wait.overdue("no thread was free to look at the deadline")))

    def _tell(self, outcome: _Outcome) -> None:
        if not self._future.done():
            self._future.set_result(outcome)
