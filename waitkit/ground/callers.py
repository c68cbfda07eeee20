"""Who called: the first frame outside waitkit, as ``file:line``."""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import TypeAlias

__all__ = ["Caller", "caller_label", "calling_line"]

#: The file and line of a call.
Caller: TypeAlias = tuple[str, int]


def calling_line() -> Caller:
    """The line that called our caller: remembered where the work is done later, in a task or in another thread."""
    frame = sys._getframe(2)
    return frame.f_code.co_filename, frame.f_lineno


def caller_label(known: Caller | None = None) -> str:
    """The nearest caller that is not waitkit itself, as ``"file:line"``; *known*, where it was remembered.

    Paths below the working directory are written relative to it. Where no such frame is left (a thread of
    waitkit's own) the answer is ``"unknown"``.
    """
    if known is not None:
        return f"{_short(known[0])}:{known[1]}"
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        package, _, rest = module.partition(".")
        if package != "waitkit" or rest.partition(".")[0] == "demo":  # the demo is user code that we ship
            return f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown"


def _short(path: str) -> str:
    try:
        relative = os.path.relpath(path)
    except (ValueError, OSError):  # another drive on Windows; a working directory that is gone
        return path
    return path if relative.startswith("..") else relative
