"""What can be asked of a poller, what its hooks hear, and what is logged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["PollHook", "PollRecord", "PollerState", "PollerStatus", "log_end", "log_recovery", "tell"]

PollerState: TypeAlias = Literal["new", "waiting", "running", "stopping", "stopped"]


class PollerStatus(NamedTuple):
    """A poller at one instant.

    Attributes:
        name: the function.
        state: ``"new"`` before its start; ``"waiting"`` for the next run; ``"running"``; ``"stopping"`` while a run goes on
            that is the last; ``"stopped"``.
        runs: how many runs have ended.
        failures: how many of the last runs in a row have failed.
        failed_runs: how many have failed in all.
        last_started: when the last run began, in UTC; ``None`` before the first.
        last_duration: how long the last run that has ended took, in seconds; ``None`` before the first.
        last_error: what the last run that has ended raised; ``None`` after a success.
        next_due: when the next run is due, in UTC; ``None`` while none is to come.
    """

    name: str
    state: PollerState
    runs: int
    failures: int
    failed_runs: int
    last_started: datetime | None
    last_duration: float | None
    last_error: BaseException | None
    next_due: datetime | None


class PollRecord(NamedTuple):
    """One run, as hooks hear of it.

    Attributes:
        name: the function.
        run: its number, from 1.
        duration: seconds since it began.
        error: what it raised; ``None`` where it still runs.
        failures: how many runs in a row have failed, this one included.
        next_in: seconds until the next run is due; ``None`` where it still runs, or none is to come.
        where: the line of code it is in, where it still runs; empty otherwise.
    """

    name: str
    run: int
    duration: float
    error: BaseException | None
    failures: int
    next_in: float | None
    where: str = ""


PollHook: TypeAlias = Callable[[PollRecord], object]

for _public in (PollRecord, PollerStatus):
    _public.__module__ = "waitkit"


def tell(hook: PollHook | None, record: PollRecord) -> None:
    """Log *record*, and hand it to *hook*. A hook that raises is logged, and changes nothing.

    Of failures in a row the first is logged at level ERROR with its traceback, the others at DEBUG: a service that is down
    for a night should not fill the disk.
    """
    import logging

    logger = logging.getLogger("waitkit.polls")
    if record.error is None:
        logger.warning("%s: run %d goes on after %.3g s, %s", record.name, record.run, record.duration, record.where)
    else:
        first = record.failures <= 1
        logger.log(
            logging.ERROR if first else logging.DEBUG,
            "%s: run %d has failed (%d in a row), next in %.3g s",
            record.name,
            record.run,
            record.failures,
            record.next_in or 0,
            exc_info=record.error if first else None,
        )
    if hook is not None:
        try:
            hook(record)
        except Exception:
            logger.exception("a hook of the poller %s raised", record.name)


def log_recovery(name: str, failures: int) -> None:
    """Log that a run has succeeded after failures."""
    import logging

    logging.getLogger("waitkit.polls").info("%s: well again after %d failed runs", name, failures)


def log_end(name: str, error: BaseException) -> None:
    """Log that *error* has ended a poller."""
    import logging

    logging.getLogger("waitkit.polls").error(
        "%s: ended by %s", name, type(error).__name__, exc_info=(type(error), error, error.__traceback__)
    )
