"""Managed processes whose output is ours: they write to our streams themselves, so nothing is copied, cut or mixed up."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

from waitkit.conditions.condition import Condition
from waitkit.ground.durations import Nanoseconds
from waitkit.processes.children import Child, NothingToRead, ProgramChild
from waitkit.processes.guardian import Guarded
from waitkit.processes.identity import KILL
from waitkit.processes.life import Plan
from waitkit.processes.managed import ManagedProcess
from waitkit.processes.surroundings import check_surroundings, environment_of_program

__all__ = ["in_our_place", "passed_through"]


def passed_through(
    argv: Sequence[str],
    ready: Condition[object] | None,
    ready_timeout: Nanoseconds | None,
    stop_timeout: Nanoseconds,
    stop_signal: signal.Signals,
) -> ManagedProcess:
    """A managed process with our output streams, not started yet; the arguments are those of ``managed_process``."""
    surroundings = check_surroundings(None, None, None, None, None)

    def launch(additions: Mapping[str, str]) -> Child:
        return ProgramChild(argv, surroundings, additions, None, passed_through=True)

    name = os.path.basename(argv[0])
    return ManagedProcess(Plan(launch, name, ready, ready_timeout, stop_timeout, stop_signal, None))


def in_our_place(argv: Sequence[str]) -> ManagedProcess:
    """A managed process with all that is ours, stdin, the terminal and its Ctrl-C among it; not started yet.

    ``stop()`` asks it for nothing: it kills what is left. Whether a signal is to be passed on depends on whether the
    terminal has sent it already, which only who heard it knows.
    """

    def launch(additions: Mapping[str, str]) -> Child:
        return _ForegroundChild(argv, additions)

    return ManagedProcess(Plan(launch, os.path.basename(argv[0]), None, None, 0, KILL, None))


class _ForegroundChild(ProgramChild):
    """A program in our session and process group: in one of its own it could neither read the terminal nor hear Ctrl-C."""

    def __init__(self, argv: Sequence[str], additions: Mapping[str, str]) -> None:
        self.name = os.path.basename(argv[0])
        self.handed_over = frozenset()
        guarded, streams = Guarded(), None
        try:
            streams = NothingToRead()
            environment = environment_of_program(None, {**additions, guarded.name: ""}, {})
            self._launch(argv, guarded, streams, None, {"env": environment})
        except BaseException:
            self._abandon(streams, guarded)
            raise
