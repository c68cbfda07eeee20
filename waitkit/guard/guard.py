"""The guard: installed around a run of tests, asked at the end of each."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from waitkit.guard.busy import BusyLoops
from waitkit.guard.ledger import Ledger, Slept
from waitkit.guard.patches import Patches

__all__ = ["SleepGuard"]


class SleepGuard:
    """Measures what this process sleeps, in all its threads, between :meth:`install` and :meth:`remove`.

    Counted are ``time.sleep``, ``asyncio.sleep``, waits of ``threading.Event`` and ``threading.Condition`` (and of what
    stands on them: queues, barriers, futures) that nobody notified until their timeout, and loops that poll without a rest
    in the main thread. ``sleep(0)`` and the waits of waitkit itself are not. A forked child counts nothing.
    """

    def __init__(self) -> None:
        self._ledger = Ledger()
        self._patches = Patches(self._ledger)
        self._busy = BusyLoops(self._ledger)

    def install(self) -> None:
        """Begin to measure."""
        self._patches.install()
        self._busy.install()

    def remove(self) -> None:
        """Measure no more; everything is as it was."""
        self._busy.remove()
        self._patches.remove()

    def take(self) -> Slept:
        """What was slept since the last call. The thread that calls is the one whose sleeping counts as guessed time."""
        self._busy.judge()
        return self._ledger.take()

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()
