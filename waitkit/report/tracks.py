"""Tracks: which line of a time line each wait is drawn on, so that no two on one line overlap but by nesting."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from waitkit.report.rows import Row

__all__ = ["Track", "tracks_of"]


class Track(NamedTuple):
    """A line of the time line.

    Attributes:
        axis: the position of its axis of time.
        process: the process's name.
        pid: the process's number.
        name: the thread's name, with a number after it from its second line on.
    """

    axis: int
    process: str
    pid: int
    name: str


def tracks_of(rows: Sequence[Row], axes: Sequence[int]) -> tuple[list[Track], list[int]]:
    """All tracks, those of an axis together and the first used first, and for each row the position of its track among them.

    A thread has one on each axis, unless tasks of an event loop wait in it at the same time.

    Args:
        rows: the waits.
        axes: for each row the position of its axis, see :func:`waitkit.report.axes.axes_of`.
    """
    by_thread: dict[tuple[int, str, int, int, str], list[int]] = defaultdict(list)
    for position in sorted(range(len(rows)), key=lambda position: (axes[position], rows[position]["start"])):
        row = rows[position]
        by_thread[axes[position], row["process"], row["pid"], row["thread_id"], row["thread"]].append(position)
    tracks: list[Track] = []
    places = [0] * len(rows)
    for (axis, process, pid, _, thread), positions in by_thread.items():
        first = len(tracks)
        lanes = _lanes(rows, positions)
        for position, lane in zip(_outer_first(rows, positions), lanes, strict=True):
            places[position] = first + lane
        names = (f"{thread} ({lane + 1})" if lane else thread for lane in range(max(lanes) + 1))
        tracks += [Track(axis, process, pid, name) for name in names]
    return tracks, places


def _outer_first(rows: Sequence[Row], positions: Iterable[int]) -> list[int]:
    return sorted(positions, key=lambda position: (rows[position]["start"], -rows[position]["end"]))


def _lanes(rows: Sequence[Row], positions: list[int]) -> list[int]:
    """The lane of each of *positions*, outer ones first: the lowest that is free, or that of the wait around it."""
    lanes: list[int] = []
    occupied: list[tuple[int, int]] = []  # until when, and which lane
    free: list[int] = []
    around: dict[str, tuple[int, int]] = {}  # of a task, or of the thread itself
    for position in _outer_first(rows, positions):
        row = rows[position]
        while occupied and occupied[0][0] <= row["start"]:
            heapq.heappush(free, heapq.heappop(occupied)[1])
        until, lane = around.get(row["task"], (0, 0))
        if not (until > row["start"] and until >= row["end"]):
            lane = heapq.heappop(free) if free else len(occupied)
            heapq.heappush(occupied, (row["end"], lane))
            around[row["task"]] = (row["end"], lane)
        lanes.append(lane)
    return lanes
