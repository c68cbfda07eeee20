"""Long waits, as they go on: a live line where somebody looks at a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Protocol, Self, TextIO

from waitkit.cli.telling import say
from waitkit.ground.durations import SECOND, Duration
from waitkit.ground.records import Subscriber, WaitRecord, subscribe
from waitkit.ground.settings import DEFAULT, DefaultTimeout, scaled

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
        after: how long a wait must have gone on to be shown; left out: 1 s, stretched as all defaults are.
        words: what to say of a wait.
        live: False for plain lines in any case, as others write to the terminal, too.

    Raises:
        TypeError, ValueError: *after* is no duration; ``WAITKIT_TIMEOUT_SCALE`` is no number.
    """

    def __init__(
        self,
        after: Duration | DefaultTimeout = DEFAULT,
        words: Callable[[WaitRecord], str] = "waiting for {}".format,
        *,
        live: bool = True,
    ) -> None:
        self._after: Duration = scaled(SECOND) / SECOND if after is DEFAULT else after
        self._words = words
        self._line = _line_for(sys.stderr) if live else _PlainLines()
        self._subscription: Subscriber | None = None

    def __enter__(self) -> Self:
        thread = threading.current_thread().name

        # Other threads wait too, and may do so for hours; their records come in their threads.
        def goes_on(record: WaitRecord) -> None:
            if record.thread == thread:
                self._line.show(self._words(record))

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


def _line_for(stream: TextIO | None) -> _Line:
    if stream is not None and stream.isatty():
        from importlib.util import find_spec

        if find_spec("rich") is not None:  # it is an extra; the plain lines say the same
            return _LiveLine(stream)
    return _PlainLines()


class _LiveLine:
    """One line that changes. rich is imported when there is something to show: most waits end before."""

    growth = _LIVE_GROWTH

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live: Any = None
        self._text: Any = None
        self._shown = False

    def show(self, text: str) -> None:
        if self._live is None:
            self._begin()
        if not self._shown:
            self._live.start()
            self._shown = True
        self._live.update(self._text(text, no_wrap=True, overflow="ellipsis", style="dim"), refresh=True)

    def _begin(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self._live = Live(console=Console(file=self._stream), transient=True, auto_refresh=False)
        self._text = Text

    def clear(self) -> None:
        if self._shown:
            self._shown = False
            self._live.update("")
            self._live.stop()


class _PlainLines:
    growth = _PLAIN_GROWTH

    def show(self, text: str) -> None:
        say(text)

    def clear(self) -> None:
        """What is printed stays."""
