"""The rate limiter: buckets, and a queue in which the head alone waits for a time."""

from __future__ import annotations

from collections import deque
from typing import Any

from waitkit.conditions.condition import Condition
from waitkit.engine.clock import now
from waitkit.engine.locks import ForkSafeLock
from waitkit.engine.signals import Wake
from waitkit.ground.durations import (
    SECOND,
    Duration,
    Nanoseconds,
    format_duration,
    to_nanoseconds,
    to_optional_nanoseconds,
)
from waitkit.ground.errors import WaitkitError
from waitkit.policies.gcra import Bucket, Rate
from waitkit.waits.drivers import block, wait_in_loop
from waitkit.waits.wait import Wait
from waitkit.waits.watching import NOT_YET, Context, Verdict, Watch

__all__ = ["RateLimitExceeded", "RateLimiter", "check_tokens"]


class RateLimitExceeded(WaitkitError):
    """A request was refused at once: its turn would come after its timeout, or never. It has cost nothing.

    Attributes:
        limiter: the name of the limiter.
        tokens: how many were asked for.
        retry_after: seconds until they could be had; ``None``: never, as they exceed the burst.
    """

    def __init__(self, limiter: str, tokens: int, retry_after: float | None) -> None:
        super().__init__(limiter, tokens, retry_after)
        self.limiter = limiter
        self.tokens = tokens
        self.retry_after = retry_after

    def __str__(self) -> str:
        asked = "1 token" if self.tokens == 1 else f"{self.tokens} tokens"
        if self.retry_after is None:
            return f"{self.limiter} can never give {asked} at once"
        return f"{self.limiter} has no {asked} in time: retry after {format_duration(round(self.retry_after * SECOND))}"


