"""A limiter for each key, in bounded memory: what ``@rate_limited(..., key=)`` keeps to, and its block form."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from itertools import islice
from typing import Any, Final

from waitkit.engine.locks import ForkSafeLock
from waitkit.ground.checks import check_count
from waitkit.policies.gcra import Rate
from waitkit.rates.limiter import RateLimiter

__all__ = ["KeyedLimiters"]

#: How many are looked at to find some that can be forgotten: a new key must not cost a walk through all others.
_LOOKED_AT: Final = 20


class KeyedLimiters:
    """Limiters by key, made when first asked for.

    ::

        limiters = KeyedLimiters("5/s", burst=10)
        with limiters.of(user):             # or `async with`, or limiters.of(user).acquire()
            call(user)

    When there are more than *max_keys*, of the twenty that nobody has asked for the longest, those whose buckets are full and
    for which nobody waits are forgotten: a new one would be like them. Where none is, the first of them goes, and its caller
    may use its burst once more.

    Args:
        rates: as for :class:`RateLimiter`, for each key.
        burst: likewise.
        max_keys: how many limiters are kept, 1 or more.

    Raises:
        TypeError, ValueError: an argument cannot be what it should be.
    """

    def __init__(self, *rates: str | Rate, burst: int | None = None, max_keys: int = 10_000) -> None:
        self._rates = RateLimiter(*rates, burst=burst).rates  # a bad rate is an error now, not at the first call
        self._most = check_count(max_keys, "max_keys")
        self._limiters: OrderedDict[Hashable, RateLimiter] = OrderedDict()  # the one asked for last is last
        self._lock = ForkSafeLock()  # guards _limiters; the limiters have locks of their own

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            f"cannot pickle the limiters by key ({'; '.join(map(str, self._rates))}): each keeps its state in this process, and "
            "a copy of it would allow as much again. Make them there"
        )

    def of(self, key: Hashable) -> RateLimiter:
        """The limiter of *key*.

        Raises:
            TypeError: *key* cannot be hashed.
        """
        with self._lock:
            try:
                limiter = self._limiters.get(key)
            except TypeError as error:
                raise _explained(error, key) from None
            if limiter is not None:
                self._limiters.move_to_end(key)
                return limiter
        made = RateLimiter(*self._rates)
        oldest: list[tuple[Hashable, RateLimiter]] = []
        with self._lock:
            limiter = self._limiters.setdefault(key, made)
            if len(self._limiters) > self._most:
                oldest = list(islice(self._limiters.items(), min(_LOOKED_AT, self._most)))
        if oldest:
            gone = [item for item in oldest if item[1].idle] or oldest[:1]
            with self._lock:
                self._forget(gone)
        return limiter

    def _forget(self, gone: list[tuple[Hashable, RateLimiter]]) -> None:
        for known, limiter in gone:
            if self._limiters.get(known) is limiter:
                del self._limiters[known]

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates of each key's limiter, where it has not been changed by itself."""
        return self._rates

    def __len__(self) -> int:
        """How many limiters are kept."""
        return len(self._limiters)


def _explained(error: TypeError, key: Hashable) -> TypeError:
    try:
        hash(key)
    except TypeError:
        return TypeError(f"key={key!r} cannot be hashed: give a number, a text, or a tuple of such")
    return error  # of its __eq__


KeyedLimiters.__module__ = "waitkit"
