"""Durations: read once, where they are written, into integer nanoseconds.

Inside waitkit every instant and every duration is an ``int`` of nanoseconds. Integers add up exactly, so a
deadline is met or it is not, and virtual time can repeat a run to the last digit; floats appear only in what
people write and read.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final, TypeAlias

__all__ = ["Duration", "Nanoseconds", "format_duration", "to_nanoseconds", "to_optional_nanoseconds"]

#: What a user may write: seconds as a number, a ``timedelta``, or a string such as ``"250ms"``.
Duration: TypeAlias = float | timedelta | str

#: An instant of the current clock, or a length of time, in nanoseconds.
Nanoseconds: TypeAlias = int

SECOND: Final = 1_000_000_000
MILLISECOND: Final = 1_000_000
MICROSECOND: Final = 1_000

_UNITS: Final = {
    "d": 86_400 * SECOND,
    "h": 3_600 * SECOND,
    "m": 60 * SECOND,
    "s": SECOND,
    "ms": MILLISECOND,
    "us": MICROSECOND,
    "ns": 1,
}
_PART: Final = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?)(ms|us|ns|d|h|m|s)")
# 30 billion years: what is longer is a slip, and would overflow where floats are needed.
_LONGEST: Final = 10**18 * SECOND
_FORMS: Final = (
    "accepted are seconds as a number (0.25), a timedelta, or a string of the units d, h, m, s, ms, us, ns "
    '("250ms", "10s", "1m30s", "2h")'
)


def to_nanoseconds(value: Duration, name: str = "duration") -> Nanoseconds:
    """Read a duration.

    Args:
        value: seconds as an ``int`` or ``float``, a ``timedelta``, or a string such as ``"1m30s"`` whose units
            go from large to small, each at most once. Never negative.
        name: the parameter to name in an error.

    Returns:
        The duration in nanoseconds, rounded to the nearest one.

    Raises:
        TypeError: *value* is of another type (``bool`` included: it is a number by accident only).
        ValueError: it is negative, NaN, infinite, or a string of another form.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta | str):
        raise TypeError(f"{name}={value!r} is not a duration: {_FORMS}")
    if isinstance(value, str):
        return _from_text(value, name)
    if isinstance(value, timedelta):
        nanoseconds = (value.days * 86_400 + value.seconds) * SECOND + value.microseconds * MICROSECOND
    else:
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(
                f"{name}={value!r} is not a finite duration: {_FORMS}; no limit is None, where it is allowed"
            )
        nanoseconds = round(value * SECOND) if abs(value) <= _LONGEST else _LONGEST + 1
        if value < 0:  # and be it less than half a nanosecond
            nanoseconds = -1
    if nanoseconds > _LONGEST:
        raise ValueError(f"{name} is beyond every clock: {_FORMS}")
    if nanoseconds < 0:
        raise ValueError(f"{name}={value!r} is negative: {_FORMS}")
    return nanoseconds


def to_optional_nanoseconds(value: Duration | None, name: str = "duration") -> Nanoseconds | None:
    """Read a duration where ``None`` means "no limit"; otherwise as :func:`to_nanoseconds`."""
    return None if value is None else to_nanoseconds(value, name)


def _from_text(text: str, name: str) -> Nanoseconds:
    position, total, smallest = 0, 0.0, float("inf")
    exact = 0
    while position < len(text):
        part = _PART.match(text, position)
        if part is None or _UNITS[part[2]] >= smallest:
            raise ValueError(f"{name}={text!r} is not a duration: {_FORMS}")
        smallest = _UNITS[part[2]]
        if "." in part[1]:
            total += float(part[1]) * smallest
        else:
            exact += int(part[1]) * int(smallest)
        position = part.end()
    if not text:
        raise ValueError(f"{name}={text!r} is not a duration: {_FORMS}")
    if exact + total > _LONGEST:
        raise ValueError(f"{name}={text[:40]!r} is beyond every clock: {_FORMS}")
    return exact + round(total)


def format_duration(nanoseconds: Nanoseconds) -> str:
    """Write a duration for people: ``"250 ms"``, ``"1.5 s"``, ``"2 min 5 s"``, ``"3 h 20 min"``.

    Args:
        nanoseconds: a length of time, 0 or more.

    Returns:
        At most two units and about three significant digits.
    """
    seconds = nanoseconds / SECOND
    if seconds >= 60:
        return _format_long(round(seconds))
    if seconds >= 1:
        # 9.99 s must not print as "10 s" where a limit of "10 s" stands beside it, so cut, do not round.
        return f"{int(seconds * 100) / 100:g} s"
    if nanoseconds >= MILLISECOND:
        return f"{_three_digits(nanoseconds / MILLISECOND)} ms"
    if nanoseconds == 0:
        return "0 s"
    return f"{_three_digits(nanoseconds / MICROSECOND)} us"


def _three_digits(number: float) -> str:
    return f"{min(number, 999.0):.0f}" if number >= 99.5 else f"{number:.3g}"


def _format_long(seconds: int) -> str:
    for size, unit, small_size, small_unit in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            big, rest = divmod(seconds, size)
            small = rest // small_size
            return f"{big} {unit} {small} {small_unit}" if small else f"{big} {unit}"
    return f"{seconds} s"
