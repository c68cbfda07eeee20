"""The conditions that a turn has come: of a caller in the line, and of a reservation."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

from waitkit.conditions.condition import Condition
from waitkit.engine.clock import now
from waitkit.engine.signals import Wake
from waitkit.ground.durations import SECOND, Nanoseconds
from waitkit.rates.turns import Turn, TurnQueue
from waitkit.waits.drivers import block, wait_in_loop
from waitkit.waits.wait import Wait
from waitkit.waits.watching import Context, Verdict, Watch

__all__ = ["Reservation", "TurnCome"]


class Reservation:
    """A place in the order of a limiter, taken without waiting; made by :meth:`RateLimiter.reserve`.

    ::

        with limiter.reserve() as turn:
            body = prepare()            # while the turn comes nearer
            turn.wait()                 # only as long as is left
            send(body)                  # had prepare() failed before the turn came, its tokens would be free again

    Its time is fixed when it is made. It moves up when one before it is cancelled, and back only by
    :meth:`~RateLimiter.penalize` and :meth:`~RateLimiter.change`. It is charged when its turn comes, whether anybody waits for
    it or not: nobody can tell that it will not be used, as its :attr:`delay` may have been handed to something else that acts
    then. So one that is forgotten costs its tokens, once, and keeps nobody longer than that.

    Attributes:
        tokens: how many it takes.
    """

    def __init__(self, queue: TurnQueue, turn: Turn, name: str) -> None:
        self._queue = queue
        self._turn = turn
        self._name = name
        self.tokens = turn.tokens

    @property
    def delay(self) -> float:
        """Seconds from now until its turn; 0.0 when it has come."""
        return max(0, self._turn.due - now()) / SECOND

    def wait(self) -> None:
        """Wait until its turn has come; it is used then. A wait that is ended early by a scope leaves the place as it is.

        Raises:
            Cancelled: a scope around ended.
            RuntimeError: it was cancelled.
            RateLimitExceeded: the limiter's burst was changed to less than it takes.
        """
        block(Wait(_ReservationCome(self._queue, self._turn, self._name), None))

    async def wait_async(self) -> None:
        """As :meth:`wait`, without blocking the event loop."""
        await wait_in_loop(Wait(_ReservationCome(self._queue, self._turn, self._name), None))

    def cancel(self) -> bool:
        """Give the tokens back, unless :meth:`wait` has returned. Those behind move up; waiting threads and tasks are woken.

        Returns:
            Whether they came back. Before its turn they do, all of them. After it, only while nobody else has got tokens
            since; those others came at times that counted this one. A store that is shared by processes gives back what was
            not yet followed by a request of another process.
        """
        return self._queue.cancel(self._turn)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._turn.due > now():
            self.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or self._turn.due <= now():
            return
        if self._queue.store.may_block:
            import asyncio

            await asyncio.get_running_loop().run_in_executor(None, self.cancel)
        else:
            self.cancel()

    def __repr__(self) -> str:
        turn = self._turn
        state = (
            "used" if turn.granted else "cancelled" if turn.gone else f"in {self.delay:.3g} s" if self.delay else "now"
        )
        return f"<Reservation {self._name}, {self.tokens} tokens, {state}>"


Reservation.__module__ = "waitkit"


class _ReservationCome(Condition[None]):
    def __init__(self, queue: TurnQueue, turn: Turn, name: str) -> None:
        self._queue = queue
        self._turn = turn
        self._name = name

    @property
    def what(self) -> str:
        return f"a reserved turn at {self._name}"

    def watch(self, context: Context) -> Watch:
        return _ReservationWatch(self._queue, self._turn)


class _ReservationWatch(Watch):
    __slots__ = ("_begins", "_queue", "_turn")

    def __init__(self, queue: TurnQueue, turn: Turn) -> None:
        self._queue = queue
        self._turn = turn
        self._begins: Nanoseconds | None = None

    def arm(self, wake: Wake) -> None:
        self._turn.changed.subscribe(wake, self)

    def look(self, now: Nanoseconds) -> Verdict:
        due = self._queue.use(self._turn)
        if due == 0:
            return Verdict(True)
        self._begins = due
        return Verdict(False, None, due)

    def begins(self) -> Nanoseconds | None:
        return self._begins

    def unused(self) -> None:
        self._turn.granted = False

    def close(self) -> None:
        self._turn.changed.unsubscribe(self)


class TurnCome(Condition[None]):
    """That the turn of one that waits in the line has come.

    Args:
        queue: the limiter's queue.
        tokens: how many are wanted.
        limit: how long the turn may be away; where it is longer, a look raises :class:`RateLimitExceeded`.
        name: the limiter's.
    """

    def __init__(self, queue: TurnQueue, tokens: int, limit: Nanoseconds | None, name: str) -> None:
        self._queue = queue
        self._tokens = tokens
        self._limit = limit
        self._name = name

    @property
    def what(self) -> str:
        return f"a turn at {self._name}"

    def watch(self, context: Context) -> Watch:
        deadline = None if self._limit is None else context.started + self._limit
        return _TurnWatch(self._queue, Turn(self._tokens, deadline))


class _TurnWatch(Watch):
    __slots__ = ("_begins", "_queue", "_turn")

    def __init__(self, queue: TurnQueue, turn: Turn) -> None:
        self._queue = queue
        self._turn = turn
        self._begins: Nanoseconds | None = None

    @property
    def may_block(self) -> bool:
        return self._queue.store.may_block

    def arm(self, wake: Wake) -> None:
        self._turn.changed.subscribe(wake, self)

    def look(self, now: Nanoseconds) -> Verdict:
        due = self._queue.look(self._turn)
        if due == 0:
            return Verdict(True)
        self._begins = due
        return Verdict(False, None, self._turn.deadline if due is None else due)

    def begins(self) -> Nanoseconds | None:
        return self._begins

    def unused(self) -> None:
        # A look made in a thread, while the store was asked, may have come to a task that was cancelled meanwhile.
        self._turn.granted = False

    def close(self) -> None:
        turn = self._turn
        owes = turn.slot is not None and not turn.granted
        if not (owes and self._queue.store.may_block and _in_executor(self._queue.leave, turn)):
            self._queue.leave(turn)

    def seen(self) -> str:
        return f"{len(self._queue)} waiting"


def _in_executor(leave: Callable[[Turn], None], turn: Turn) -> bool:
    """Have a slot given back, which may take its time, without blocking the running loop. False where none runs."""
    if "asyncio" not in sys.modules:
        return False
    import asyncio

    try:
        asyncio.get_running_loop().run_in_executor(None, leave, turn)  # what it raises is logged by the loop
    except RuntimeError:  # no loop, or one that is about to end
        return False
    return True
