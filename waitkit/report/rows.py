"""One wait of a report: plain data, so that it travels between processes and through JSON."""

from __future__ import annotations

import os
from typing import Final, TypedDict

from waitkit.ground.records import WaitRecord

__all__ = ["MAIN", "Row", "row_of"]

#: The process of a run that has only one.
MAIN: Final = "main"


class Row(TypedDict):
    """A wait that has ended. Instants and durations are integer nanoseconds, of the clock the wait used.

    Attributes:
        what, outcome, thread, thread_id, task, start, end, limit, looks, last, caller, overshoot: as in ``WaitRecord``.
        tries: start, end, looks and what was seen, of each of the record's tries.
        test: the test that was running; empty outside of tests.
        process: which process of the run waited: ``"main"``, or the name of a pytest-xdist worker.
        pid: the number of that process.
        clock: the number of the clock the wait used: 0 is the system's; the virtual clocks of a process count from 1.
    """

    what: str
    outcome: str
    thread: str
    thread_id: int
    task: str
    start: int
    end: int
    limit: int | None
    looks: int
    last: str
    caller: str
    overshoot: int
    tries: list[tuple[int, int, int, str]]
    test: str
    process: str
    pid: int
    clock: int


def row_of(record: WaitRecord, clock: int, test: str = "", process: str = MAIN) -> Row:
    """The row of a wait of this process.

    Args:
        record: what the wait told.
        clock: the number of its clock.
        test: the test that was running.
        process: the name of this process in the report.
    """
    return Row(
        what=_writable(record.what),
        outcome=record.outcome,
        thread=_writable(record.thread),
        thread_id=record.thread_id,
        task=_writable(record.task),
        start=record.start,
        end=record.end,
        limit=record.limit,
        looks=record.looks,
        last=_writable(record.last),
        caller=_writable(record.caller),
        overshoot=record.overshoot,
        tries=[(one.start, one.end, one.looks, _writable(one.seen)) for one in record.tries],
        test=_writable(test),
        process=process,
        pid=os.getpid(),
        clock=clock,
    )


def _writable(text: str) -> str:
    """*text*, with what no UTF-8 can hold (half of a surrogate pair, as in a name of a file that is none) as an escape."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
