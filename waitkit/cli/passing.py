"""A managed process whose output is ours: it writes to our streams itself, so nothing is copied, cut or mixed up."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence

from waitkit.conditions.condition import Condition
from waitkit.ground.durations import Nanoseconds
from waitkit.processes.children import Child
from waitkit.processes.managed import ManagedProcess
from waitkit.processes.output import Output

__all__ = ["passed_through"]


class _PassedThrough:
    """A program with our stdout and stderr, in a session of its own."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.name = os.path.basename(argv[0])
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)
        self.output = Output(_ended_pipe(), _ended_pipe())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self._process

    @property
    def ready_signalled(self) -> None:
        return None

    def exit_code(self) -> int | None:
        return self._process.poll()

    def release(self) -> None:
        self.output.finish()


def _ended_pipe() -> int:
    reader, writer = os.pipe()
    os.close(writer)
    return reader


def passed_through(
    argv: Sequence[str],
    ready: Condition[object] | None,
    ready_timeout: Nanoseconds | None,
    stop_timeout: Nanoseconds,
    stop_signal: signal.Signals,
) -> ManagedProcess:
    """A managed process with our output streams, not started yet; the arguments are those of ``managed_process``."""

    def launch() -> Child:
        return _PassedThrough(argv)

    return ManagedProcess(launch, os.path.basename(argv[0]), ready, ready_timeout, stop_timeout, stop_signal)
