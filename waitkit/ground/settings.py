"""Defaults of every wait: the timeout where none is given, and how often a probed condition is looked at."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Literal, NamedTuple, TypeAlias

from waitkit.ground.durations import MILLISECOND, SECOND, Duration, Nanoseconds, to_nanoseconds, to_optional_nanoseconds

__all__ = ["DEFAULT", "DefaultTimeout", "Settings", "current_settings", "defaults", "scaled", "set_defaults"]


class _Marker(enum.Enum):
    DEFAULT = "the default"

    def __repr__(self) -> str:
        return "DEFAULT"


#: The value of a parameter that was left out.
DEFAULT: Final = _Marker.DEFAULT
DefaultTimeout: TypeAlias = Literal[_Marker.DEFAULT]


class Settings(NamedTuple):
    """What a wait takes where its caller says nothing.

    Attributes:
        timeout: the timeout of a wait that no scope limits either, in nanoseconds; ``None`` waits without limit.
        probe_cap: the longest gap between two looks at a probed condition, in nanoseconds.
    """

    timeout: Nanoseconds | None = 10 * SECOND
    probe_cap: Nanoseconds = 250 * MILLISECOND


_process_wide = Settings()
_scoped: ContextVar[Settings | None] = ContextVar("waitkit_settings", default=None)


def current_settings() -> Settings:
    """The settings in force here: those of the innermost :func:`defaults` block, else the process-wide ones."""
    return _scoped.get() or _process_wide


def _changed(
    settings: Settings, timeout: Duration | DefaultTimeout | None, probe_cap: Duration | DefaultTimeout
) -> Settings:
    if timeout is not DEFAULT:
        settings = settings._replace(timeout=to_optional_nanoseconds(timeout, "timeout"))
    if probe_cap is not DEFAULT:
        cap = to_nanoseconds(probe_cap, "probe_cap")
        if cap < MILLISECOND:
            raise ValueError(f"probe_cap={probe_cap!r} is below 1 ms, the shortest gap between two looks")
        settings = settings._replace(probe_cap=cap)
    return settings


def set_defaults(
    *, timeout: Duration | DefaultTimeout | None = DEFAULT, probe_cap: Duration | DefaultTimeout = DEFAULT
) -> None:
    """Set the defaults of all waits in this process; what is left out stays as it is.

    Args:
        timeout: for waits that give none and that no scope limits; ``None`` lets them wait without limit. It is
            10 s at first.
        probe_cap: the longest gap between two looks at a probed condition, at least 1 ms. It is 250 ms at first.

    Raises:
        TypeError, ValueError: a value is no duration.
    """
    global _process_wide
    _process_wide = _changed(_process_wide, timeout, probe_cap)


@contextmanager
def defaults(
    *, timeout: Duration | DefaultTimeout | None = DEFAULT, probe_cap: Duration | DefaultTimeout = DEFAULT
) -> Iterator[None]:
    """Set the defaults of the waits inside a ``with`` block, in this thread or task only.

    Args:
        timeout: as for :func:`set_defaults`.
        probe_cap: as for :func:`set_defaults`.

    Raises:
        TypeError, ValueError: a value is no duration.
    """
    token = _scoped.set(_changed(current_settings(), timeout, probe_cap))
    try:
        yield
    finally:
        _scoped.reset(token)


def scaled(timeout: Nanoseconds) -> Nanoseconds:
    """Stretch a default by ``WAITKIT_TIMEOUT_SCALE``, for machines that are slow as a whole.

    Args:
        timeout: a default, in nanoseconds. What a caller gives explicitly is never stretched.

    Returns:
        *timeout* times the number in the environment, or unchanged where there is none.

    Raises:
        ValueError: the variable holds no number above 0.
    """
    text = os.environ.get("WAITKIT_TIMEOUT_SCALE")
    if not text:
        return timeout
    try:
        scale = float(text)
    except ValueError:
        scale = -1.0
    if not 0 < scale <= 1_000_000:
        raise ValueError(
            f"WAITKIT_TIMEOUT_SCALE={text!r} is not a number above 0 (and at most a million), such as 1 or 2.5"
        )
    return round(timeout * scale)
