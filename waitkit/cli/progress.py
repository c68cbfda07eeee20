"""Long waits, as they go on: a live line where somebody looks at a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Any, Final, Protocol, Self, TextIO

from waitkit.ground.durations import Duration
from waitkit.ground.records import Subscriber, WaitRecord, subscribe

__all__ = ["LongWaits"]

# A live line is told often, as each report replaces the one before; plain lines add up.
_LIVE_GROWTH: Final = 1.05
_PLAIN_GROWTH: Final = 2.0


class _Line(Protocol):
    growth: float

    def show(self, text: str) -> None:
        """A wait goes on."""

    def clear(self) -> None:
        """It has ended."""


class LongWaits:
    """For the length of a block, show on stderr which wait of this thread goes on, once it has lasted *after*.

    With rich installed, and a terminal to write to, it is one line that changes and goes away with its wait. Otherwise a
    line is printed when the wait has lasted *after*, and twice as long, and so on.

    Args:
        after: how long a wait must have gone on to be shown.
        stream: where to write; ``None``: stderr.

    Raises:
        TypeError, ValueError: *after* is no duration.
    """

    def __init__(self, after: Duration = "500ms", stream: TextIO | None = None) -> None:
        self._after = after
        self._line = _line_for(sys.stderr if stream is None else stream)
        self._subscription: Subscriber | None = None

    def __enter__(self) -> Self:
        thread = threading.current_thread().name

        # Other threads wait too, and may do so for hours; their records come in their threads.
        def goes_on(record: WaitRecord) -> None:
            if record.thread == thread:
                self._line.show(f"waiting for {record}")

        def has_ended(record: WaitRecord) -> None:
            if record.thread == thread:
                self._line.clear()

        self._subscription = subscribe(
            has_ended, on_progress=goes_on, progress_after=self._after, progress_growth=self._line.growth
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._subscription is not None:
            self._subscription.close()
        self._line.clear()


def _line_for(stream: TextIO) -> _Line:
    if stream.isatty():
        try:
            from rich.console import Console
            from rich.live import Live
            from rich.text import Text
        except ImportError:
            pass  # rich is an extra; the plain lines say the same
        else:
            live = Live(console=Console(file=stream), transient=True, auto_refresh=False)
            return _LiveLine(live, Text)
    return _PlainLines(stream)


class _LiveLine:
    growth = _LIVE_GROWTH

    def __init__(self, live: Any, text: Any) -> None:
        self._live = live
        self._text = text
        self._shown = False

    def show(self, text: str) -> None:
        if not self._shown:
            self._live.start()
            self._shown = True
        self._live.update(self._text(text, no_wrap=True, overflow="ellipsis", style="dim"), refresh=True)

    def clear(self) -> None:
        if self._shown:
            self._shown = False
            self._live.update("")
            self._live.stop()


class _PlainLines:
    growth = _PLAIN_GROWTH

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def clear(self) -> None:
        """What is printed stays."""
