"""Becoming another program."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

from waitkit.cli.telling import say

__all__ = ["CANNOT_BE_RUN", "NOT_FOUND", "execute", "why_not"]

CANNOT_BE_RUN: Final = 126
NOT_FOUND: Final = 127


def execute(command: Sequence[str]) -> int:
    """Put *command* in the place of this process, whose number, streams and parent it gets; so its end is ours.

    Returns:
        An exit code, as shells give it, where it could not be started.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    # Python ignores these, and what is ignored stays so: 'yes | head' would not end any more.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], list(command))  # noqa: S606 - that is the point
    except (OSError, ValueError) as error:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # Python goes on, after all
        code, reason = why_not(command[0], error)
        say(f"waitkit: cannot run {command[0]!r}: {reason}")
        return code


def why_not(program: str, error: OSError | ValueError) -> tuple[int, str]:
    """The exit code for a program that could not be started, and why in words."""
    if not program:
        return NOT_FOUND, "there is no such command"
    if isinstance(error, ValueError):  # a null character
        return CANNOT_BE_RUN, str(error)
    if error.errno == errno.ENOENT:
        if "/" in program and os.path.exists(program):
            return CANNOT_BE_RUN, "its interpreter does not exist: see its first line"
        return NOT_FOUND, "there is no such command"
    if error.errno == errno.ENOTDIR and "/" not in program:
        return NOT_FOUND, "there is no such command"  # a file among the folders of PATH
    if error.errno == errno.ENOEXEC:
        return CANNOT_BE_RUN, "it is no program: a script begins with a line such as #!/bin/sh"
    return CANNOT_BE_RUN, (error.strerror or str(error)).lower()
