"""``waitkit report``: a page for the browser, from a trace of waits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

__all__ = ["add_to", "run"]


def add_to(commands: Any) -> None:
    """Add this subcommand to argparse's collection of them."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="make a page for the browser of a trace of waits",
        description="Makes one self-contained HTML page of a trace that recording() or pytest --waitkit-report has written: "
        "a timeline for each thread, and tables by site, condition and test.",
    )
    parser.add_argument("trace", type=Path, metavar="WAITS.JSON", help="the trace; several may be given", nargs="+")
    parser.add_argument("-o", "--output", type=Path, help="the page; without it, the first trace's name with .html")
    parser.add_argument("--title", default="Waits", help="the heading of the page")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the page. Returns 0, or 2 where a trace cannot be read or the page cannot be written."""
    from waitkit.report.page import write_page
    from waitkit.report.trace import NotATrace, read_trace

    output: Path = arguments.output or arguments.trace[0].with_suffix(".html")
    rows, dropped = [], 0
    try:
        for number, trace in enumerate(arguments.trace):
            read, more = read_trace(trace)
            if len(arguments.trace) > 1:
                for row in read:
                    row["process"] = f"{number + 1}:{row['process']}"
            rows += read
            dropped += more
        write_page(rows, output, title=arguments.title, dropped=dropped)
    except (NotATrace, OSError) as error:
        print(f"waitkit report: {error}", file=sys.stderr)
        return 2
    print(f"{output}: {len(rows)} waits")
    return 0
