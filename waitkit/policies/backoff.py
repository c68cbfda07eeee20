"""Backoff: how long to wait before the next attempt. Pure: chance is handed in, no clock is read."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, get_args

import attrs

from waitkit.ground.durations import Duration, Nanoseconds, format_duration, to_nanoseconds

__all__ = ["Backoff", "Chance", "Jitter"]

#: A draw from [0, 1), such as ``random.random``.
Chance: TypeAlias = Callable[[], float]
Jitter: TypeAlias = Literal["full", "equal", "decorrelated", "none"]

_JITTERS: Final = get_args(Jitter)
_LARGEST: Final = sys.float_info.max


def _base(value: Duration) -> Nanoseconds:
    return to_nanoseconds(value, "base")


def _max_delay(value: Duration) -> Nanoseconds:
    return to_nanoseconds(value, "max_delay")


@attrs.frozen
class Backoff:
    """Exponential backoff with jitter, by the formulas of "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).

    With ``cap(n) = min(max_delay, base * factor**(n - 1))`` the delay after the *n*-th failure is

    - ``"full"``: uniform in [0, cap(n)];
    - ``"equal"``: half of cap(n), and uniform in [0, cap(n) / 2] on top;
    - ``"decorrelated"``: uniform in [base, min(max_delay, 3 * the delay before)]. The blog draws beyond the maximum and
      cuts, which puts two thirds of all clients at exactly the maximum; the draw here stays below it;
    - ``"none"``: cap(n).

    So jitter never exceeds the maximum, and never vanishes there.

    Args:
        base: the scale of the first delay.
        factor: by how much each delay is longer than the one before, at least 1.
        max_delay: no delay is longer; at least *base*.
        jitter: one of the above.

    Raises:
        TypeError, ValueError: an argument cannot be what it should be.
    """

    base: Nanoseconds = attrs.field(default="100ms", converter=_base)  # type: ignore[assignment]
    factor: float = attrs.field(default=2.0)
    max_delay: Nanoseconds = attrs.field(default=10, converter=_max_delay)
    jitter: Jitter = attrs.field(default="full")
    # The first n for which base * factor**(n - 1) reaches the maximum: the power is never computed beyond it.
    _saturated: float = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        factor = self.factor
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor <= _LARGEST:
            raise ValueError(f"factor={factor!r:.40} is not a number of at least 1 that a float can hold")
        if self.jitter not in _JITTERS:
            raise ValueError(f"jitter={self.jitter!r} is none of {', '.join(map(repr, _JITTERS))}")
        if self.max_delay < self.base:
            raise ValueError(
                f"max_delay={format_duration(self.max_delay)} is shorter than base={format_duration(self.base)}"
            )
        saturated = math.inf
        if factor > 1 and self.base > 0:
            saturated = 1 + math.log(self.max_delay / self.base) / math.log(factor)
        object.__setattr__(self, "_saturated", saturated)

    def cap(self, failures: int) -> Nanoseconds:
        """The longest delay after so many failures, 1 or more, in nanoseconds."""
        if self.base == 0:
            return 0
        if failures >= self._saturated:
            return self.max_delay
        return min(self.max_delay, round(self.base * float(self.factor) ** (failures - 1)))

    def delay(self, failures: int, chance: Chance, previous: Nanoseconds = 0) -> Nanoseconds:
        """The delay after so many failures, in nanoseconds.

        Args:
            failures: how many there were in a row, 1 or more.
            chance: draws from [0, 1).
            previous: the delay before this one, for ``"decorrelated"``; 0 for the first.
        """
        if self.jitter == "decorrelated":
            top = min(self.max_delay, 3 * max(previous, self.base))
            return self.base + round(chance() * (top - self.base))
        cap = self.cap(failures)
        if self.jitter == "full":
            return round(chance() * cap)
        if self.jitter == "equal":
            return cap // 2 + round(chance() * (cap - cap // 2))
        return cap


Backoff.__module__ = "waitkit"
