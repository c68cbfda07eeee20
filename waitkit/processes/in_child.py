"""What runs first in the process of a Python callable: its streams, its session, its mark, its surroundings; then the callable.

A child that is spawned imports this file before anything else of it runs, so the file imports next to nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from waitkit.processes.guardian import announce_self, pipe_for_child
from waitkit.processes.ready_event import ReadyEvent
from waitkit.processes.surroundings import Surroundings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["Setup", "run_in_child"]


class Setup:
    """What a callable's process does before it runs the callable; it is pickled on its way there.

    The pipes, made of the descriptors in *theirs*, are added to *lent*: the parent closes them when the child has been started.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        additions: Mapping[str, str],
        mark: int,
        theirs: list[int],
        lent: list[Connection],
    ) -> None:
        from multiprocessing.connection import Connection

        self.surroundings = surroundings
        self.additions = additions
        self.mark = mark
        self.streams: list[Connection] = []
        while theirs:
            self.streams.insert(0, Connection(theirs.pop(), readable=False))
            lent.append(self.streams[0])
        fd = pipe_for_child()
        self.announcement = None if fd is None else Connection(fd, readable=False)
        if self.announcement is not None:
            lent.append(self.announcement)

    def run(self) -> None:
        for pipe, number, name in zip(self.streams, (1, 2), ("stdout", "stderr"), strict=True):
            os.dup2(pipe.fileno(), number)
            pipe.close()
            # A new stream: a forked child may have inherited one that leads elsewhere, or holds what the parent wrote.
            setattr(sys, name, open(number, "w", buffering=1, closefd=False, errors="backslashreplace"))  # noqa: SIM115
        if hasattr(os, "setsid"):
            os.setsid()
        if self.announcement is not None:
            announce_self(self.announcement.fileno(), self.mark)
            self.announcement.close()
        self.surroundings.enter(self.additions)


def run_in_child(target: Callable[..., object], args: Sequence[object], setup: Setup, ready: Connection | None) -> None:
    """What :mod:`multiprocessing` calls in the child; *ready* is our side of the ready event, where one was asked for."""
    setup.run()
    if ready is None:
        target(*args)
    else:
        target(*args, ready_event=ReadyEvent(ready))
