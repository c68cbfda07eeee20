"""Sampling and printing for all benchmarks: what is compared is taken in turns, in one run, and all of it is shown."""

from __future__ import annotations

import importlib
import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from types import ModuleType
from typing import Any, Self

now = time.perf_counter

NOT_INSTALLED = "not installed"


def peer(module: str) -> ModuleType | None:
    """Another library, or None where it is not installed. An installed one that is broken is an error."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        return None


def version_of(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def interleaved(
    methods: Mapping[str, Callable[[Any], Any]],
    inputs: Sequence[Any],
    *,
    warm_up: Any = None,
    warm: bool = True,
    seed: int = 1,
) -> dict[str, list[Any]]:
    """Measure all *methods* with the same inputs: one of each a round, in an order that changes from round to round.

    So what disturbs the machine for a while disturbs all of them. No sample is thrown away, except that of a first
    round, made with *warm_up*, which pays for imports and caches; without *warm* there is no such round.
    """
    chance = random.Random(seed)
    names = list(methods)
    samples: dict[str, list[Any]] = {name: [] for name in names}
    first = [inputs[0] if warm_up is None else warm_up] if warm else []
    for round_, given in enumerate([*first, *inputs], start=0 if warm else 1):
        chance.shuffle(names)
        for name in names:
            sample = methods[name](given)
            if round_:
                samples[name].append(sample)
    return samples


def spread_evenly(low: float, high: float, count: int, seed: int = 2) -> list[float]:
    """*count* delays that cover low..high evenly, in random order: two runs of one length use the same ones."""
    step = (high - low) / count
    delays = [low + (position + 0.5) * step for position in range(count)]
    random.Random(seed).shuffle(delays)
    return delays


class Flip:
    """Calls *action* after *delay*, from another thread, and knows when: the clock is read right before the action.

    The thread comes to rest right after the action. One that went on, and be it only to end, would keep the
    interpreter's lock from the woken thread, and what is measured would be luck.
    """

    def __init__(self, delay: float, action: Callable[[], object]) -> None:
        self.at = 0.0
        self._delay = delay
        self._action = action
        self._hold = threading.Lock()
        self._hold.acquire()
        self._thread = threading.Thread(target=self._flip, daemon=True)

    def _flip(self) -> None:
        if self._hold.acquire(timeout=self._delay):
            return  # the block was left before its time, by an exception
        self.at = now()
        self._action()
        self._hold.acquire()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._hold.release()
        self._thread.join()


def p90(samples: Sequence[float]) -> float:
    """The smallest sample that nine of ten do not exceed; the greatest one of fewer than ten."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, -(-9 * len(ordered) // 10))]


def median(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def steady_mean(samples: Sequence[float]) -> float:
    """The mean without the greatest tenth. Where samples come in two heaps, the median jumps between them; this does not."""
    ordered = sorted(samples)
    return statistics.fmean(ordered[: max(1, len(ordered) * 9 // 10)])


@dataclass(frozen=True)
class Goal:
    """What waitkit promises, and whether this run met it."""

    text: str
    met: bool


@dataclass
class Table:
    """One comparison. Samples are in *unit*; *extra* names further columns, given as text."""

    title: str
    unit: str
    extra: tuple[str, ...] = ()
    note: str = ""
    rows: list[tuple[str, ...]] = field(default_factory=list)
    goals: list[tuple[str, Goal]] = field(default_factory=list)

    def add(self, name: str, samples: Sequence[float], *extra: str, goal: Goal | None = None) -> None:
        figures = (median(samples), p90(samples), min(samples), max(samples))
        self._append(name, [*map(_figure, figures), str(len(samples))], extra, goal)

    def add_text(self, name: str, *extra: str, goal: Goal | None = None) -> None:
        """A row without samples."""
        self._append(name, ["-"] * 5, extra, goal)

    def missing(self, name: str, reason: str = NOT_INSTALLED) -> None:
        self._append(name, [reason, "", "", "", ""], (), None)

    def _append(self, name: str, figures: list[str], extra: Sequence[str], goal: Goal | None) -> None:
        filled = [*extra, *[""] * (len(self.extra) - len(extra))]
        verdict = ["", ""] if goal is None else [goal.text, "met" if goal.met else "MISSED"]
        self.rows.append((name, *figures, *filled, *verdict))
        if goal is not None:
            self.goals.append((f"{self.title}: {name}", goal))

    def show(self) -> None:
        head = (f"[{self.unit}]", "median", "p90", "min", "max", "n", *self.extra, "goal", "")
        rows = [head, *self.rows]
        # A reason in place of figures may run over the columns to its right, which are empty.
        widths = [max(len(row[i]) for row in rows if i != 1 or row[2] or not row[1]) for i in range(len(head))]
        print(f"\n{self.title}")
        for row in rows:
            cells = [row[0].ljust(widths[0])]
            for i, cell in enumerate(row[1:], 1):
                left = i >= len(head) - 2 or (i == 1 and not row[2])
                cells.append(cell.ljust(widths[i]) if left else cell.rjust(widths[i]))
            print("  " + "  ".join(cells).rstrip())
        for line in self.note.splitlines():
            print(f"  {line}")


def _figure(value: float) -> str:
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def times(samples: Sequence[float], baseline: Sequence[float]) -> float:
    """How many times *baseline* it is: the median of the ratios within each round.

    A machine whose cores are shared is at times half as fast for some seconds: a ratio of medians can compare the one with the other.
    """
    return median([sample / base for sample, base in zip(samples, baseline, strict=True)])


class OtherLoad:
    """What everybody else on this machine did while a benchmark ran, in processors: figures of a busy machine say less."""

    def __init__(self) -> None:
        self._wall, self._all, self._own = now(), _busy_seconds(), _own_seconds()

    def __str__(self) -> str:
        wall = now() - self._wall
        busy = _busy_seconds()
        if busy is None or self._all is None:
            return "unknown"
        # Children count when they were waited for, so a little of our own may be taken for somebody else's.
        other = (busy - self._all) - (_own_seconds() - self._own)
        return f"{max(0.0, other / wall):.1f} of {os.cpu_count()} processors"


def _own_seconds() -> float:
    return sum(os.times()[:4])


def _busy_seconds() -> float | None:
    try:
        with open("/proc/stat") as file:
            fields = [int(part) for part in file.readline().split()[1:]]
    except OSError:
        return None
    return (sum(fields[:3]) + sum(fields[5:8])) / os.sysconf("SC_CLK_TCK")
