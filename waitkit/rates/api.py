"""What users write: the decorator ``@rate_limited``."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeVar

from waitkit.decorators.wrapping import wrap
from waitkit.ground.callers import without_our_frames
from waitkit.ground.durations import Duration, to_optional_nanoseconds
from waitkit.policies.gcra import Rate
from waitkit.rates.keyed import KeyedLimiters
from waitkit.rates.limiter import RateLimiter, check_tokens

__all__ = ["rate_limited"]

F = TypeVar("F", bound=Callable[..., Any])


class _Limit(NamedTuple):
    """What each call keeps to."""

    limiter: RateLimiter | KeyedLimiters
    tokens: int
    timeout: Duration | None
    key: Callable[..., Hashable] | None
    key_takes_instance: bool

    def call(self, function: Callable[..., Any], instance: object, args: Any, kwargs: Any) -> Any:
        limiter = self._limiter_of(instance, args, kwargs)
        try:
            limiter.acquire(self.tokens, self.timeout)
        except BaseException as error:
            error.with_traceback(without_our_frames(error))
            raise
        return function(*args, **kwargs)

    async def call_async(self, function: Callable[..., Any], instance: object, args: Any, kwargs: Any) -> Any:
        limiter = self._limiter_of(instance, args, kwargs)
        try:
            await limiter.acquire_async(self.tokens, self.timeout)
        except BaseException as error:
            error.with_traceback(without_our_frames(error))
            raise
        return await function(*args, **kwargs)

    def _limiter_of(self, instance: object, args: Any, kwargs: Any) -> RateLimiter:
        if isinstance(self.limiter, RateLimiter):
            return self.limiter
        assert self.key is not None
        if instance is not None and self.key_takes_instance:
            return self.limiter.of(self.key(instance, *args, **kwargs))
        return self.limiter.of(self.key(*args, **kwargs))


def rate_limited(
    *rates: str | Rate | RateLimiter | KeyedLimiters,
    burst: int | None = None,
    tokens: int = 1,
    timeout: Duration | None = None,
    key: Callable[..., Hashable] | None = None,
    max_keys: int | None = None,
) -> Callable[[F], F]:
    """Keep the calls of a function to a rate: those that come too early wait for their turn.

    ::

        @rate_limited("10/s", burst=5)
        def submit(order): ...

    It decorates functions, coroutine functions, methods, class- and staticmethods; name, signature and type stay. Without
    *key* there is one limit for all calls: on a method, for all instances.

    Args:
        rates: one or more rates as for :class:`RateLimiter`; or one limiter that is shared with others, with a *key* one
            :class:`KeyedLimiters`.
        burst: as for :class:`RateLimiter`.
        tokens: how many a call takes.
        timeout: how long a call may wait for its turn; ``None``: no limit but that of the scopes around.
        key: a function of the call's arguments (of a method, the instance is the first); each value has a limit of its own.
        max_keys: as for :class:`KeyedLimiters`, for rates with a *key*; ``None``: as many as it keeps.

    Returns:
        The decorator. Its calls raise :class:`RateLimitExceeded` at once where their turn would not come in time.

    Raises:
        TypeError, ValueError: an argument cannot be what it should be, or (when decorating) a generator function is decorated.
    """
    check_tokens(tokens)
    to_optional_nanoseconds(timeout, "timeout")
    if key is not None and not callable(key):
        raise TypeError(f"key={key!r} is no function of the call's arguments")
    limiter = _limiter(rates, burst, key, max_keys)
    if any(tokens > rate.burst for rate in limiter.rates):
        raise ValueError(
            f"tokens={tokens} exceeds the burst, so that no call could ever be made: {'; '.join(map(str, limiter.rates))}"
        )

    def decorate(function: F) -> F:
        # A bound method that is decorated is called without its instance, though wrapt tells it.
        limit = _Limit(limiter, tokens, timeout, key, not hasattr(function, "__self__"))
        return wrap(  # type: ignore[no-any-return]
            function,
            "rate_limited",
            limit.call,
            limit.call_async,
            instead="Write limiter.acquire() inside of it instead.",
        )

    return decorate


def _limiter(
    rates: tuple[str | Rate | RateLimiter | KeyedLimiters, ...],
    burst: int | None,
    key: Callable[..., Hashable] | None,
    max_keys: int | None,
) -> RateLimiter | KeyedLimiters:
    plain: list[str | Rate] = []
    for rate in rates:
        if isinstance(rate, str | Rate):
            plain.append(rate)
        elif isinstance(rate, RateLimiter | KeyedLimiters):
            if max_keys is not None:
                raise TypeError(
                    f"max_keys={max_keys!r}: a limiter that is given is not made here; KeyedLimiters take max_keys="
                )
            return _given(rate, rates, burst, key)
        else:
            raise TypeError(f'{rate!r} is neither a rate, such as "10/s", nor a limiter')
    if key is None:
        if max_keys is not None:
            raise TypeError(f"max_keys={max_keys!r}: without key= there is one limit for all calls")
        return RateLimiter(*plain, burst=burst)
    return KeyedLimiters(*plain, burst=burst, **({} if max_keys is None else {"max_keys": max_keys}))


def _given(
    limiter: RateLimiter | KeyedLimiters, rates: tuple[object, ...], burst: int | None, key: object
) -> RateLimiter | KeyedLimiters:
    """*limiter*, where it can be what the decorator keeps to."""
    if len(rates) > 1:
        raise TypeError("give one limiter, or rates, not both")
    if burst is not None:
        raise TypeError("a limiter that is given has its own burst")
    if isinstance(limiter, KeyedLimiters) and key is None:
        raise TypeError("limiters by key need key=, a function of the call's arguments")
    if isinstance(limiter, RateLimiter) and key is not None:
        raise TypeError("a RateLimiter has one limit for all keys: give rates, or KeyedLimiters")
    return limiter
