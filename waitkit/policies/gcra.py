"""The generic cell rate algorithm on integers: a token bucket whose whole state is one number.

The *theoretical arrival time* (TAT) is the instant at which the bucket will be full again. A request of *n* tokens is due when
``TAT + n * period / count - burst * period / count`` has come, and moves the TAT on by ``n * period / count``. To keep
a rate such as 3 in 10 s exact, times are multiplied by *count*: a token then costs *period*, a whole number.

Source: ITU-T I.371, "Traffic control and congestion control in B-ISDN", annex on the GCRA (virtual scheduling).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

import attrs

from waitkit.ground.durations import MILLISECOND, SECOND, Nanoseconds, format_duration

__all__ = ["Bucket", "Rate"]

_UNITS: Final = {
    "ms": MILLISECOND,
    "s": SECOND,
    "sec": SECOND,
    "second": SECOND,
    "min": 60 * SECOND,
    "minute": 60 * SECOND,
    "h": 3_600 * SECOND,
    "hour": 3_600 * SECOND,
    "d": 86_400 * SECOND,
    "day": 86_400 * SECOND,
}
_RATE: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)/([0-9]{1,9})?([a-z]+)")
_FORMS: Final = 'accepted are "10/s", "500/min", "3/10s", "0.5/s", with the units ms, s, min, h and d'


@attrs.frozen
class Rate:
    """So many tokens in a period, and how many at once.

    Args:
        text: the rate: ``"10/s"``, ``"500/min"``, ``"3/10s"``. A single ``m`` is refused: minute, or month?
        burst: how many tokens may be used at once after a pause, 1 or more. In any stretch of time *t* at most
            ``burst + rate * t`` tokens fall due. ``None``: as many as the rate's own count.

    Raises:
        TypeError, ValueError: *text* is no rate, or *burst* no whole number of 1 or more.
    """

    text: str
    _given_burst: int | None = attrs.field(default=None, alias="burst")
    burst: int = attrs.field(init=False)
    count: int = attrs.field(init=False)
    period: Nanoseconds = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise TypeError(f"rate={self.text!r} is not a rate: {_FORMS}")
        match = _RATE.fullmatch(self.text)
        unit = _UNITS.get(match[3]) if match else None
        if match is None or unit is None or Fraction(match[1]) == 0 or match[2] == "0":
            raise ValueError(f"rate={self.text!r} is not a rate: {_FORMS}")
        tokens = Fraction(match[1])
        object.__setattr__(self, "count", tokens.numerator)
        object.__setattr__(self, "period", int(match[2] or 1) * unit * tokens.denominator)
        burst = tokens.numerator if self._given_burst is None else self._given_burst
        if isinstance(burst, bool) or not isinstance(burst, int) or burst < 1:
            raise ValueError(f"burst={burst!r} is not a whole number of tokens, 1 or more")
        object.__setattr__(self, "burst", burst)

    @property
    def interval(self) -> Nanoseconds:
        """The time of one token, rounded up."""
        return -(-self.period // self.count)

    def __str__(self) -> str:
        return f"{self.count} in {format_duration(self.period)}, {self.burst} at once"


Rate.__module__ = "waitkit"


class Bucket:
    """The state of one rate. Not locked: its owner does that, and hands in the instant."""

    __slots__ = ("rate", "tat")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        #: the theoretical arrival time, times ``rate.count``
        self.tat = 0

    def due(self, tokens: int, now: Nanoseconds, ahead: int = 0) -> Nanoseconds:
        """The instant at which *tokens* may be used, when *ahead* others go first. It may have passed."""
        rate = self.rate
        full = max(self.tat, now * rate.count) + (ahead + tokens - rate.burst) * rate.period
        return -(-full // rate.count)

    def charge(self, tokens: int, at: Nanoseconds) -> None:
        """Use *tokens* at an instant at which they are due."""
        self.tat = max(self.tat, at * self.rate.count) + tokens * self.rate.period

    def give_back(self, tokens: int) -> None:
        """Tokens that were charged, and not used, return. What a full bucket cannot hold is lost, as ever."""
        self.tat -= tokens * self.rate.period

    def empty_until(self, instant: Nanoseconds) -> None:
        """Have no token before *instant*, and one then."""
        rate = self.rate
        self.tat = max(self.tat, instant * rate.count + (rate.burst - 1) * rate.period)

    def change(self, rate: Rate, now: Nanoseconds) -> None:
        """Go on with another rate. Tokens in use stay in use, and return at the new rate."""
        old = self.rate
        used = max(0, self.tat - now * old.count)  # times the old period: tokens not returned yet
        self.tat = now * rate.count + -(-used * rate.period // old.period)
        self.rate = rate
