"""A limiter for each key, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from itertools import islice
from typing import Final

from waitkit.engine.locks import ForkSafeLock
from waitkit.rates.limiter import RateLimiter

__all__ = ["KeyedLimiters"]

#: How many are looked at to find some that can be forgotten: a new key must not cost a walk through all others.
_LOOKED_AT: Final = 20


class KeyedLimiters:
    """Limiters by key, made when first asked for.

    When there are more than *most*, of the twenty that nobody has asked for the longest, those whose buckets are full and for
    which nobody waits are forgotten: a new one would be like them. Where none is, the first of them goes, and its caller may
    use its burst once more.

    Args:
        make: makes a limiter.
        most: how many are kept, 1 or more.

    Raises:
        ValueError: *most* is no whole number of 1 or more.
    """

    def __init__(self, make: Callable[[], RateLimiter], most: int) -> None:
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            raise ValueError(f"max_keys={most!r} is not a whole number of 1 or more")
        self._make = make
        self._most = most
        self._limiters: OrderedDict[Hashable, RateLimiter] = OrderedDict()  # the one asked for last is last
        self._lock = ForkSafeLock()  # guards _limiters; the limiters have locks of their own

    def of(self, key: Hashable) -> RateLimiter:
        """The limiter of *key*."""
        with self._lock:
            limiter = self._limiters.get(key)
            if limiter is not None:
                self._limiters.move_to_end(key)
                return limiter
        made = self._make()
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

    def __len__(self) -> int:
        return len(self._limiters)
