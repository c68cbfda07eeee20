"""The page: one HTML file with the waits, the styles and the program in it, that asks the network for nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from waitkit.ground.durations import MICROSECOND
from waitkit.report.axes import axes_of
from waitkit.report.rows import Row
from waitkit.report.tracks import tracks_of

__all__ = ["page_of", "write_page"]

# What the template names, and the files that go there, in this order.
_PARTS: Final = {
    "/*{styles}*/": ("page.css",),
    "/*{program}*/": ("waits.js", "timeline.js", "table.js", "page.js"),
}


def page_of(rows: Sequence[Row], *, title: str = "Waits", dropped: int = 0) -> str:
    """The page of *rows*, as HTML.

    Args:
        rows: the waits.
        title: the heading.
        dropped: how many more waits there were.
    """
    folder = files("waitkit.report") / "assets"
    page = (folder / "page.html").read_text(encoding="utf-8")
    for place, names in _PARTS.items():
        page = page.replace(place, "\n".join((folder / name).read_text(encoding="utf-8") for name in names))
    # Within <script> only "</script" and "<!--" would be read as HTML: no "<" of the data is left as it is.
    data = json.dumps(_data(rows, title, dropped), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return page.replace("{data}", data)


def write_page(rows: Sequence[Row], path: Path, *, title: str = "Waits", dropped: int = 0) -> None:
    """Write the page of *rows* to *path*.

    Args:
        rows: the waits.
        path: the file.
        title: the heading.
        dropped: how many more waits there were.

    Raises:
        OSError: it cannot be written.
    """
    path.write_text(page_of(rows, title=title, dropped=dropped), encoding="utf-8", errors="backslashreplace")


class _Texts:
    """Texts by number: each is in the page once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    def all(self) -> list[str]:
        return list(self._numbers)


def _data(rows: Sequence[Row], title: str, dropped: int) -> dict[str, object]:
    """What the program reads; ``waits.js`` names the columns. Times are whole microseconds since the begin of their axis."""
    axes, axis_of = axes_of(rows)
    tracks, places = tracks_of(rows, axis_of)
    texts = _Texts()
    waits, tries = [], {}
    order = sorted(range(len(rows)), key=lambda position: (axis_of[position], rows[position]["start"]))
    for number, position in enumerate(order):
        row, begin = rows[position], axes[axis_of[position]].begin
        names = [row["what"], row["outcome"], row["caller"], row["test"], row["task"], row["last"]]
        limit = -1 if row["limit"] is None else row["limit"] // MICROSECOND
        times = [row["start"] - begin, row["end"] - row["start"], row["overshoot"]]
        waits.append(
            [places[position], *map(texts.number, names), *(t // MICROSECOND for t in times), limit, row["looks"]]
        )
        if row["outcome"] != "held" and row["tries"]:
            tries[number] = [
                [(start - row["start"]) // MICROSECOND, (end - row["start"]) // MICROSECOND, looks, texts.number(seen)]
                for start, end, looks, seen in row["tries"]
            ]
    several = len({track.process for track in tracks}) > 1
    return {
        "title": title,
        "dropped": dropped,
        "tracks": [f"{track.process} {track.name}" if several else track.name for track in tracks],
        "axes": [axis.name for axis in axes] or [""],
        "axisOf": [track.axis for track in tracks],
        "waits": waits,
        "tries": tries,
        "texts": texts.all(),
    }
