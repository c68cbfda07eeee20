"""Sites: the line that sleeps, and where that is a library's, the line of the program that led there."""

from __future__ import annotations

import os
import sysconfig
from types import CodeType, FrameType
from typing import Final, TypeAlias

__all__ = ["Place", "is_library", "place_of", "site_of"]

#: The line that sleeps; then the nearest one of the program itself, where that is another, else None.
Place: TypeAlias = tuple[CodeType, int, CodeType | None, int]

_LIBRARIES: Final = tuple(
    os.path.realpath(path) + os.sep
    for name, path in sysconfig.get_paths().items()
    if name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_THREADING: Final = os.path.join(sysconfig.get_paths()["stdlib"], "threading.py")
# Those that run the tests rest between them by their nature, and nobody can change that.
_RUNNERS: Final = frozenset({"_pytest", "execnet", "pluggy", "pytest", "pytest_timeout", "xdist"})

_known: dict[str, bool] = {}


def is_library(filename: str) -> bool:
    """Whether a file is part of the standard library or of an installed package."""
    known = _known.get(filename)
    if known is None:
        path = os.path.realpath(filename)
        known = path.startswith(_LIBRARIES) or _is_installed(path) or filename.startswith("<frozen")
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
    above: FrameType | None = frame
    while above is not None:
        package, _, rest = str(above.f_globals.get("__name__", "")).partition(".")
        if package in _RUNNERS or (package == "waitkit" and rest.partition(".")[0] != "demo"):
            if only_stdlib:
                return None
            break  # an installed package slept for the runner: a plugin's fixture, say
        filename = above.f_code.co_filename
        if not is_library(filename):
            return (code, line, None, 0) if above is frame else (code, line, above.f_code, above.f_lineno)
        only_stdlib = only_stdlib and not _is_installed(filename)
        above = above.f_back
    return code, line, None, 0


def _is_installed(filename: str) -> bool:
    return f"{os.sep}site-packages{os.sep}" in filename or f"{os.sep}dist-packages{os.sep}" in filename


def site_of(place: Place) -> str:
    """*place* in words: ``"tests/test_orders.py:41"``, or with ``", from tests/test_orders.py:41"`` after a library's line."""
    code, line, above, above_line = place
    if above is None:
        return f"{_short(code.co_filename)}:{line}"
    return f"{_short(code.co_filename)}:{line}, from {_short(above.co_filename)}:{above_line}"


def _short(filename: str) -> str:
    for library in _LIBRARIES:
        if filename.startswith(library):
            return filename.removeprefix(library).removeprefix(f"site-packages{os.sep}")
    relative = os.path.relpath(filename)
    return filename if relative.startswith("..") else relative
