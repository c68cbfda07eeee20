"""Recording: the waits of a program, collected as they end, written when the block is left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from waitkit.engine.forks import generation
from waitkit.ground.records import Subscriber, WaitRecord, subscribe
from waitkit.report.clocks import Clocks
from waitkit.report.rows import MAIN, Row, row_of

__all__ = ["Recorder", "recording"]

# About 600 bytes each.
_MOST: Final = 500_000


class Recorder:
    """Collects the rows of all waits of this process while it is subscribed.

    Args:
        process: the name of this process in the report.
        most: how many rows are kept; what comes later is counted.
    """

    def __init__(self, process: str = MAIN, most: int = _MOST) -> None:
        self._process = process
        self._most = most
        self._rows: list[Row] = []
        self._clocks = Clocks()
        self._generation = generation()
        #: the test that runs now
        self.test = ""
        #: how many waits found no room
        self.dropped = 0

    def subscribe(self) -> Subscriber:
        """Hear of all waits from now on, until the subscription is closed."""
        return subscribe(self.add, tries=True)

    def add(self, record: WaitRecord) -> None:
        """Keep the row of a wait that has just ended. One of a forked child is not ours to tell."""
        if self._generation != generation():
            return
        if len(self._rows) >= self._most:
            self.dropped += 1
            return
        self._rows.append(row_of(record, self._clocks.number(record.end), self.test, self._process))

    def take(self) -> list[Row]:
        """The rows since the last call."""
        count = len(self._rows)  # other threads go on adding behind it
        taken, self._rows[:count] = self._rows[:count], []
        return taken


@contextmanager
def recording(path: str | os.PathLike[str]) -> Iterator[None]:
    """Record all waits of this process, in all threads and tasks, for the length of a block, and write them to a file.

    ::

        with recording("waits.json"):       # opens in Perfetto; "waits.html" is a page for any browser
            ...

    The file is written on every way out of the block. At most 500,000 waits are kept; the rest is counted in it.

    Args:
        path: what to write, in a directory that exists: ``.json`` for a Chrome trace, which ``waitkit report`` makes a page
            of; ``.html`` for that page.

    Raises:
        TypeError: *path* is no path.
        ValueError: it ends neither in ``.json`` nor in ``.html``.
        FileNotFoundError: its directory does not exist (on entering the block).
        OSError: it cannot be written (on leaving it).
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path={path!r} is no path: give a str or a pathlib.Path that ends in .json or .html")
    target = Path(path).absolute()
    if target.suffix not in (".json", ".html"):
        raise ValueError(f"path={os.fspath(path)!r} ends neither in .json (a Chrome trace) nor in .html (a page)")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no directory {target.parent} to write {target.name} in")
    recorder, owner = Recorder(), generation()
    subscription = recorder.subscribe()
    try:
        yield
    finally:
        subscription.close()
        if owner == generation():
            _write(recorder, target)


def _write(recorder: Recorder, target: Path) -> None:
    rows = recorder.take()
    if target.suffix == ".json":
        from waitkit.report.trace import write_trace

        write_trace(rows, target, dropped=recorder.dropped)
    else:
        from waitkit.report.page import write_page

        write_page(rows, target, dropped=recorder.dropped)
