"""What the commands print: answers to stdout, and what is told besides to stderr."""

from __future__ import annotations

import errno
import os
import sys
from io import TextIOWrapper
from typing import NoReturn, TextIO

__all__ = ["answer", "give_up", "say", "unwritable"]


def answer(text: str) -> None:
    """Print lines to stdout, and see to it that they are written.

    Raises:
        BrokenPipeError: nobody reads them.
        SystemExit: they cannot be written.
    """
    if sys.stdout is None:
        unwritable(OSError(errno.EBADF, os.strerror(errno.EBADF)))
    try:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a name may hold what the terminal cannot show
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        unwritable(error)


def unwritable(error: OSError) -> NoReturn:
    """An answer was lost: say so, and end with exit code 1."""
    say(f"waitkit: cannot write the output: {error.strerror or error}")
    give_up(sys.stdout)
    raise SystemExit(1) from error


def say(text: str) -> None:
    """Print lines to stderr. That nobody reads them is no reason to end: the exit code tells, too."""
    stream: TextIO | None = sys.stderr
    if stream is None:
        return
    try:
        print(text, file=stream, flush=True)
    except (OSError, ValueError):  # its reader is gone, its disk is full; it was closed
        give_up(stream)


def give_up(stream: TextIO | None) -> None:
    """Write to *stream* no more. What it still holds Python would write at its end, and fail once more."""
    if stream is None:
        return
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # it is closed, or no file
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, number)
    os.close(nothing)
