"""How long after an event is set its waiter runs, and what a wait costs that need not wait."""

from __future__ import annotations

import argparse
import gc
import threading
import time
from collections.abc import Callable

from measure import Flip, Goal, Table, interleaved, now, peer, spread_evenly, steady_mean, times

import waitkit
from waitkit import wait_for

LIMIT = 10.0  # as waitkit's default, so that both sides do a wait with a timeout
GOAL = 1.5


class Flag:
    """Everything anybody waits for here, in one: all methods look at the same kind of thing."""

    def __init__(self) -> None:
        self.std = threading.Event()
        self.own = waitkit.Event()


Wait = Callable[[Flag], object]


def latency(wait: Wait, flip: Callable[[Flag], None], delay: float) -> float:
    flag = Flag()
    with Flip(delay, lambda: flip(flag)) as flipped:
        wait(flag)
        woken = now()
    return (woken - flipped.at) * 1e3


def _set_std(flag: Flag) -> None:
    flag.std.set()


def _set_own(flag: Flag) -> None:
    flag.own.set()


STD, STD_UNLIMITED = f"threading.Event.wait({LIMIT:g})", "threading.Event.wait()"
OURS = {
    STD: (lambda flag: flag.std.wait(LIMIT), _set_std),
    "wait_for(threading.Event)": (lambda flag: wait_for(flag.std), _set_std),
    "wait_for(waitkit.Event)": (lambda flag: wait_for(flag.own), _set_own),
    STD_UNLIMITED: (lambda flag: flag.std.wait(), _set_std),
    "wait_for(threading.Event, None)": (lambda flag: wait_for(flag.std, None), _set_std),
    "wait_for(waitkit.Event, None)": (lambda flag: wait_for(flag.own, None), _set_own),
}


def peer_waits() -> dict[str, Wait | None]:
    """The peers as their manuals begin: with the defaults, where there are any."""
    polling2, waiting, busypie, tenacity = map(peer, ("polling2", "waiting", "busypie", "tenacity"))

    def with_tenacity(flag: Flag) -> object:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda result: not result), stop=tenacity.stop_after_delay(LIMIT)
        )
        return retrying(flag.std.is_set)

    return {
        "polling2, step=0.1 (has no default)": polling2
        and (lambda flag: polling2.poll(flag.std.is_set, step=0.1, timeout=LIMIT)),
        "waiting": waiting and (lambda flag: waiting.wait(flag.std.is_set, timeout_seconds=LIMIT)),
        "busypie": busypie and (lambda flag: busypie.wait().at_most(LIMIT).until(flag.std.is_set)),
        "tenacity, retry_if_result": tenacity and with_tenacity,
    }


def run(options: argparse.Namespace) -> list[Table]:
    return [_signalled(options.quick), _beside_peers(options.quick), _already(options.quick)]


def _measured(methods: dict[str, tuple[Wait, Callable[[Flag], None]]], delays: list[float]) -> dict[str, list[float]]:
    return interleaved(
        {
            name: lambda delay, wait=wait, flip=flip: latency(wait, flip, delay)
            for name, (wait, flip) in methods.items()
        },
        delays,
        warm_up=0.01,
    )


def _signalled(quick: bool) -> Table:
    samples = _measured(OURS, spread_evenly(0.005, 0.060, 20 if quick else 150))
    table = Table(
        "wake-up after an event is set, 5..60 ms into the wait",
        "ms",
        ("ratio", "of means"),
        note="The samples come in two heaps, as the waiter's processor slept or not, and a median jumps from one to the other\n"
        "by chance: the goal is judged by the ratio of the means, each without its greatest tenth.",
    )
    baseline = STD
    for name, taken in samples.items():
        if name in (STD, STD_UNLIMITED):
            baseline = name
            table.add(name, taken, "1.00", "1.00")
        else:
            ratio = steady_mean(taken) / steady_mean(samples[baseline])
            medians = f"{times(taken, samples[baseline]):.2f}"
            table.add(name, taken, medians, f"{ratio:.2f}", goal=Goal(f"<= {GOAL} x {baseline}", ratio <= GOAL))
    return table


def _beside_peers(quick: bool) -> Table:
    methods = {name: OURS[name] for name in (STD, "wait_for(threading.Event)", "wait_for(waitkit.Event)")}
    peers = peer_waits()
    methods |= {name: (wait, _set_std) for name, wait in peers.items() if wait is not None}
    cpu: dict[str, list[float]] = {name: [] for name in methods}

    def counting(name: str, wait: Wait) -> Wait:
        def counted(flag: Flag) -> object:
            wall, used = now(), time.process_time()
            result = wait(flag)
            cpu[name].append((time.process_time() - used) / (now() - wall) * 1e3)
            return result

        return counted

    counted = {name: (counting(name, wait), flip) for name, (wait, flip) in methods.items()}
    samples = _measured(counted, spread_evenly(0.0, 1.0, 2 if quick else 10))
    table = Table(
        "the same, 0..1 s into the wait, beside libraries that look from time to time",
        "ms",
        ("ratio", "CPU ms/s"),
        note="CPU is that of the whole process while it waits, the median; tenacity's default does not pause between looks.",
    )
    for name in (*OURS, *peers):
        if name in samples:
            ratio = times(samples[name], samples[STD])
            table.add(name, samples[name], f"{ratio:.1f}", f"{sorted(cpu[name])[len(cpu[name]) // 2]:.1f}")
        elif name in peers:
            table.missing(name)
    return table


def _already(quick: bool) -> Table:
    flag = Flag()
    flag.std.set()
    flag.own.set()
    waits = {name: wait for name, (wait, _) in OURS.items() if not name.endswith(("None)", "()"))}
    waits |= peer_waits()
    loops = 200

    def cost(wait: Wait) -> float:
        begun = now()
        for _ in range(loops):
            wait(flag)
        return (now() - begun) / loops * 1e6

    # busypie pauses for 100 ms before its first look, so it cannot be looped.
    able = {name: wait for name, wait in waits.items() if wait is not None and name != "busypie"}
    gc.collect()
    samples = interleaved(
        {name: lambda _, wait=wait: cost(wait) for name, wait in able.items()}, [None] * (5 if quick else 25)
    )
    table = Table("a wait for what holds already, one call", "us")
    for name, wait in waits.items():
        if name in samples:
            table.add(name, samples[name])
        else:
            table.missing(name, "looks first after 100 ms" if wait is not None else "not installed")
    return table
