"""What a process and its descendants use, by psutil."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Statistics", "statistics_of"]


class Statistics(NamedTuple):
    """What a managed process and its descendants use together, at one moment.

    Attributes:
        pid: of the process itself.
        cpu: seconds of processor time so far, of those that still run.
        rss: bytes of memory that are not swapped out; what several share counts for each.
        threads: how many.
        descriptors: how many are open; of processes that may be asked.
        children: the pids of all its descendants.
    """

    pid: int
    cpu: float
    rss: int
    threads: int
    descriptors: int
    children: tuple[int, ...]


Statistics.__module__ = "waitkit"


def statistics_of(pid: int, name: str) -> Statistics:
    """See :meth:`waitkit.ManagedProcess.statistics`."""
    import psutil

    try:
        process = psutil.Process(pid)
        children = process.children(recursive=True)
        ended = process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        ended = True
    if ended:
        raise ProcessLookupError(f"{name} has ended: it uses nothing")
    cpu, rss, threads, descriptors = 0.0, 0, 0, 0
    for one in (process, *children):
        try:
            with one.oneshot():
                times = one.cpu_times()
                cpu += times.user + times.system
                rss += one.memory_info().rss
                threads += one.num_threads()
            descriptors += one.num_fds()
        except psutil.AccessDenied:
            continue
        except psutil.NoSuchProcess:
            continue  # it has ended meanwhile
    return Statistics(pid, cpu, rss, threads, descriptors, tuple(sorted(child.pid for child in children)))
