"""``waitkit holds``: who holds a port."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Final

from waitkit.cli.options import new_parser, port_number
from waitkit.cli.telling import answer, say
from waitkit.ground.durations import SECOND, format_duration
from waitkit.ports.holders import Holder, who_holds

__all__ = ["run"]

_NOBODY: Final = 1

_EPILOG: Final = """exit codes:
  0  somebody holds it, a connection in TIME_WAIT included
  1  nobody does
  2  the arguments are wrong"""


def run(words: Sequence[str]) -> int:
    """Tell who holds a port.

    Args:
        words: the arguments of ``waitkit holds``.

    Returns:
        0 where somebody does, 1 where nobody does.
    """
    options = _parser().parse_args(words)
    holders = who_holds(options.port, "udp" if options.udp else "tcp")
    protocol = "udp" if options.udp else "tcp"
    if options.json:
        found = [holder._asdict() for holder in holders]
        answer(json.dumps({"port": options.port, "protocol": protocol, "held": bool(holders), "holders": found}))
    elif holders:
        answer(_table(holders))
    else:
        say(f"waitkit: nobody holds {protocol} port {options.port}")
    return 0 if holders else _NOBODY


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "holds",
        "PORT [--udp] [--json]",
        "Tells who holds a port: its listeners first, then its connections. Clients of a server there are not among\n"
        "them. Processes of other users are named to root alone.",
        _EPILOG,
    )
    parser.add_argument("port", metavar="PORT", type=port_number, help="from 1 to 65535")
    parser.add_argument("--udp", action="store_true", help="of UDP, which has ports of its own")
    parser.add_argument("--json", action="store_true", help="tell it as one JSON object")
    return parser


def _table(holders: Sequence[Holder]) -> str:
    rows = [("PID", "PROGRAM", "USER", "STATE", "ADDRESS", ""), *map(_row, holders)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(holder: Holder) -> tuple[str, ...]:
    if holder.remaining is not None:
        note = f"no process; passes in {format_duration(round(holder.remaining * SECOND))}"
    else:
        note = "" if holder.pid is not None else "a process that is not visible to us"
    pid = "-" if holder.pid is None else str(holder.pid)
    return pid, _printable(holder.program) or "-", _printable(holder.user) or "-", holder.state, holder.address, note


def _printable(name: str) -> str:
    """A name without what would move the cursor: a process may call itself anything."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)
