"""Fifty processes started and ended, and how often a second a trivial one can be."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence

from measure import Goal, Table, interleaved, median, now, times

from waitkit import ManagedProcess, managed_process, output_matches, started, wait_for

MANY = 50
#: Says that it is up after 50 ms of work that others can do meanwhile, and stays.
SLOW = ["sh", "-c", "sleep 0.05; echo up; exec sleep 1000"]
LIMIT = 60


def processes() -> list[ManagedProcess]:
    return [managed_process(SLOW, ready=output_matches("up"), ready_timeout=LIMIT) for _ in range(MANY)]


def together() -> tuple[float, float]:
    block = started(*processes())
    begun = now()
    block.__enter__()
    ready = now()
    block.__exit__(None, None, None)
    return (ready - begun) * 1e3, (now() - ready) * 1e3


def in_turn() -> tuple[float, float]:
    begun = now()
    running = [process.start() for process in processes()]
    ready = now()
    for process in running:
        process.stop()
    return (ready - begun) * 1e3, (now() - ready) * 1e3


def plain() -> tuple[float, float]:
    """What it takes at least: the same programs by subprocess, one line read of each, then a signal and a wait."""
    begun = now()
    running = [
        subprocess.Popen(SLOW, stdout=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0) for _ in range(MANY)
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    ready = now()
    for process in running:
        process.terminate()
    for process in running:
        process.communicate()
    return (ready - begun) * 1e3, (now() - ready) * 1e3


def cycle_of(argv: Sequence[str], *, ours: bool) -> Callable[[object], float]:
    """Milliseconds for a program that is started, ends by itself, and is waited for; its output is read."""

    def managed() -> None:
        with managed_process(list(argv)) as process:
            wait_for(process.exited, LIMIT)

    def by_subprocess() -> None:
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL).communicate()

    def sample(_: object) -> float:
        begun = now()
        for _ in range(10):
            managed() if ours else by_subprocess()
        return (now() - begun) * 1e2

    return sample


def run(options: argparse.Namespace) -> list[Table]:
    rounds = 1 if options.quick else 5
    samples = interleaved(
        {
            "waitkit started()": lambda _: together(),
            "waitkit, one by one": lambda _: in_turn(),
            "subprocess": lambda _: plain(),
        },
        [None] * rounds,
    )
    begin = Table(f"{MANY} processes that take 50 ms each: start to all ready", "ms")
    end = Table(f"{MANY} processes: request to stop until all are gone", "ms")
    for name, pairs in samples.items():
        begin.add(name, [pair[0] for pair in pairs])
        end.add(name, [pair[1] for pair in pairs])
    tables = [begin, end]
    for title, argv in (("true", ["true"]), ("python -S -c pass", [sys.executable, "-S", "-c", "pass"])):
        table = Table(
            f"start, end and reap of a trivial child: {title}",
            "ms",
            ("cycles/s",),
            note="waitkit reads both streams in its thread, guards the tree, and proves that nothing is left of it.",
        )
        found = interleaved(
            {"waitkit": cycle_of(argv, ours=True), "subprocess": cycle_of(argv, ours=False)},
            [None] * (3 if options.quick else 20),
        )
        for name, values in found.items():
            goal = None
            if name == "waitkit":
                goal = Goal(">= 0.7 x subprocess", times(values, found["subprocess"]) <= 1 / 0.7)
            table.add(name, values, f"{1e3 / median(values):.0f}", goal=goal)
        tables.append(table)
    return tables
