"""Checks of arguments that many functions share; the errors name the argument, its value and the accepted forms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["check_bool", "check_callables", "check_count", "check_path", "check_text"]


def check_bool(value: object, name: str) -> bool:
    """*value*, which is True or False: of anything else the truth is a guess (``"no"`` would be true).

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is neither True nor False")
    return value


def check_callables(hint: str = "", **values: object) -> None:
    """Each of *values* is None or can be called.

    Raises:
        TypeError: one is something else; *hint* is added.
    """
    for name, value in values.items():
        if value is not None and not callable(value):
            raise TypeError(f"{name}={value!r} cannot be called{hint}")


def check_count(value: Any, name: str, hint: str = "") -> int:
    """*value*, which is a whole number of 1 or more.

    Raises:
        ValueError: it is something else; *hint* is added.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r} is not a whole number of 1 or more{hint}")
    return value


def check_path(value: object, name: str, hint: str = "") -> Path:
    """*value*, which is a path, made absolute: a relative one counts from the working directory of now.

    Raises:
        TypeError: it is no path.
        ValueError: it is empty, where *hint* is added, or contains a null character.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name}={value!r} is not a path: give a str or a pathlib.Path")
    path = os.fsdecode(value)
    if not path:
        raise ValueError(f"{name}={value!r} is empty{hint}")
    if "\0" in path:
        raise ValueError(f"{name}={value!r} cannot be a path: it contains a null character")
    return Path(os.path.abspath(path))


def check_text(value: object, name: str) -> str:
    """*value*, which is text.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r} is no text")
    return value
