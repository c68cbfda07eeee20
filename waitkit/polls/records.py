"""What can be asked of a poller, what its hooks hear, and what is logged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["PollHook", "PollRecord", "PollerState", "PollerStatus", "log_broken", "log_end", "log_recovery", "tell"]

PollerState: TypeAlias = Literal["new", "waiting", "running", "stopping", "stopped"]


class PollerStatus(NamedTuple):
    """A poller at one instant.

    Attributes:
        name: the function.
        state: ``"new"`` before its start; ``"waiting"`` for the next run; ``"running"``; ``"stopping"`` while a run goes on
            that is the last; ``"stopped"``.
        runs: how many runs have ended.
        failures: how many of the last runs in a row have failed; one that ``stop(cancel=True)`` has ended counts neither way.
        failed_runs: how many have failed in all.
        last_started: when the last run began, in UTC; ``None`` before the first.
        last_duration: how long the last run that has ended took, in seconds; ``None`` before the first.
        last_error: what the last run raised that has ended by itself; ``None`` after a success.
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
    """One run, as hooks hear of it; or a trigger or ``until`` that raised, so that nobody knows whether it holds.

    Attributes:
        name: the function.
        run: its number, from 1; 0 where *condition* is not empty, as no run has taken place.
        duration: seconds since it began; 0.0 where none has.
        error: what was raised; ``None`` where the run goes on.
        failures: how many in a row have failed, this one included: runs, or looks at *condition*.
        next_in: seconds until the next run is due, or until *condition* is looked at again at the latest; ``None`` where the run
            goes on, or none is to come.
        where: the line of code it is in, where it still runs; empty otherwise.
        condition: the condition that raised, in words: ``"trigger (port 5432 to listen)"``; empty where this is about a run.
    """

    name: str
    run: int
    duration: float
    error: BaseException | None
    failures: int
    next_in: float | None
    where: str = ""
    condition: str = ""


PollHook: TypeAlias = Callable[[PollRecord], object]

for _public in (PollRecord, PollerStatus):
    _public.__module__ = "waitkit"


def tell(hook: PollHook | None, record: PollRecord) -> None:
    """Log *record*, and hand it to *hook*. A hook that raises is logged, and changes nothing.

    Of failures in a row the first is logged at level ERROR with its traceback, the others at DEBUG: a service that is down
    for a night should not fill the disk.
    """
    import logging

    if record.error is None:
        logging.getLogger("waitkit.polls").warning(
            "%s: run %d goes on after %.3g s, %s", record.name, record.run, record.duration, record.where
        )
    elif record.condition:
        _log_failure(record, "its %s could not be looked at (%d in a row), again within %.3g s", record.condition)
    else:
        _log_failure(record, "run %d has failed (%d in a row), next in %.3g s", record.run)
    if hook is not None:
        try:
            hook(record)
        except Exception:  # noqa: BLE001 - it is logged
            log_broken(record.name, "a hook")


def _log_failure(record: PollRecord, text: str, of_what: object) -> None:
    import logging

    first = record.failures <= 1
    logging.getLogger("waitkit.polls").log(
        logging.ERROR if first else logging.DEBUG,
        f"%s: {text}",
        record.name,
        of_what,
        record.failures,
        record.next_in or 0,
        exc_info=record.error if first else None,
    )


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


def log_broken(name: str, what: str) -> None:
    """Log that *what* of a poller has raised the exception that is being handled, and that the poller goes on."""
    import logging

    logging.getLogger("waitkit.polls").exception("%s of the poller %s raised", what, name)
