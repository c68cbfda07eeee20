"""``waitkit report``: a page for the browser, from a trace of waits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from waitkit.cli.options import new_parser
from waitkit.cli.telling import answer, say

if TYPE_CHECKING:
    import argparse

__all__ = ["run"]

_EPILOG = """exit codes:
  0  the page is written
  2  the arguments are wrong, a trace cannot be read, or the page cannot be written"""


def run(words: Sequence[str]) -> int:
    """Write the page.

    Args:
        words: the arguments of ``waitkit report``.

    Returns:
        0, or 2 where a trace cannot be read or the page cannot be written.
    """
    from waitkit.report.page import write_page
    from waitkit.report.trace import NotATrace, read_trace

    options = _parser().parse_args(words)
    output: Path = options.output or options.trace[0].with_suffix(".html")
    rows, dropped = [], 0
    try:
        for number, trace in enumerate(options.trace):
            read, more = read_trace(trace)
            if len(options.trace) > 1:
                for row in read:
                    row["process"] = f"{number + 1}:{row['process']}"
            rows += read
            dropped += more
        write_page(rows, output, title=options.title, dropped=dropped)
    except (NotATrace, OSError) as error:
        say(f"waitkit report: {error}")
        return 2
    answer(f"{output}: {len(rows)} waits")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "report",
        "WAITS.JSON... [-o PAGE] [--title TITLE]",
        "Makes one self-contained HTML page of a trace that recording() or pytest --waitkit-report has written: a timeline "
        "for each thread, and tables by site, condition and test.",
        _EPILOG,
    )
    parser.add_argument("trace", type=Path, metavar="WAITS.JSON", help="the trace; several may be given", nargs="+")
    parser.add_argument("-o", "--output", type=Path, help="the page; without it, the first trace's name with .html")
    parser.add_argument("--title", default="Waits", help="the heading of the page")
    return parser