RateLimitExceeded.__module__ = "waitkit"


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

    Raises:
        TypeError, ValueError: an argument cannot be what it should be.
    """

    def __init__(self, *rates: str | Rate, burst: int | None = None, name: str = "") -> None:
        read = _read_rates(rates, burst)
        self._name = name or f"rate limiter ({'; '.join(str(rate) for rate in read)})"
        self._buckets = [Bucket(rate) for rate in read]
        self._queue: deque[_Turn] = deque()
        # Guards the buckets and the queue. Wake-ups are called after it was given up.
        self._lock = ForkSafeLock()

    @property
    def name(self) -> str:
        """What it is called."""
        return self._name

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates in force."""
        return tuple(bucket.rate for bucket in self._buckets)

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """Whether it is as good as new: nobody waits, and all tokens are there."""
        with self._lock:
            instant = now()
            return not self._queue and all(
                bucket.due(bucket.rate.burst, instant) <= instant for bucket in self._buckets
            )

    def try_acquire(self, tokens: int = 1) -> bool:
        """Take *tokens* if they can be had now and nobody waits. Never waits, and costs nothing when it returns False.

        Raises:
            ValueError: *tokens* is no whole number of 1 or more.
        """
        check_tokens(tokens)
        with self._lock:
            if self._queue:
                return False
            instant = now()
            for bucket in self._buckets:
                if bucket.due(tokens, instant) > instant:
                    return False
            for bucket in self._buckets:
                bucket.charge(tokens, instant)
            return True

    def acquire(self, tokens: int = 1, timeout: Duration | None = None) -> None:
        """Take *tokens*, waiting for the turn.

        Args:
            tokens: how many, 1 or more.
            timeout: how long to wait at most; ``None``: no limit but that of the scopes around; ``0``: not at all.

        Raises:
            RateLimitExceeded: at once, where the turn would not come in time, or never; or when time ran out as others ahead
                were given more time by a :meth:`penalize`. Nothing is charged.
            Cancelled: a scope around ended; nothing is charged.
            TypeError, ValueError: an argument cannot be what it should be.
        """
        if not self.try_acquire(tokens):
            block(self._wait(tokens, timeout))

    async def acquire_async(self, tokens: int = 1, timeout: Duration | None = None) -> None:
        """As :meth:`acquire`, without blocking the event loop."""
        if not self.try_acquire(tokens):
            await wait_in_loop(self._wait(tokens, timeout))

    def _wait(self, tokens: int, timeout: Duration | None) -> Wait:
        limit = to_optional_nanoseconds(timeout, "timeout")
        self._refuse_impossible(tokens, limit)
        return Wait(_TurnCome(self, tokens), limit)

    def _refuse_impossible(self, tokens: int, limit: Nanoseconds | None) -> None:
        with self._lock:
            if any(tokens > bucket.rate.burst for bucket in self._buckets):
                raise RateLimitExceeded(self._name, tokens, None)
            if limit is not None:
                instant = now()
                wait = self._due(tokens, instant, sum(turn.tokens for turn in self._queue)) - instant
                if wait > limit:
                    raise RateLimitExceeded(self._name, tokens, wait / SECOND)

    def _due(self, tokens: int, instant: Nanoseconds, ahead: int = 0) -> Nanoseconds:
        return max(bucket.due(tokens, instant, ahead) for bucket in self._buckets)

    def delay(self, tokens: int = 1) -> float:
        """Seconds until *tokens* could be had, if nobody who waits gives up. Nothing is charged."""
        check_tokens(tokens)
        with self._lock:
            instant = now()
            ahead = sum(turn.tokens for turn in self._queue)
            return max(0, self._due(tokens, instant, ahead) - instant) / SECOND

    def penalize(self, duration: Duration) -> None:
        """Let nobody through for a while, as when the other side has said 429; then one token, and on at the rate.

        Raises:
            TypeError, ValueError: *duration* is no duration.
        """
        pause = to_nanoseconds(duration, "duration")
        with self._lock:
            instant = now()
            for bucket in self._buckets:
                bucket.empty_until(instant + pause)

    def change(self, *rates: str | Rate, burst: int | None = None) -> None:
        """Go on with other rates, as many as before. Tokens in use stay in use; those who wait are asked anew.

        Raises:
            TypeError, ValueError: an argument cannot be what it should be, or someone waits for more than the new burst.
        """
        read = _read_rates(rates, burst)
        if len(read) != len(self._buckets):
            raise ValueError(f"{self._name} has {len(self._buckets)} rates: give as many")
        with self._lock:
            most = max((turn.tokens for turn in self._queue), default=0)
            if any(most > rate.burst for rate in read):
                raise ValueError(f"someone waits for {most} tokens, more than the new burst")
            instant = now()
            for bucket, rate in zip(self._buckets, read, strict=True):
                bucket.change(rate, instant)
            head = self._queue[0] if self._queue else None
        if head is not None:
            head.wake_up()

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

    # The queue, as its waiters see it.

    def _look(self, turn: _Turn) -> Nanoseconds | None:
        """Whether the turn has come (0), or when to look again (``None``: when the one before hands on)."""
        following: _Turn | None = None
        with self._lock:
            if turn.granted:
                return 0
            if not turn.queued:
                turn.queued = True
                self._queue.append(turn)
            if self._queue[0] is not turn:
                return None
            instant = now()
            due = self._due(turn.tokens, instant)
            if turn.due is not None:
                # What was due at an instant is charged for that instant, though the thread runs later: else each wake-up
                # would cost the rate its lateness. At most one interval is forgiven.
                due = min(due, max(turn.due, self._due(turn.tokens, turn.due)))
            if due > instant:
                turn.due = due
                return due
            for bucket in self._buckets:
                bucket.charge(
                    turn.tokens, max(due, instant - bucket.rate.interval) if turn.due is not None else instant
                )
            turn.granted = True
            self._queue.popleft()
            following = self._queue[0] if self._queue else None
        if following is not None:
            following.wake_up()
        return 0

    def _leave(self, turn: _Turn) -> None:
        following: _Turn | None = None
        with self._lock:
            if turn.granted or not turn.queued:
                return
            was_head = self._queue[0] is turn
            self._queue.remove(turn)
            following = self._queue[0] if was_head and self._queue else None
        if following is not None:
            following.wake_up()


RateLimiter.__module__ = "waitkit"


class _Turn:
    """A place in the queue."""

    __slots__ = ("due", "granted", "queued", "tokens", "wake")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.due: Nanoseconds | None = None
        self.queued = False
        self.granted = False
        self.wake: Wake | None = None

    def wake_up(self) -> None:
        if self.wake is not None:
            self.wake()


class _TurnCome(Condition[None]):
    def __init__(self, limiter: RateLimiter, tokens: int) -> None:
        self._limiter = limiter
        self._tokens = tokens

    @property
    def what(self) -> str:
        return f"a turn at {self._limiter.name}"

    def watch(self, context: Context) -> Watch:
        return _TurnWatch(self._limiter, _Turn(self._tokens))


class _TurnWatch(Watch):
    __slots__ = ("_limiter", "_turn")

    def __init__(self, limiter: RateLimiter, turn: _Turn) -> None:
        self._limiter = limiter
        self._turn = turn

    def arm(self, wake: Wake) -> None:
        self._turn.wake = wake

    def look(self, now: Nanoseconds) -> Verdict:
        due = self._limiter._look(self._turn)
        if due == 0:
            return Verdict(True)
        return NOT_YET if due is None else Verdict(False, None, due)

    def close(self) -> None:
        self._limiter._leave(self._turn)

    def seen(self) -> str:
        return f"{self._limiter.waiting} waiting"


def check_tokens(tokens: Any) -> None:
    """Raise ``ValueError`` where *tokens* is no whole number of 1 or more."""
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
        raise ValueError(f"tokens={tokens!r} is not a whole number of 1 or more")


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
