"""The Chrome trace event format, which Perfetto and chrome://tracing open: written and read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

from waitkit.ground.durations import MICROSECOND
from waitkit.ground.records import Outcome
from waitkit.report.axes import Axis, axes_of
from waitkit.report.rows import MAIN, Row
from waitkit.report.tracks import Track, tracks_of

__all__ = ["NotATrace", "read_trace", "trace_of", "write_trace"]

_CATEGORY: Final = "wait"
# In a trace, only processes are drawn apart. So each virtual clock is one, with a number that no real one has: on Linux they
# end at 4,194,304, elsewhere before.
_NO_PROCESS: Final = 10_000_000


class NotATrace(ValueError):
    """A file is no trace of waits."""


def trace_of(rows: Sequence[Row], *, dropped: int = 0) -> dict[str, object]:
    """The trace of *rows*: a complete event ("X") for each, in microseconds since the first on its axis began.

    Each virtual clock is a process of its own in it.

    Args:
        rows: the waits.
        dropped: how many more there were.
    """
    axes, axis_of = axes_of(rows)
    tracks, places = tracks_of(rows, axis_of)
    processes = {_process_number(track, axes): _process_name(track, axes) for track in tracks}
    events = [_named("process_name", pid, 0, name) for pid, name in sorted(processes.items())]
    for tid, track in enumerate(tracks, 1):
        events.append(_named("thread_name", _process_number(track, axes), tid, track.name))
    for row, place in zip(rows, places, strict=True):
        begin = axes[tracks[place].axis].begin
        events.append(
            {
                "name": row["what"],
                "cat": _CATEGORY,
                "ph": "X",
                "ts": (row["start"] - begin) / MICROSECOND,
                "dur": (row["end"] - row["start"]) / MICROSECOND,
                "pid": _process_number(tracks[place], axes),
                "tid": place + 1,
                "args": _arguments(row, begin),
            }
        )
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"waitkit": "1", "dropped": dropped}}


def _process_number(track: Track, axes: Sequence[Axis]) -> int:
    return _NO_PROCESS + track.axis if axes[track.axis].name else track.pid


def _process_name(track: Track, axes: Sequence[Axis]) -> str:
    name = axes[track.axis].name
    return f"{name}, in {track.process}" if name and track.process != MAIN else name or track.process


def _named(kind: str, pid: int, tid: int, name: str) -> dict[str, object]:
    return {"name": kind, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}


def _arguments(row: Row, begin: int) -> dict[str, object]:
    """What Perfetto shows beside a wait; those that would be empty are left out."""
    told: dict[str, object] = {
        "outcome": row["outcome"],
        "caller": row["caller"],
        "looks": row["looks"],
        "overshoot_us": row["overshoot"] / MICROSECOND,
        "limit_us": None if row["limit"] is None else row["limit"] / MICROSECOND,
        "last": row["last"],
        "test": row["test"],
        "task": row["task"],
        "thread": row["thread"],
        "thread_id": row["thread_id"],
        "virtual": True if row["clock"] else None,
        "clock": row["clock"] or None,
        # Of those in virtual time, as the event names another one.
        "process": row["process"] if row["clock"] else None,
        "pid": row["pid"] if row["clock"] else None,
        "tries": [
            [(start - begin) / MICROSECOND, (end - begin) / MICROSECOND, looks, seen]
            for start, end, looks, seen in row["tries"]
        ],
    }
    return {name: value for name, value in told.items() if value not in (None, "", [])}


def write_trace(rows: Sequence[Row], path: Path, *, dropped: int = 0) -> None:
    """Write the trace of *rows* to *path*.

    Raises:
        OSError: it cannot be written.
    """
    path.write_text(json.dumps(trace_of(rows, dropped=dropped), ensure_ascii=False) + "\n", encoding="utf-8")


def read_trace(path: Path) -> tuple[list[Row], int]:
    """The waits that a trace of waitkit's holds, and how many more had been dropped.

    Raises:
        OSError: it cannot be read.
        NotATrace: it is no JSON, or no trace that waitkit wrote.
    """
    try:
        trace = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NotATrace(f"{path} is no JSON: {error}") from error
    events = trace.get("traceEvents") if isinstance(trace, dict) else None
    other = trace.get("otherData") if isinstance(trace, dict) else None
    if not isinstance(events, list) or not isinstance(other, dict) or "waitkit" not in other:
        raise NotATrace(f"{path} is no trace of waits: give a file that recording() or --waitkit-report has written")
    try:
        processes = {
            event["pid"]: event["args"]["name"]
            for event in events
            if event.get("ph") == "M" and event.get("name") == "process_name"
        }
        rows = [_checked(_row(event, processes)) for event in events if event.get("cat") == _CATEGORY]
        return rows, int(other.get("dropped", 0))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise NotATrace(f"{path} is damaged: an event lacks what waitkit writes ({error!r})") from error


def _checked(row: Row) -> Row:
    """*row*, as the page relies on it.

    Raises:
        ValueError: something in it is not what waitkit writes.
    """
    texts: list[object] = [row[name] for name in ("what", "thread", "task", "last", "caller", "test", "process")]
    numbers: list[object] = [row[name] for name in ("thread_id", "looks", "pid", "clock")]
    for *_, looks, seen in row["tries"]:
        texts.append(seen)
        numbers.append(looks)
    if row["outcome"] not in get_args(Outcome):
        raise ValueError(f"{row['outcome']!r} is none of {', '.join(get_args(Outcome))}")
    for kind, values in ((str, texts), (int, numbers)):
        for value in values:
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ValueError(f"{value!r} is no {'text' if kind is str else 'whole number'}")  # noqa: TRY004 - in a file
    return row


def _row(event: dict[str, Any], processes: dict[int, str]) -> Row:
    told = event["args"]
    limit = told.get("limit_us")
    start = _nanoseconds(event["ts"])
    return Row(
        what=event["name"],
        outcome=told["outcome"],
        thread=told.get("thread", ""),
        thread_id=told.get("thread_id", 0),
        task=told.get("task", ""),
        start=start,
        end=start + _nanoseconds(event["dur"]),
        limit=None if limit is None else _nanoseconds(limit),
        looks=told["looks"],
        last=told.get("last", ""),
        caller=told["caller"],
        overshoot=_nanoseconds(told["overshoot_us"]),
        tries=[(_nanoseconds(a), _nanoseconds(b), looks, seen) for a, b, looks, seen in told.get("tries", [])],
        test=told.get("test", ""),
        process=told.get("process") or processes.get(event["pid"], MAIN),
        pid=told.get("pid", event["pid"]),
        clock=told.get("clock", 0),
    )


def _nanoseconds(microseconds: float) -> int:
    return round(microseconds * MICROSECOND)
