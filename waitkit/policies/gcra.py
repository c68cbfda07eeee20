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

    __slots__ = ("_closed_until", "_least", "rate", "tat")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        #: the theoretical arrival time that its charges come to, times ``rate.count``
        self.tat = 0
        # A pause is kept apart from the charges, so that neither taking one back nor another rate changes its length.
        self._closed_until: Nanoseconds | None = None
        self._least = 0  # what the pause makes of the theoretical arrival time

    def due(self, tokens: int, now: Nanoseconds, ahead: int = 0) -> Nanoseconds:
        """The instant at which *tokens* may be used, when *ahead* others go first. It may have passed."""
        rate = self.rate
        full = self._tat_at(now * rate.count) + (ahead + tokens - rate.burst) * rate.period
        return -(-full // rate.count)

    def charge(self, tokens: int, at: Nanoseconds) -> None:
        """Use *tokens* at an instant at which they are due. To take that back, put :attr:`tat` back to what it was."""
        self.tat = self._tat_at(at * self.rate.count) + tokens * self.rate.period

    def _tat_at(self, instant: int) -> int:
        if self._least > instant:  # comparisons, as they cost a third of max()
            instant = self._least
        return max(instant, self.tat)

    def close_until(self, instant: Nanoseconds) -> None:
        """Have no token before *instant*, and one then."""
        self._closed_until = instant if self._closed_until is None else max(instant, self._closed_until)
        self._read_pause()

    def change(self, rate: Rate, now: Nanoseconds) -> None:
        """Go on with another rate. The tokens that are there stay there, as many as the new burst holds; none come with it.

        So windows that span the change hold no more than the burst at their start, and what flows at either rate.
        """
        old = self.rate
        if self._closed_until is not None and self._closed_until <= now:
            # A pause that is over has done what it does: what has come since is there, and the new rate knows nothing of it.
            self.tat = self._tat_at(now * old.count)
            self._closed_until, self._least = None, 0
        there = old.burst * old.period - max(
            0, self.tat - now * old.count
        )  # in the old period; below 0 when promised ahead
        # More than the new burst holds makes an instant that has passed, which counts as full.
        self.tat = now * rate.count + rate.burst * rate.period - there * rate.period // old.period
        self.rate = rate
        self._read_pause()

    def _read_pause(self) -> None:
        if self._closed_until is not None:
            self._least = self._closed_until * self.rate.count + (self.rate.burst - 1) * self.rate.period
