"""The retry policy: after each failure, whether to try again and after what delay."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeAlias

import attrs

from waitkit.ground.durations import Nanoseconds, format_duration, to_nanoseconds
from waitkit.policies.backoff import Backoff, Chance

__all__ = ["NOT_RETRIED", "RetryOn", "RetryPolicy", "RetryState", "read_on"]

#: What to retry: exception types, or a function of the exception that returns whether to, or after what delay.
RetryOn: TypeAlias = (
    type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool | float | timedelta | str | None]
)

#: Why there is no retry of an exception that nobody asked to retry: it is none of ours, and gets no note.
NOT_RETRIED: Final = "not to be retried"

_KEPT_FIRST: Final = 3
_KEPT_LAST: Final = 3


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """When to try again. All durations in nanoseconds; checked by :func:`waitkit.retry_backoff`.

    Attributes:
        on: which exceptions to retry: their types, or a function.
        attempts: how many attempts in all; ``None`` for no limit.
        timeout: how long all attempts and delays may take together; ``None`` for no limit.
        backoff: the delays.
        longest_asked: the most that an exception may ask for (``Retry-After``).
        may_end_early: a condition can end a delay, so one beyond the deadline is worth beginning.
        nested: retry also what an inner retry has given up on.
    """

    on: tuple[type[Exception], ...] | Callable[[Exception], object]
    attempts: int | None
    timeout: Nanoseconds | None
    backoff: Backoff
    longest_asked: Nanoseconds
    may_end_early: bool = False
    nested: bool = False


class RetryState:
    """One call in the course of its attempts.

    Args:
        policy: when to try again.
        started: the instant the first attempt began.
        attempts: overrides the policy's number of attempts.
        delays: False takes all delays away.
    """

    __slots__ = ("_attempts", "_delay", "_delays", "_first", "_last", "deadline", "failures", "policy", "started")

    def __init__(
        self, policy: RetryPolicy, started: Nanoseconds, attempts: int | None = None, delays: bool = True
    ) -> None:
        self._attempts = policy.attempts if attempts is None else attempts
        self._delays = delays
        self.policy = policy
        self.started = started
        #: the instant after which no attempt starts; ``None`` without a limit
        self.deadline = None if policy.timeout is None else started + policy.timeout
        #: how many attempts have failed
        self.failures = 0
        self._delay: Nanoseconds = 0
        self._first: list[str] = []
        self._last: deque[str] = deque(maxlen=_KEPT_LAST)

    def failed(
        self,
        failure: Exception | None,
        text: str,
        now: Nanoseconds,
        chance: Chance,
        already_retried: bool,
    ) -> Nanoseconds | str:
        """Take in a failure, and decide: the delay before the next attempt, or in words why there is none.

        Args:
            failure: the exception; ``None`` where a result is to be retried.
            text: the failure in short, for the note.
            now: the instant after the attempt.
            chance: draws from [0, 1).
            already_retried: an inner retry has given up on it.
        """
        self.failures += 1
        (self._first if self.failures <= _KEPT_FIRST else self._last).append(text)
        policy = self.policy
        asked: object = True
        if failure is not None:
            asked = isinstance(failure, policy.on) if isinstance(policy.on, tuple) else policy.on(failure)
            if asked is False or asked is None:
                return NOT_RETRIED
            if already_retried and not policy.nested:
                return "an inner retry has given up on it"
        limit = self._attempts
        if limit is not None and self.failures >= limit:
            return f"{limit} {'attempt' if limit == 1 else 'attempts'} made"
        delay = self._delay_after(asked, chance) if self._delays and (asked is not True or policy.backoff.base) else 0
        if self.deadline is not None and now + delay > self.deadline:
            if now >= self.deadline or not policy.may_end_early:
                assert policy.timeout is not None
                return f"{format_duration(policy.timeout)} would be over before the next attempt"
            delay = self.deadline - now
        self._delay = delay
        return delay

    def _delay_after(self, asked: Any, chance: Chance) -> Nanoseconds:
        backoff = self.policy.backoff
        if asked is True:
            return backoff.delay(self.failures, chance, self._delay)
        # All clients are told the same instant: come a little later than asked, each by another chance. Where no room is left
        # below the limit, come a little earlier, or all would come at that.
        longest = self.policy.longest_asked
        spread = min(backoff.base, longest)
        return min(to_nanoseconds(asked, "the delay that on= returned"), longest - spread) + round(chance() * spread)

    def note(self, why: str, now: Nanoseconds) -> str:
        """What to tell with the last exception: attempts, time, and each attempt's error in short."""
        skipped = self.failures - len(self._first) - len(self._last)
        numbered = list(enumerate(self._first, 1))
        numbered += list(enumerate(self._last, self.failures - len(self._last) + 1))
        parts = [f"{number}: {text}" for number, text in numbered]
        if skipped:
            parts.insert(len(self._first), f"... {skipped} more ...")
        attempts = "1 attempt" if self.failures == 1 else f"{self.failures} attempts"
        return f"gave up after {attempts} in {format_duration(now - self.started)} ({why}): {'; '.join(parts)}"


def read_on(on: RetryOn) -> tuple[type[Exception], ...] | Callable[[Exception], object]:
    """The types that *on* names, as a tuple, or the function that it is.

    Raises:
        TypeError: *on* is neither exception types, each an ``Exception``, nor a function.
    """
    kinds = on if isinstance(on, tuple) else (on,)
    if all(isinstance(kind, type) for kind in kinds) and kinds:
        for kind in kinds:
            if not issubclass(kind, Exception):  # type: ignore[arg-type]
                raise TypeError(
                    f"on={on!r}: {kind!r} is no subclass of Exception; interrupts, exits and cancellations are never retried"
                )
        return kinds  # type: ignore[return-value]
    if isinstance(on, tuple) or not callable(on):
        raise TypeError(
            f"on={on!r} does not say what to retry: give an exception type, a tuple of them, or a function of the exception "
            "that returns True, False, or a delay"
        )
    return on
