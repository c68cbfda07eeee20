"""A limiter for each key, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from waitkit.engine.locks import ForkSafeLock
from waitkit.rates.limiter import RateLimiter

__all__ = ["KeyedLimiters"]


class KeyedLimiters:
    """Limiters by key, made when first asked for.

    At *most* keys, those whose buckets are full and for which nobody waits are forgotten: a new one would be like them. Where
    none is, the one asked for longest ago goes, and its caller may use its burst once more.

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
        self._limiters: dict[Hashable, RateLimiter] = {}
        self._lock = ForkSafeLock()  # guards _limiters; the limiters have locks of their own

    def of(self, key: Hashable) -> RateLimiter:
        """The limiter of *key*."""
        limiter = self._limiters.get(key)
        if limiter is not None:
            return limiter
        made = self._make()
        crowd: list[tuple[Hashable, RateLimiter]] = []
        with self._lock:
            limiter = self._limiters.setdefault(key, made)
            if len(self._limiters) > self._most:
                crowd = [item for item in self._limiters.items() if item[0] != key]
        if crowd:
            gone = [known for known, other in crowd if other.idle] or [crowd[0][0]]
            with self._lock:
                for known in gone:
                    self._limiters.pop(known, None)
        return limiter

    def __len__(self) -> int:
        return len(self._limiters)
