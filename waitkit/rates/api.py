"""What users write: the decorator ``@rate_limited``."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import attrs

from waitkit.decorators.wrapping import wrap
from waitkit.ground.durations import Duration, to_optional_nanoseconds
from waitkit.policies.gcra import Rate
from waitkit.rates.keyed import KeyedLimiters
from waitkit.rates.limiter import RateLimiter, check_tokens

__all__ = ["rate_limited"]

F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen
class _Limit:
    """What each call keeps to."""

    only: RateLimiter
    tokens: int
    timeout: Duration | None
    key: Callable[..., Hashable] | None
    limiters: KeyedLimiters | None

    def call(self, function: Callable[..., Any], instance: object, args: Any, kwargs: Any) -> Any:
        self._limiter(instance, args, kwargs).acquire(self.tokens, self.timeout)
        return function(*args, **kwargs)

    async def call_async(self, function: Callable[..., Any], instance: object, args: Any, kwargs: Any) -> Any:
        await self._limiter(instance, args, kwargs).acquire_async(self.tokens, self.timeout)
        return await function(*args, **kwargs)

    def _limiter(self, instance: object, args: Any, kwargs: Any) -> RateLimiter:
        if self.key is None or self.limiters is None:
            return self.only
        return self.limiters.of(self.key(*args, **kwargs) if instance is None else self.key(instance, *args, **kwargs))


def rate_limited(
    *rates: str | Rate | RateLimiter,
    burst: int | None = None,
    tokens: int = 1,
    timeout: Duration | None = None,
    key: Callable[..., Hashable] | None = None,
    max_keys: int = 10_000,
) -> Callable[[F], F]:
    """Keep the calls of a function to a rate: those that come too early wait for their turn.

    ::

        @rate_limited("10/s", burst=5)
        def submit(order): ...

    It decorates functions, coroutine functions, methods, class- and staticmethods; name, signature and type stay. Without
    *key* there is one limit for all calls: on a method, for all instances.

    Args:
        rates: one or more rates as for :class:`RateLimiter`, or one limiter that is shared with others.
        burst: as for :class:`RateLimiter`.
        tokens: how many a call takes.
        timeout: how long a call may wait for its turn; ``None``: no limit but that of the scopes around.
        key: a function of the call's arguments (of a method, the instance is the first); each value has a limit of its own.
        max_keys: how many limits are kept. One that is full again is forgotten first, which loses nothing.

    Returns:
        The decorator. Its calls raise :class:`RateLimitExceeded` at once where their turn would not come in time.

    Raises:
        TypeError, ValueError: an argument cannot be what it should be, or (when decorating) a generator function is decorated.
    """
    check_tokens(tokens)
    to_optional_nanoseconds(timeout, "timeout")
    if key is not None and not callable(key):
        raise TypeError(f"key={key!r} is no function of the call's arguments")
    make = _maker(rates, burst, keyed=key is not None)
    limiters = KeyedLimiters(make, max_keys)
    only = make()
    limit = _Limit(only, tokens, timeout, key, None if key is None else limiters)
    if any(tokens > rate.burst for rate in only.rates):
        raise ValueError(f"tokens={tokens} exceeds the burst, so that no call could ever be made: {only.name}")

    def decorate(function: F) -> F:
        return wrap(  # type: ignore[no-any-return]
            function,
            "rate_limited",
            limit.call,
            limit.call_async,
            instead="Write limiter.acquire() inside of it instead.",
        )

    return decorate


def _maker(rates: tuple[str | Rate | RateLimiter, ...], burst: int | None, *, keyed: bool) -> Callable[[], RateLimiter]:
    if len(rates) == 1 and isinstance(rates[0], RateLimiter):
        shared = rates[0]
        if burst is not None or keyed:
            raise TypeError("a limiter that is given has its own burst, and one limit for all keys: give rates instead")
        return lambda: shared
    plain: list[str | Rate] = []
    for rate in rates:
        if isinstance(rate, RateLimiter):
            raise TypeError("give one limiter, or rates, not both")
        plain.append(rate)
    RateLimiter(*plain, burst=burst)  # a bad rate is an error now, not at the first call
    return lambda: RateLimiter(*plain, burst=burst)
