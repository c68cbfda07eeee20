"""How often a process wakes up in which a hundred threads wait, and nothing happens. Measured in fresh processes."""

from __future__ import annotations

import argparse
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from measure import Goal, Table, interleaved, median, now, peer
from rest import at_rest, tasks, wake_ups

import waitkit
from waitkit import after, wait_for

THREADS = 100
WINDOW = 2.0
LIMIT = 100.0

STD, OURS = f"threading.Event.wait({LIMIT:g})", f"wait_for, {THREADS} signalled waits"
METHODS = (STD, OURS, "polling2, step=0.1", "polling2, step=0.01")


def run(options: argparse.Namespace) -> list[Table]:
    table = Table(
        f"wake-ups of an idle process with {THREADS} pending waits, in {WINDOW:g} s",
        "wake-ups",
        ("CPU ms/s",),
        note="Voluntary context switches of all threads of a fresh process, from /proc. Signalled waits: a quarter each for\n"
        "a threading.Event, a waitkit.Event, a queue and a future, and one for the end of a process.",
    )
    if not Path("/proc/self/task").is_dir():
        table.missing(OURS, "there is no /proc here to count by")
        return [table]
    able = [name for name in METHODS if "polling2" not in name or peer("polling2")]
    samples = interleaved(
        {name: lambda _, name=name: _observe(name) for name in able}, [None] * (1 if options.quick else 3), warm=False
    )
    for name in METHODS:
        if name not in samples:
            table.missing(name)
            continue
        woken = [sample[0] for sample in samples[name]]
        goal = Goal("none", max(woken) == 0) if name == OURS else None
        table.add(name, woken, f"{median([sample[1] for sample in samples[name]]):.1f}", goal=goal)
    return [table]


def _observe(name: str) -> tuple[float, float]:
    with _child(name) as pid:
        begun, before, used = now(), wake_ups(pid), _cpu_seconds(pid)
        wait_for(after(WINDOW))
        woken = wake_ups(pid)
        # A thread that came into being meanwhile counts from 0; one that is gone was woken at least once, to end.
        count = sum(woken[thread] - before.get(thread, 0) for thread in woken) + len(before.keys() - woken.keys())
        return float(count), (_cpu_seconds(pid) - used) / (now() - begun) * 1e3


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _child(name: str):
    """A process whose threads wait; it is gone when its standard input ends."""
    child = subprocess.Popen(
        [sys.executable, __file__, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)},
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        if child.stdout.readline() != b"waiting\n":
            raise RuntimeError(f"the child for {name!r} failed")
        wait_for(at_rest([child.pid], child.pid), LIMIT)  # its main thread, which now comes to rest, too
        yield child.pid
    finally:
        child.stdin.close()
        child.stdout.close()
        wait_for(child, 30)


# What the child does.


def _wait_in_child(name: str) -> None:
    """Start the threads, say so when they have come to rest, and end with standard input."""
    bodies = _waits(name)
    threads = [threading.Thread(target=body, daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    if "polling2" not in name:  # those never come to rest
        wait_for(at_rest([thread.native_id for thread in threads]), LIMIT)
        # A thread of waitkit's that found nothing to do goes within seconds, which is no idle wake-up.
        wait_for(at_rest([task for task in tasks(os.getpid()) if task != os.getpid()]), LIMIT)
    print("waiting", flush=True)
    sys.stdin.read()
    os._exit(0)  # the waits have no end of their own


def _waits(name: str) -> list[Callable[[], object]]:
    if name == STD:
        return [lambda: threading.Event().wait(LIMIT)] * THREADS
    if name == OURS:
        return _signalled()
    polling2 = peer("polling2")
    assert polling2 is not None
    step = float(name.rpartition("=")[2])
    event = threading.Event()
    return [lambda: polling2.poll(event.is_set, step=step, timeout=LIMIT)] * THREADS


def _signalled() -> list[Callable[[], object]]:
    # It outlives nobody: it ends with its standard input, and that with this process.
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    event, own, items, future = threading.Event(), waitkit.Event(), queue.Queue[int](), Future[int]()
    things = [process, *([event, own, items, future] * THREADS)][:THREADS]
    return [lambda thing=thing: wait_for(thing, LIMIT) for thing in things]


if __name__ == "__main__":
    _wait_in_child(sys.argv[1])
