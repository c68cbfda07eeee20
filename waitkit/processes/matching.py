"""What a process writes, as a condition: woken by the thread that reads it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from waitkit.conditions.condition import Condition
from waitkit.conditions.sources import describe_value
from waitkit.engine.signals import Wake
from waitkit.ground.callers import Caller
from waitkit.ground.durations import Duration, Nanoseconds, to_optional_nanoseconds
from waitkit.ground.settings import DEFAULT, DefaultTimeout
from waitkit.processes.output import Output, Search, StreamName
from waitkit.processes.readiness import About
from waitkit.processes.subjects import subject_of
from waitkit.waits.drivers import Flow
from waitkit.waits.wait import Wait
from waitkit.waits.watching import NOT_YET, Context, Verdict, Watch

if TYPE_CHECKING:
    from waitkit.processes.life import Life

__all__ = ["output_matches", "writing"]


class _OutputMatches(Condition["re.Match[str]"]):
    def __init__(self, pattern: re.Pattern[str], stream: StreamName | None) -> None:
        self._pattern = pattern
        self._stream = stream

    @property
    def what(self) -> str:
        return f"its {self._stream or 'output'} to match {self._pattern.pattern!r}"

    def watch(self, context: Context) -> Watch:
        subject = subject_of(context, f"output_matches({self._pattern.pattern!r})")
        return _OutputWatch(self._pattern, self._stream, subject.output())


class _OutputWatch(Watch):
    """Its searches begin when it is made, so that nothing a process writes is lost before its first look."""

    __slots__ = ("_name", "_searches")
    outside = True

    def __init__(self, pattern: re.Pattern[str], name: StreamName | None, output: Output | None) -> None:
        self._searches = [] if output is None else [(stream, Search(pattern)) for stream in output.streams(name)]
        for stream, search in self._searches:
            stream.begin_search(search)

    def arm(self, wake: Wake) -> None:
        for stream, _ in self._searches:
            stream.changed.subscribe(wake, self)

    def look(self, now: Nanoseconds) -> Verdict:
        for stream, search in self._searches:
            found = stream.found_by(search)
            if found is not None:
                return Verdict(True, found)
        return NOT_YET

    def close(self) -> None:
        for stream, search in self._searches:
            stream.changed.unsubscribe(self)
            stream.end_search(search)

    def seen(self) -> str:
        last = [(stream.name, lines[-1]) for stream, _ in self._searches if (lines := stream.text().split("\n")[:-1])]
        return (
            "; ".join(f"the last line of its {name} is {describe_value(line)}" for name, line in last) or "no line yet"
        )


def output_matches(pattern: str | re.Pattern[str], stream: StreamName | None = None) -> Condition[Any]:
    """Holds when what a process has written matches a regular expression; its value is the ``re.Match``.

    For ``ready=`` of :func:`waitkit.managed_process` alone, which knows the process. The wait is woken when the process has
    written, never polling. All that the process writes from its start on is searched, however much it is and however fast it
    comes, and what was found stays found: other conditions may take their time. A match may lie across lines and reads, and
    be up to 256 KiB long; ``^`` is the beginning of a stream, or with ``re.MULTILINE`` that of a line. Programs that write to a
    pipe often hold back their output until some KiB have gathered; Python ones that are started by waitkit do not.

    Args:
        pattern: a regular expression, searched for anywhere: ``"Ready to accept"``.
        stream: ``"stdout"`` or ``"stderr"``; ``None``: either.

    Raises:
        TypeError, ValueError: *pattern* is no regular expression of text, or *stream* is none.
    """
    if stream not in (None, "stdout", "stderr"):
        raise ValueError(f'stream={stream!r} is none: give "stdout", "stderr", or None for both')
    return _OutputMatches(check_pattern(pattern), stream)


def check_pattern(pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    """A regular expression, compiled.

    Raises:
        TypeError, ValueError: it is none.
    """
    if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
        return pattern
    if not isinstance(pattern, str) or not pattern:
        raise TypeError(f"pattern={pattern!r} is no regular expression: give a text such as 'Ready to accept'")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"pattern={pattern!r} is no regular expression: {error}") from None


def writing(
    life: Life,
    pattern: str | re.Pattern[str],
    timeout: Duration | DefaultTimeout | None,
    stream: StreamName | None,
    caller: Caller | None = None,
) -> Flow[re.Match[str]]:
    """Wait until a process has written what matches; its end ends that."""
    limit = DEFAULT if timeout is DEFAULT else to_optional_nanoseconds(timeout, "timeout")
    about = About(output_matches(pattern, stream), life).described(f"{life.name} to write what matches {pattern!r}")
    match: re.Match[str] = yield Wait(about, limit, unless=life.exited, caller=caller)
    return match
