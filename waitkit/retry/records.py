"""What hooks hear of a retry, what a call can ask about its own attempt, and what is logged."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from waitkit.ground.durations import Nanoseconds, format_duration

if TYPE_CHECKING:
    from logging import Logger

__all__ = [
    "Attempt",
    "Mark",
    "RetryHook",
    "RetryRecord",
    "Running",
    "current",
    "current_attempt",
    "current_attempt_mark",
    "is_logged",
    "tell",
]


class Attempt(NamedTuple):
    """One attempt, as the code inside sees it.

    Attributes:
        number: 1 for the first.
        previous: the exception of the attempt before; ``None`` for the first, and where a result was retried.
    """

    number: int
    previous: Exception | None


#: What tells an attempt from all others, by identity. A retry inside of it that gives up adds an entry, so that one look tells
#: whether any has.
Mark: TypeAlias = list[None]

#: An attempt in progress: its number, the exception of the one before, and its mark. A plain tuple: the first attempt of each
#: call makes one, and mostly nobody asks.
Running: TypeAlias = tuple[int, Exception | None, Mark]

current: Final[ContextVar[Running | None]] = ContextVar("waitkit_attempt", default=None)


def current_attempt() -> Attempt | None:
    """The attempt this code runs in: of the innermost retry around; ``None`` outside of one."""
    running = current.get()
    return None if running is None else Attempt(*running[:2])


def current_attempt_mark() -> Mark | None:
    """The mark of the attempt this code runs in; ``None`` outside of one."""
    running = current.get()
    return None if running is None else running[2]


class RetryRecord(NamedTuple):
    """One failed attempt.

    Attributes:
        name: the function that is retried, or ``"block"``.
        attempt: its number, from 1.
        error: its exception; ``None`` where a result is retried.
        result: the result that is retried; ``None`` where there was an exception.
        delay: seconds until the next attempt at the latest; ``None`` when giving up.
        elapsed: seconds since the first attempt began.
        why: the reason for giving up; empty before the next attempt.
    """

    name: str
    attempt: int
    error: Exception | None
    result: object
    delay: float | None
    elapsed: float
    why: str


RetryHook: TypeAlias = Callable[[RetryRecord], object]

for _public in (Attempt, RetryRecord):
    _public.__module__ = "waitkit"


_INFO: Final = 20
_logger: Logger | None = None


def is_logged() -> bool:
    """Whether retries are logged: at level INFO of the logger ``waitkit.retry``. Nobody has set that up without logging."""
    global _logger
    if _logger is None:
        if "logging" not in sys.modules:
            return False
        import logging

        _logger = logging.getLogger("waitkit.retry")
    return _logger.isEnabledFor(_INFO)


def tell(hook: RetryHook | None, record: RetryRecord) -> None:
    """Log *record*, and hand it to *hook*. Arguments, results and messages are not logged: they may hold secrets.

    A hook that raises is logged: it changes nothing about the retry.
    """
    import logging

    logger = logging.getLogger("waitkit.retry")
    kind = "a result" if record.error is None else type(record.error).__name__
    then = (
        f"gave up: {record.why}" if record.delay is None else f"next in {format_duration(_nanoseconds(record.delay))}"
    )
    logger.info("%s: attempt %d ended in %s, %s", record.name, record.attempt, kind, then)
    if hook is not None:
        try:
            hook(record)
        except Exception:
            logger.exception("a retry hook of %s raised", record.name)


def tell_broken(function: Callable[..., Any] | None, error: Exception) -> None:
    """Log that the condition which may end a delay has raised *error*."""
    import logging

    logging.getLogger("waitkit.retry").warning(
        "%s: ready= raised, so the delay is served in full", name_of(function), exc_info=error
    )


def name_of(function: Callable[..., Any] | None) -> str:
    """What a log calls it: never its ``repr``, which tells the arguments of a partial."""
    if function is None:
        return "block"
    inner = getattr(function, "func", function)  # functools.partial
    return getattr(inner, "__qualname__", None) or type(inner).__qualname__


def _nanoseconds(seconds: float) -> Nanoseconds:
    return round(seconds * 1e9)
