"""How long it takes until the last of a thousand threads that wait for one event runs."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from measure import Table, interleaved, median, now, times
from rest import at_rest

import waitkit
from waitkit import wait_for

THREADS = 1_000
LIMIT = 60.0


class Sample(NamedTuple):
    last: float
    middle: float
    cpu: float


Event = threading.Event | waitkit.Event


def release(make: Callable[[], Event], wait: Callable[[Event], object]) -> Sample:
    event = make()
    woken = [0.0] * THREADS

    def body(position: int) -> None:
        wait(event)
        woken[position] = now()

    threads = [threading.Thread(target=body, args=(position,)) for position in range(THREADS)]
    try:
        for thread in threads:
            thread.start()
        wait_for(at_rest([thread.native_id for thread in threads]), LIMIT)
        used, begun = time.process_time(), now()
    finally:
        event.set()
        for thread in threads:
            thread.join()
    used = time.process_time() - used
    return Sample((max(woken) - begun) * 1e3, (median(woken) - begun) * 1e3, used * 1e3)


STD = f"threading.Event.wait({LIMIT:g})"
METHODS: dict[str, tuple[Callable[[], Event], Callable[[Event], object]]] = {
    STD: (threading.Event, lambda event: event.wait(LIMIT)),
    "threading.Event.wait()": (threading.Event, lambda event: event.wait()),
    "wait_for(threading.Event)": (threading.Event, lambda event: wait_for(event, LIMIT)),
    "wait_for(waitkit.Event)": (waitkit.Event, lambda event: wait_for(event, LIMIT)),
}


def run(options: argparse.Namespace) -> list[Table]:
    stack = threading.stack_size(256 * 1024)
    try:
        samples = interleaved(
            {name: lambda _, make=make, wait=wait: release(make, wait) for name, (make, wait) in METHODS.items()},
            [None] * (2 if options.quick else 9),
        )
    finally:
        threading.stack_size(stack)
    table = Table(
        f"set one event that {THREADS} threads wait for: until the last of them runs",
        "ms",
        ("ratio", "median thread", "CPU ms"),
        note="CPU is that of the whole process, the ends of the threads included.",
    )
    baseline = [sample.last for sample in samples[STD]]
    for name, taken in samples.items():
        last = [sample.last for sample in taken]
        middle, cpu = (median([sample[i] for sample in taken]) for i in (1, 2))
        table.add(name, last, f"{times(last, baseline):.2f}", f"{middle:.1f}", f"{cpu:.0f}")
    return [table]
