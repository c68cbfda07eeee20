"""What threads of this or another process do, as Linux counts it: whether they rest, and how often they woke up."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path


def tasks(pid: int) -> list[int]:
    return [int(name) for name in os.listdir(f"/proc/{pid}/task")]


def wake_ups(pid: int) -> dict[int, int]:
    """For each thread, how often it has come to rest so far, which is how often it was woken."""
    return {thread: _voluntary_switches(pid, thread) for thread in tasks(pid)}


def _voluntary_switches(pid: int, thread: int) -> int:
    for line in _status(pid, thread):
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    return 0


def _status(pid: int, thread: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{thread}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []  # it has ended


def at_rest(threads: Sequence[int | None], pid: int | None = None) -> Callable[[], bool]:
    """A condition: all these threads, of this process or *pid*, rest, and have not moved since the last look."""
    process = os.getpid() if pid is None else pid
    numbers = [thread for thread in threads if thread is not None]
    before: list[int] = []

    def all_rest() -> bool:
        nonlocal before
        statuses = [_status(process, thread) for thread in numbers]
        resting = all(any(line.startswith("State:\tS") for line in status) for status in statuses)
        switches = [int(line.split()[1]) for status in statuses for line in status if "_ctxt_switches" in line]
        same, before = switches == before, switches
        return resting and same

    return all_rest
