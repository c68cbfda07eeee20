"""Axes of time: real time is one, and each virtual clock has its own, as its instants lie anywhere and may be years apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from waitkit.ground.durations import Nanoseconds
from waitkit.report.rows import Row

__all__ = ["Axis", "axes_of"]


class Axis(NamedTuple):
    """An axis of time.

    Attributes:
        name: whose time it is; empty for real time.
        begin: when its first wait began. Its times are told from there.
    """

    name: str
    begin: Nanoseconds


def axes_of(rows: Sequence[Row]) -> tuple[list[Axis], list[int]]:
    """All axes, real time first, then as their clocks came; and for each row the position of its axis among them."""
    members: dict[tuple[str, int, int], list[Row]] = {}
    keys = [(row["process"], row["pid"], row["clock"]) if row["clock"] else ("", 0, 0) for row in rows]
    for key, row in zip(keys, rows, strict=True):
        members.setdefault(key, []).append(row)
    order = sorted(members, key=lambda key: key[2] > 0)  # which keeps the order otherwise
    named: Counter[str] = Counter()
    axes = []
    for key in order:
        name = _name(members[key]) if key[2] else ""
        named[name] += 1
        number = f" ({named[name]})" if named[name] > 1 else ""
        axes.append(Axis(name + number, min(row["start"] for row in members[key])))
    positions = {key: position for position, key in enumerate(order)}
    return axes, [positions[key] for key in keys]


def _name(rows: Sequence[Row]) -> str:
    test = next((row["test"] for row in rows if row["test"]), "")
    return f"virtual time of {test}" if test else "virtual time"
