"""Made-up waits for tests of the report."""

from __future__ import annotations

import random

from waitkit.ground.durations import MILLISECOND
from waitkit.report.rows import MAIN, Row

#: In milliseconds, as row() takes them.
HOUR = 3_600_000
OUTCOMES = ("held", "timeout", "failed", "cancelled", "error")


def row(start: int, end: int, **facts: object) -> Row:
    """A wait from *start* to *end*, in milliseconds."""
    made = Row(
        what="the tide",
        outcome="held",
        thread="MainThread",
        thread_id=1,
        task="",
        start=start * MILLISECOND,
        end=end * MILLISECOND,
        limit=10_000 * MILLISECOND,
        looks=3,
        last="None",
        caller="tests/test_sea.py:7",
        overshoot=MILLISECOND // 2,
        tries=[],
        test="tests/test_sea.py::test_tide",
        process=MAIN,
        pid=100,
        clock=0,
    )
    made.update(facts)  # type: ignore[typeddict-item]
    return made


def many(count: int, threads: int = 6) -> list[Row]:
    """Waits of some threads, one after the other in each, the same in every run."""
    chance = random.Random(3)
    free = [0] * threads
    rows = []
    for _ in range(count):
        thread = chance.randrange(threads)
        start = free[thread] + chance.randrange(1, 30)
        free[thread] = end = start + chance.randrange(1, 60)
        outcome = chance.choices(OUTCOMES, [90, 4, 3, 2, 1])[0]
        port = 5000 + chance.randrange(40)
        rows.append(
            row(
                start,
                end,
                what=f"port {port} to listen",
                outcome=outcome,
                thread=f"client-{thread}",
                thread_id=thread,
                looks=chance.randrange(1, 60),
                last="connection refused",
                caller=f"tests/test_{chance.choice(['orders', 'stock', 'mail'])}.py:{chance.randrange(90)}",
                overshoot=(end - start) * MILLISECOND // 20,
                tries=[(start * MILLISECOND, end * MILLISECOND, 9, "connection refused")],
                test=f"tests/test_orders.py::test_{chance.randrange(300)}",
            )
        )
    return rows


def mixed() -> list[Row]:
    """Waits in real time, of two virtual clocks of one process, and of one of another process."""
    first, second = 5_000_000_000, 7_000_000_000  # where virtual clocks begin is chance
    return [
        row(1_000, 1_400, what="a real thing", test="t.py::test_real"),
        row(second, second + HOUR, what="an hour", clock=2, test="t.py::test_b"),
        row(1_500, 1_600, what="another real thing", process="gw1", pid=101, test="t.py::test_real"),
        row(first, first + 60_000, what="a minute", clock=1, test="t.py::test_a"),
        row(first + 60_000, first + 90_000, what="half a minute", clock=1, test="t.py::test_a", task="reader"),
        row(first + 5, first + 6, what="a moment", clock=1, process="gw1", pid=101, test=""),
    ]


#: Some hundred waits, and one unlike the others.
ROWS = [
    *many(400),
    row(40, 90, what="a rare thing <b>", outcome="timeout", caller="tests/rare.py:1", test="tests/rare.py::test_rare"),
]
