"""The rate limiter: rates, kept in a store, and a queue in which the head alone waits for a time."""

from __future__ import annotations

import math
from typing import Any

from waitkit.engine.clock import now
from waitkit.ground.checks import check_count, check_text
from waitkit.ground.durations import SECOND, Duration, to_nanoseconds, to_optional_nanoseconds
from waitkit.policies.gcra import Rate
from waitkit.rates.reservation import Reservation, TurnCome
from waitkit.rates.store import InProcessStore, Store
from waitkit.rates.turns import Turn, TurnQueue
from waitkit.waits.account import checkpoint
from waitkit.waits.drivers import block, wait_in_loop
from waitkit.waits.scopes import current_scopes
from waitkit.waits.wait import Wait

__all__ = ["RateLimiter", "check_tokens"]


class RateLimiter:
    """Lets so many through in a period; the others wait for their turn, first come, first served.

    ::

        limiter = RateLimiter("10/s", burst=5)
        with limiter:                       # or limiter.acquire(), or `async with`
            call()

    It is a token bucket (see :class:`Rate`): in any stretch of time *t* at most ``burst + rate * t`` tokens fall due. A
    thread runs a little after its turn has come; up to one interval of that is forgiven, so that the rate is kept in full.
    Threads and tasks may share one limiter. Of those that wait, only the first has a timer; it hands on to the next. A
    large request is not overtaken by small ones. In a forked child the limiter is a copy: both keep to the rate, each by itself.

    Args:
        rates: one or more rates, all of which are kept; charged together or not at all.
        burst: how many tokens at once, for the rate of the shortest period; 1 unless told otherwise. Other rates given as text
            allow their whole count at once; give a :class:`Rate` to say more.
        name: what to call it in errors and records.
        store: where the state is kept; ``None``: in this process. Limiters that share a store share the rates. See
            :class:`waitkit.rates.store.Store`.

    Raises:
        TypeError, ValueError: an argument cannot be what it should be.
    """

    def __init__(
        self, *rates: str | Rate, burst: int | None = None, name: str = "", store: Store | None = None
    ) -> None:
        if store is not None and not isinstance(store, Store):
            raise TypeError(f"store={store!r} is no waitkit.rates.store.Store")
        read = _read_rates(rates, burst)
        self._name = check_text(name, "name") or f"rate limiter ({'; '.join(str(rate) for rate in read)})"
        self._store = InProcessStore() if store is None else store
        self._store.open(read)
        self._queue = TurnQueue(self._store, self._name)

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self._store, InProcessStore):
            raise TypeError(
                f"cannot pickle the {self._name}: it keeps its state in this process, and a copy of it would allow as much "
                "again. Make one there; or give it a store= that processes share"
            )
        return _with_store, (self.rates, self._name, self._store)

    @property
    def name(self) -> str:
        """What it is called."""
        return self._name

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates in force."""
        return self._store.rates

    @property
    def waiting(self) -> int:
        """How many wait for their turn, reservations not counted."""
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """Whether it is as good as new: nobody waits or has reserved, and all tokens are there."""
        return self._queue.idle()

    def try_acquire(self, tokens: int = 1) -> bool:
        """Take *tokens* if they can be had now and nobody waits. Never waits, and costs nothing when it returns False.

        Raises:
            RateLimitExceeded: they can never be had, as they are more than the burst.
            ValueError: *tokens* is no whole number of 1 or more.
        """
        check_tokens(tokens)
        if self._queue.try_take(tokens):
            return True
        self._queue.check(tokens)
        return False

    def acquire(self, tokens: int = 1, timeout: Duration | None = None) -> None:
        """Take *tokens*, waiting for the turn.

        Args:
            tokens: how many, 1 or more.
            timeout: how long to wait at most; ``None``: no limit but that of the scopes around; ``0``: not at all.

        Raises:
            RateLimitExceeded: at once, where the turn would not come in time, or never; or as soon as a :meth:`penalize` or a
                :meth:`change` has made that so. Nothing is charged.
            Cancelled: a scope around ended; nothing is charged.
            TypeError, ValueError: an argument cannot be what it should be.
        """
        wait = self._begin(tokens, timeout)
        if wait is not None:
            block(wait)

    async def acquire_async(self, tokens: int = 1, timeout: Duration | None = None) -> None:
        """As :meth:`acquire`, without blocking the event loop."""
        wait = self._begin(tokens, timeout)
        if wait is not None:
            await wait_in_loop(wait)

    def _begin(self, tokens: int, timeout: Duration | None) -> Wait | None:
        """The wait for a turn; ``None`` where the tokens could be had at once."""
        check_tokens(tokens)
        limit = to_optional_nanoseconds(timeout, "timeout")
        if current_scopes():
            checkpoint(TurnCome(self._queue, tokens, limit, self._name))
        # A wait costs more than a look at the buckets here, and less than a trip to a store elsewhere.
        if not self._store.may_block and self._queue.try_take(tokens):
            return None
        self._queue.check(tokens)
        return Wait(TurnCome(self._queue, tokens, limit, self._name), None)

    def reserve(self, tokens: int = 1, timeout: Duration | None = None) -> Reservation:
        """Take the next place without waiting.

        Args:
            tokens: how many, 1 or more.
            timeout: how far away the turn may be; ``None``: as far as it is.

        Returns:
            The place: when its turn comes, to be waited for, or given back.

        Raises:
            RateLimitExceeded: the turn would come later than that, or never. Nothing is charged.
            TypeError, ValueError: an argument cannot be what it should be.
        """
        check_tokens(tokens)
        limit = to_optional_nanoseconds(timeout, "timeout")
        self._queue.check(tokens)
        turn = Turn(tokens, None if limit is None else now() + limit, reserved=True)
        self._queue.reserve(turn)
        return Reservation(self._queue, turn, self._name)

    def delay(self, tokens: int = 1) -> float:
        """Seconds until *tokens* could be had, if nobody who waits gives up; ``inf``: never. Nothing is charged.

        Raises:
            ValueError: *tokens* is no whole number of 1 or more.
        """
        check_tokens(tokens)
        wait = self._queue.ask(tokens)
        return math.inf if wait is None else wait / SECOND

    def penalize(self, duration: Duration) -> None:
        """Let nobody through for a while, as when the other side has said 429; then one token, and on at the rate.

        Those who wait and have reserved wait as much longer as that takes. Where a timeout cannot be met any more, its
        caller is told at once.

        Raises:
            TypeError, ValueError: *duration* is no duration.
        """
        pause = to_nanoseconds(duration, "duration")
        self._queue.rearrange(lambda: self._store.penalize(pause), pause)

    def change(self, *rates: str | Rate, burst: int | None = None) -> None:
        """Go on with other rates, as many as before. Those who wait or have reserved get their times anew.

        The tokens that are there stay there, as many as the new burst holds; a larger burst fills at the new rate.

        Args:
            rates: as for :class:`RateLimiter`.
            burst: likewise.

        Raises:
            TypeError, ValueError: an argument cannot be what it should be, or someone waits for more than the new burst.
        """
        read = _read_rates(rates, burst)
        if len(read) != len(self._store.rates):
            raise ValueError(f"{self._name} has {len(self._store.rates)} rates: give as many")
        most = self._queue.most_tokens()
        if any(most > rate.burst for rate in read):
            raise ValueError(f"someone waits for {most} tokens, more than the new burst")
        self._queue.rearrange(lambda: self._store.change(read))

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exc: object) -> None:
        pass

    async def __aenter__(self) -> None:
        await self.acquire_async()

    async def __aexit__(self, *exc: object) -> None:
        pass

    def __repr__(self) -> str:
        return f"<RateLimiter {self._name}, {self.waiting} waiting>"


RateLimiter.__module__ = "waitkit"


def _with_store(rates: tuple[Rate, ...], name: str, store: Store) -> RateLimiter:
    return RateLimiter(*rates, name=name, store=store)


def check_tokens(tokens: Any) -> None:
    """Raise ``ValueError`` where *tokens* is no whole number of 1 or more."""
    check_count(tokens, "tokens")


def _read_rates(rates: tuple[str | Rate, ...], burst: int | None) -> list[Rate]:
    if not rates:
        raise TypeError('a limiter needs at least one rate, such as "10/s"')
    read = [rate if isinstance(rate, Rate) else Rate(rate) for rate in rates]
    shortest = min(range(len(read)), key=lambda index: read[index].period)
    if isinstance(rates[shortest], str):
        read[shortest] = Rate(read[shortest].text, 1 if burst is None else burst)
    elif burst is not None:
        raise ValueError(f"burst={burst!r} was given twice: the rate of the shortest period says its own")
    return read
