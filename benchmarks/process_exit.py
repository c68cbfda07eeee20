"""How long after a process was killed the thread that waits for its end runs."""

from __future__ import annotations

import argparse
import os
import select
import signal
import subprocess
from collections.abc import Callable
from typing import Any

from measure import Flip, Goal, Table, interleaved, now, peer, spread_evenly, times

from waitkit import wait_for

LIMIT = 30.0

Process = subprocess.Popen[bytes]


def latency(wait: Callable[[Process], object], delay: float) -> float:
    """From the kill, with the kernel's work of ending a small program, to the waiter's next instruction."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    try:
        with Flip(delay, lambda: os.kill(process.pid, signal.SIGKILL)) as killed:
            wait(process)
            woken = now()
    finally:
        process.stdin.close()  # ends it where it was not killed
        process.wait()
    return (woken - killed.at) * 1e6


def _pidfd(process: Process) -> None:
    descriptor = os.pidfd_open(process.pid)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll(LIMIT * 1e3)
    os.close(descriptor)
    process.wait()


def _psutil(psutil: Any) -> Callable[[Process], object]:
    def wait(process: Process) -> None:
        process.returncode = psutil.Process(process.pid).wait(LIMIT)  # it reaps the child, and Popen must know

    return wait


BASELINE = "pidfd + poll"


def run(options: argparse.Namespace) -> list[Table]:
    psutil = peer("psutil")
    methods: dict[str, Callable[[Process], object] | None] = {
        BASELINE: _pidfd if hasattr(os, "pidfd_open") else None,
        "Popen.wait()": lambda process: process.wait(),
        "wait_for(popen)": lambda process: wait_for(process, LIMIT),
        "psutil.Process.wait(30)": _psutil(psutil) if psutil else None,
        "Popen.wait(30)": lambda process: process.wait(LIMIT),
    }
    samples = interleaved(
        {name: lambda delay, wait=wait: latency(wait, delay) for name, wait in methods.items() if wait is not None},
        spread_evenly(0.05, 0.45, 3 if options.quick else 20),
        warm_up=0.01,
    )
    table = Table(
        "process killed 50..450 ms into the wait: until the waiter runs",
        "us",
        ("ratio",),
        note="Popen.wait() has no timeout, and stops for nothing else; Popen.wait(30) looks at gaps of up to 50 ms\n"
        "before Python 3.15.",
    )
    for name in methods:
        if name in samples:
            ratio = times(samples[name], samples[BASELINE]) if BASELINE in samples else 0.0
            goal = Goal(f"<= 2 x {BASELINE}", ratio <= 2) if ratio and name == "wait_for(popen)" else None
            table.add(name, samples[name], f"{ratio:.2f}" if ratio else "", goal=goal)
        else:
            table.missing(name, "not on this platform" if name == BASELINE else "not installed")
    return [table]
