"""A managed process whose output is ours: it writes to our streams itself, so nothing is copied, cut or mixed up."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

from waitkit.conditions.condition import Condition
from waitkit.ground.durations import Nanoseconds
from waitkit.processes.children import Child, ProgramChild
from waitkit.processes.life import Plan
from waitkit.processes.managed import ManagedProcess
from waitkit.processes.surroundings import check_surroundings

__all__ = ["passed_through"]


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
