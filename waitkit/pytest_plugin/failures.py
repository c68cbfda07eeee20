"""Failed waits in pytest's output: our frames are left out, and a short section tells what the wait knows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

import pytest

from waitkit.ground.durations import format_duration
from waitkit.ground.errors import Cancelled, WaitFacts, WaitkitError
from waitkit.ground.records import Try

__all__ = ["hide_our_frames", "sections"]

_MOST_TRIES: Final = 8
_MOST_WAITS: Final = 3
# The demo is the user's side; where a fixture fails the test by itself, pytest wants a frame to say so.
_SHOWN: Final = ("waitkit.demo", "waitkit.pytest_plugin.leaks")


def hide_our_frames() -> None:
    """Have pytest leave waitkit's frames out of tracebacks.

    pytest asks the namespaces of each frame for ``__tracebackhide__``. It is put into ours when a test has failed: nothing
    of it is there in production.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("waitkit.") and not name.startswith(_SHOWN):
            vars(module).setdefault("__tracebackhide__", _is_not_about_us)


def _is_not_about_us(excinfo: pytest.ExceptionInfo[BaseException] | None) -> bool:
    """Whether our frames say nothing: a wait ended, an argument was refused, or the caller's own code raised."""
    if excinfo is None or isinstance(excinfo.value, WaitkitError | Cancelled | TypeError | ValueError):
        return True
    trace = excinfo.value.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is None or not str(trace.tb_frame.f_globals.get("__name__", "")).startswith("waitkit.")


def sections(error: BaseException, item: pytest.Item) -> list[tuple[str, str]]:
    """The sections of a report: one for each failed wait that *error* comes from, and the output of the test's processes."""
    waits = list(_failed_waits(error))[:_MOST_WAITS]
    found = [("waitkit: " + facts.headline.split("\n")[0], "\n".join(_lines(facts))) for facts in waits]
    if waits and "waitkit.pytest_plugin.processes" in sys.modules:
        from waitkit.pytest_plugin.processes import outputs_of

        told = "\n".join(note for facts in waits for note in facts.notes)
        found += [(f"waitkit: {name}", tail) for name, tail in outputs_of(item) if tail not in told]
    return found


def _failed_waits(error: BaseException) -> Iterator[WaitFacts]:
    """The facts of *error* and of all that led to it, each once."""
    known: set[int] = set()
    known_facts: list[WaitFacts] = []
    found: list[BaseException] = [error]
    while found:
        current = found.pop(0)
        if id(current) in known:
            continue
        known.add(id(current))
        facts = getattr(current, "facts", None)
        if isinstance(facts, WaitFacts) and facts not in known_facts:
            known_facts.append(facts)
            yield facts
        if isinstance(current, BaseExceptionGroup):
            found += current.exceptions
        context = None if current.__suppress_context__ else current.__context__
        found += [cause for cause in (current.__cause__, context) if cause is not None]


def _lines(facts: WaitFacts) -> Iterator[str]:
    limit = "no limit" if facts.limit is None else f"limit {format_duration(round(facts.limit * 1e9))}"
    looks = "1 look" if facts.looks == 1 else f"{facts.looks} looks"
    yield f"what:   {facts.what}"
    yield f"at:     {facts.caller}, {limit}, {looks}"
    if facts.last:
        yield f"last:   {facts.last}"
    if facts.tries and (len(facts.tries) > 1 or facts.tries[0].seen != facts.last):
        yield from _tries(facts.tries)
    yield from facts.notes


def _tries(tries: tuple[Try, ...]) -> Iterator[str]:
    first = tries[0].start
    shown = tries if len(tries) <= _MOST_TRIES else (*tries[:2], *tries[2 - _MOST_TRIES :])
    yield "tries:"
    for position, one in enumerate(shown):
        if position == 2 and len(shown) < len(tries):
            yield f"        ... {len(tries) - len(shown)} other changes"
        since, until = format_duration(one.start - first), format_duration(one.end - first)
        times = f"at {since}" if one.looks == 1 else f"{since} to {until}, {one.looks} looks"
        yield f"        {times}: {one.seen or '(nothing to tell)'}"
