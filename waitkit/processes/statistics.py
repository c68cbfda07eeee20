"""What a process and its tree use, by psutil."""

from __future__ import annotations

from typing import NamedTuple

from waitkit.processes.identity import Identity

__all__ = ["Statistics", "statistics_of"]


class Statistics(NamedTuple):
    """What a managed process and its tree use together, at one moment.

    Attributes:
        pid: of the process itself.
        cpu: seconds of processor time so far, of those that still run.
        rss: bytes of memory that are not swapped out; what several share counts for each.
        threads: how many.
        descriptors: how many are open; of processes that may be asked.
        children: the pids of the rest of its tree, those among them that have another parent by now.
    """

    pid: int
    cpu: float
    rss: int
    threads: int
    descriptors: int
    children: tuple[int, ...]


Statistics.__module__ = "waitkit"


def statistics_of(identity: Identity, name: str) -> Statistics:
    """See :meth:`waitkit.ManagedProcess.statistics`."""
    import psutil

    pid, members = identity.pid, identity.members().keys()
    if pid not in members:
        raise ProcessLookupError(f"{name} has ended: it uses nothing")
    cpu, rss, threads, descriptors = 0.0, 0, 0, 0
    for member in members:
        try:
            one = psutil.Process(member)
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
    return Statistics(pid, cpu, rss, threads, descriptors, tuple(sorted(members - {pid})))
