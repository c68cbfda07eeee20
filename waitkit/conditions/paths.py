"""Paths as conditions."""

from __future__ import annotations

import os
from pathlib import Path

from waitkit.conditions.condition import Condition
from waitkit.ground.checks import check_path
from waitkit.ground.durations import Nanoseconds
from waitkit.waits.watching import Context, Verdict, Watch

__all__ = ["path_exists"]


class _PathExists(Condition[Path]):
    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def what(self) -> str:
        return f"{self._path} to exist"

    def watch(self, context: Context) -> Watch:
        return _PathWatch(self._path, context)


class _PathWatch(Watch):
    __slots__ = ("_context", "_path", "_trouble")
    outside = True

    def __init__(self, path: Path, context: Context) -> None:
        self._path = path
        self._context = context
        self._trouble = ""

    def look(self, now: Nanoseconds) -> Verdict:
        try:
            os.lstat(self._path)
        except OSError as error:
            self._trouble = error.strerror or str(error)
            return Verdict(False, None, self._context.next_look(now))
        self._trouble = "it exists"
        return Verdict(True, self._path, self._context.next_look(now))

    def seen(self) -> str:
        return self._trouble

    def explain(self) -> tuple[str, ...]:
        missing = next((parent for parent in self._path.parents if not os.path.lexists(parent)), None)
        return () if missing is None else (f"its folder {missing} does not exist either",)


def path_exists(path: str | os.PathLike[str]) -> Condition[Path]:
    """Holds when *path* exists: a file, a folder, or anything else, a broken symbolic link included. Its value is the path.

    Args:
        path: a relative one counts from the working directory of now, not of the wait.

    Raises:
        TypeError: *path* is no path.
        ValueError: it is empty, or contains a null character.
    """
    hint = ": it would be the working directory, which exists. Was a variable not set?"
    return _PathExists(check_path(path, "path", hint))
