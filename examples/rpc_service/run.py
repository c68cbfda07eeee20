"""Runs an edition, test after test, and tells for each what it waited for, what it slept, and how long it took."""

from __future__ import annotations

import multiprocessing
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import waitkit

from .edition import Edition
from .lifecycle import LIFECYCLE, LifecycleTest
from .sleeping import Sleeping, planned
from .waiting import Waiting

EDITIONS: dict[str, Callable[[], Edition[Any]]] = {"waiting": Waiting, "sleeping": Sleeping}


@dataclass(frozen=True)
class Outcome:
    """One test that has ended.

    Attributes:
        title: what the test says, in words.
        error: why it failed; ``None`` where it passed.
        seconds: from its first line to its last process gone.
        waits: what was waited for with waitkit in the test's own thread, and for how many seconds, in order.
        slept: the seconds slept in the test's own thread.
        would_sleep: what the sleeping edition sleeps for the steps that this test took.
    """

    title: str
    error: str | None
    seconds: float
    waits: tuple[tuple[str, float], ...]
    slept: float
    would_sleep: float

    @property
    def waited(self) -> float:
        """The sum of its waits, in seconds."""
        return sum(seconds for _, seconds in self.waits)


def run(name: str, tests: Iterable[LifecycleTest] = LIFECYCLE) -> Iterator[Outcome]:
    """Run *tests* in the edition *name*, ``"waiting"`` or ``"sleeping"``, and yield each outcome as it is known."""
    for test in tests:
        yield _run_one(EDITIONS[name](), test)


def _run_one(edition: Edition[Any], test: LifecycleTest) -> Outcome:
    records: list[waitkit.WaitRecord] = []
    error = None
    began = time.monotonic()
    with waitkit.subscribe(on_end=records.append):
        try:
            with edition:
                test(edition)
        except Exception as trouble:  # noqa: BLE001  a test that fails is an outcome, whatever it raised
            error = f"{type(trouble).__name__}: {trouble}".rstrip(": ")
        except BaseException:
            _end_children()
            raise
        seconds = time.monotonic() - began
    return Outcome(
        title=title(test),
        error=error,
        seconds=seconds,
        waits=tuple(_summed(records)),
        slept=edition.slept,
        would_sleep=planned(edition.steps),
    )


def _end_children() -> None:
    """End the services that an interrupt has left: one that came amid a launch found nobody who knew of the new process."""
    for child in multiprocessing.active_children():
        child.kill()
        child.join()


def title(test: LifecycleTest) -> str:
    """The name of a test in words."""
    return test.__name__.replace("_s_", "'s ").replace("_", " ")


def _summed(records: list[waitkit.WaitRecord]) -> Iterator[tuple[str, float]]:
    """The waits of this thread, those for the same thing as one. What other threads waited went on beside them."""
    here = threading.current_thread().name
    sums: dict[str, float] = {}
    for record in records:
        if record.thread == here:
            # "serve (pid 812) to be ready: its ready_event to be set" is "serve to be ready" here.
            what = re.sub(r" \(pid \d+\)| \d+(?= to | of )|: .*", "", record.what)
            sums[what] = sums.get(what, 0.0) + record.elapsed
    yield from sums.items()
