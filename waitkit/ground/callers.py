"""Which frames are ours: who called is the first outside waitkit, and tracebacks begin with the first outside."""

from __future__ import annotations

import os
import sys
from types import FrameType, TracebackType
from typing import TypeAlias

__all__ = ["Caller", "caller_label", "calling_line", "without_our_frames"]

#: The file and line of a call.
Caller: TypeAlias = tuple[str, int]


def calling_line() -> Caller:
    """The line outside of waitkit that called us: remembered where the work is done later, in a task or in another thread."""
    caller = frame = sys._getframe(2)
    while _is_ours(caller) and caller.f_back is not None:
        caller = caller.f_back
    caller = frame if _is_ours(caller) else caller
    return caller.f_code.co_filename, caller.f_lineno


def caller_label(known: Caller | None = None) -> str:
    """The nearest caller that is not waitkit itself, as ``"file:line"``; *known*, where it was remembered.

    Paths below the working directory are written relative to it. Where no such frame is left (a thread of
    waitkit's own) the answer is ``"unknown"``.
    """
    if known is not None:
        return f"{_short(known[0])}:{known[1]}"
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not _is_ours(frame):
            return f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown"


def without_our_frames(error: BaseException) -> TracebackType | None:
    """The traceback of *error* from its first frame outside waitkit on; ``None`` where an error of ours has none.

    Where anything else comes from within waitkit, all of it: that is a bug.
    """
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame):
        trace = trace.tb_next
    if trace is None and type(error).__module__.partition(".")[0] != "waitkit":
        return error.__traceback__
    return trace


def _is_ours(frame: FrameType) -> bool:
    package, _, rest = frame.f_globals.get("__name__", "").partition(".")
    return bool(package == "waitkit" and rest.partition(".")[0] != "demo")  # the demo is user code that we ship


def _short(path: str) -> str:
    try:
        relative = os.path.relpath(path)
    except (ValueError, OSError):  # another drive on Windows; a working directory that is gone
        return path
    return path if relative.startswith("..") else relative
