"""Who called: the first frame outside waitkit, as ``file:line``."""

from __future__ import annotations

import os
import sys
from types import FrameType

__all__ = ["caller_label"]


def caller_label() -> str:
    """The nearest caller that is not waitkit itself, as ``"file:line"``.

    Paths below the working directory are written relative to it. Where no such frame is left (a thread of
    waitkit's own) the answer is ``"unknown"``.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module != "waitkit" and not (module.startswith("waitkit.") and not module.startswith("waitkit.demo")):
            return f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown"


def _short(path: str) -> str:
    try:
        relative = os.path.relpath(path)
    except (ValueError, OSError):  # another drive on Windows; a working directory that is gone
        return path
    return path if relative.startswith("..") else relative
