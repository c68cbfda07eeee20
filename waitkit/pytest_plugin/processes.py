"""The processes of one test: stopped at its end, the last one first, and asked for their output when it fails."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final

import pytest

from waitkit.processes.api import managed_process
from waitkit.processes.managed import ManagedProcess

__all__ = ["Processes", "outputs_of"]

_STARTED: Final = pytest.StashKey[list[ManagedProcess]]()


class Processes:
    """Starts processes for the test *item*."""

    def __init__(self, item: pytest.Item) -> None:
        self._started = item.stash.setdefault(_STARTED, [])
        self._stack = ExitStack()

    def start(self, target: Any, *args: object, **options: Any) -> ManagedProcess:
        """Start a process, and return when it is ready.

        Takes what :func:`waitkit.managed_process` takes, and raises what :meth:`waitkit.ManagedProcess.start` raises.
        """
        process = managed_process(target, *args, **options)
        process.start()
        self._stack.callback(process.stop)
        self._started.append(process)
        return process

    def stop_all(self) -> None:
        """Stop all of them, the last one first; what one raises does not keep the others."""
        self._stack.close()


def outputs_of(item: pytest.Item) -> list[tuple[str, str]]:
    """The name and the end of the output of each process that the test has started and that wrote something."""
    outputs = [(str(process), process.output.tail()) for process in item.stash.get(_STARTED, [])]
    return [(name, tail) for name, tail in outputs if tail]
