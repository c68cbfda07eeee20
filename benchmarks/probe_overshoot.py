"""How far a wait for a plain callable goes past the moment it becomes true, and what the looking costs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

from measure import Flip, Goal, Table, interleaved, median, now, p90, peer

from waitkit import wait_for

WAITS = {"5 ms": 0.005, "20 ms": 0.020, "100 ms": 0.100, "500 ms": 0.500, "2 s": 2.0}
SAMPLES = {"5 ms": 60, "20 ms": 60, "100 ms": 50, "500 ms": 12, "2 s": 8}
QUICK = {"5 ms": 8, "20 ms": 8, "100 ms": 5, "500 ms": 2, "2 s": 1}
LIMIT = 10.0


class Sample(NamedTuple):
    overshoot: float
    cpu: float
    looks: int
    #: the overshoot, as a part of what is allowed of this very wait: 2 ms, or 6 % of it
    part: float


class Flag:
    def __init__(self) -> None:
        self.up = False
        self.looks = 0

    def look(self) -> bool:
        self.looks += 1
        return self.up

    def raise_it(self) -> None:
        self.up = True


Wait = Callable[[Flag], object]


def _sleeping(pause: float) -> Wait:
    def wait(flag: Flag) -> None:
        while not flag.look():
            time.sleep(pause)

    return wait


def overshoot(wait: Wait, delay: float) -> Sample:
    flag = Flag()
    with Flip(delay, flag.raise_it) as flipped:
        used = time.thread_time()  # all of them look in this thread
        wait(flag)
        woken, used = now(), time.thread_time() - used
    late = (woken - flipped.at) * 1e3
    return Sample(late, used * 1e3, flag.looks, late / max(2.0, 60 * delay))


OURS, LOOP = "wait_for(callable)", "time.sleep(0.01) loop"


def run(options: argparse.Namespace) -> list[Table]:
    polling2 = peer("polling2")
    methods: dict[str, Wait | None] = {
        OURS: lambda flag: wait_for(flag.look, LIMIT),
        LOOP: _sleeping(0.01),
        "polling2, step=0.1": polling2 and (lambda flag: polling2.poll(flag.look, step=0.1, timeout=LIMIT)),
    }
    return [
        _table(methods, label, delay, (QUICK if options.quick else SAMPLES)[label]) for label, delay in WAITS.items()
    ]


def _table(methods: dict[str, Wait | None], label: str, delay: float, count: int) -> Table:
    samples = interleaved(
        {name: lambda delay, wait=wait: overshoot(wait, delay) for name, wait in methods.items() if wait is not None},
        # Not always the same moment: a fixed one would favour the interval that happens to divide it.
        [delay * (0.9 + 0.2 * (i + 0.5) / count) for i in range(count)],
        warm_up=0.005,
    )
    table = Table(f"overshoot of a probed wait of {label} (+-10 %)", "ms", ("CPU ms", "looks"))
    for name in methods:
        if name not in samples:
            table.missing(name)
            continue
        taken = [sample.overshoot for sample in samples[name]]
        goal = None
        if name == OURS:
            goal = Goal("p90 <= 2 ms, or 6 % of each", p90([sample.part for sample in samples[name]]) <= 1)
        cpu, looks = (median([sample[i] for sample in samples[name]]) for i in (1, 2))
        table.add(name, taken, f"{cpu:.2f}", f"{looks:.0f}", goal=goal)
    if label == "2 s":
        ours, loop = (median([sample.cpu for sample in samples[name]]) for name in (OURS, LOOP))
        table.add_text(
            "CPU of wait_for(callable)", f"{ours:.2f}", goal=Goal(f"< the loop's {loop:.2f} ms", ours < loop)
        )
    return table
