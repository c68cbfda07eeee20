"""Sites: the line that sleeps, and where that is a library's, the line of the program that led there.

What led a thread there may be the line that started it: so that is noted of each thread that is started under a guard.
"""

from __future__ import annotations

import os
import sysconfig
import threading
from types import CodeType, FrameType
from typing import Final, TypeAlias

__all__ = ["Place", "is_library", "note_start", "place_of", "site_of"]

#: The line that sleeps; then the nearest one of the program itself, where that is another, else None, or the name of a thread
#: that has none.
Place: TypeAlias = tuple[CodeType, int, CodeType | str | None, int]

_LIBRARIES: Final = tuple(
    os.path.realpath(path) + os.sep
    for name, path in sysconfig.get_paths().items()
    if name in ("stdlib", "platstdlib", "purelib", "platlib")
)
# In a checkout that is installed as editable, too: our loops around a rest are nobody's busy polling.
_OURS: Final = os.path.dirname(os.path.dirname(os.path.realpath(__file__))) + os.sep
_THREADING: Final = os.path.join(sysconfig.get_paths()["stdlib"], "threading.py")
# Those that run the tests rest between them by their nature, and nobody can change that.
_RUNNERS: Final = frozenset({"_pytest", "execnet", "pluggy", "pytest", "pytest_timeout", "xdist"})

# The outermost frame of each thread that is a threading.Thread.
_BOOTSTRAP: Final = threading.Thread._bootstrap.__code__  # type: ignore[attr-defined]
# An attribute of threads: the place that started them, as place_of() gives it.
_STARTED_AT: Final = "_waitkit_started_at"

_known: dict[str, bool] = {}


def is_library(filename: str) -> bool:
    """Whether a file is part of the standard library, of an installed package, or of waitkit."""
    known = _known.get(filename)
    if known is None:
        path = os.path.realpath(filename)
        known = path.startswith((*_LIBRARIES, _OURS)) or _is_installed(path) or filename.startswith("<frozen")
        _known[filename] = known
    return known


def place_of(frame: FrameType | None) -> Place | None:
    """The place of *frame*, which sleeps; None where that is waitkit itself (it waits for a condition) or the test runner."""
    # Event.wait, Barrier.wait and the like stand on Condition.wait: their callers are meant, where there are any.
    resting = frame
    while frame is not None and frame.f_code.co_filename == _THREADING:
        frame = frame.f_back
    frame = frame or resting
    if frame is None:
        return None
    code, line = frame.f_code, frame.f_lineno
    only_stdlib = True
    outermost = frame
    above: FrameType | None = frame
    while above is not None:
        package, _, rest = str(above.f_globals.get("__name__", "")).partition(".")
        if package in _RUNNERS or (package == "waitkit" and rest.partition(".")[0] != "demo"):
            # An installed package that slept for the runner is told: a plugin's fixture, say.
            return None if only_stdlib else (code, line, None, 0)
        filename = above.f_code.co_filename
        if not is_library(filename):
            return (code, line, None, 0) if above is frame else (code, line, above.f_code, above.f_lineno)
        only_stdlib = only_stdlib and not _is_installed(filename)
        outermost, above = above, above.f_back
    if outermost.f_code is not _BOOTSTRAP:
        return code, line, None, 0
    thread: threading.Thread = outermost.f_locals["self"]
    if not hasattr(thread, _STARTED_AT):
        return code, line, thread.name, 0
    started: Place | None = getattr(thread, _STARTED_AT)
    if started is None:
        return None if only_stdlib else (code, line, None, 0)
    return (code, line, *(started[:2] if started[2] is None else started[2:]))


def note_start(thread: threading.Thread, frame: FrameType | None) -> None:
    """*thread* is about to be started by *frame*: that tells of a sleep in which the thread runs no line of the program."""
    setattr(thread, _STARTED_AT, place_of(frame))


def _is_installed(filename: str) -> bool:
    return f"{os.sep}site-packages{os.sep}" in filename or f"{os.sep}dist-packages{os.sep}" in filename


def site_of(place: Place) -> str:
    """*place* in words: ``"tests/test_orders.py:41"``, or with ``", from tests/test_orders.py:41"`` after a library's line."""
    code, line, above, above_line = place
    if above is None:
        return f"{_short(code.co_filename)}:{line}"
    if isinstance(above, str):
        return f"{_short(code.co_filename)}:{line}, thread {above}"
    return f"{_short(code.co_filename)}:{line}, from {_short(above.co_filename)}:{above_line}"


def _short(filename: str) -> str:
    for library in _LIBRARIES:
        if filename.startswith(library):
            return filename.removeprefix(library).removeprefix(f"site-packages{os.sep}")
    relative = os.path.relpath(filename)
    return filename if relative.startswith("..") else relative
