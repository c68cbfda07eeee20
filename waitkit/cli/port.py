"""``waitkit port``: ports that are free."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from waitkit.cli.options import new_parser, port_number
from waitkit.cli.telling import answer, say
from waitkit.ports.reserve import reserved_port

__all__ = ["run"]

_NONE_LEFT: Final = 1
_MOST: Final = 10_000

_EPILOG: Final = """The port is reserved only until this command returns: from then on anybody may get it, though the kernel hands
it out again late. 'waitkit run' holds a port until its server has it.

exit codes:
  0  the ports are printed
  1  so many are not free
  2  the arguments are wrong"""


def run(words: Sequence[str]) -> int:
    """Print ports that are free, one a line, all of them different.

    Args:
        words: the arguments of ``waitkit port``.

    Returns:
        0, or 1 where there are not so many.
    """
    parser = _parser()
    options = parser.parse_args(words)
    if options.within is not None and options.within[1] - options.within[0] + 1 < options.count:
        say(f"waitkit port: {options.within[0]}-{options.within[1]} has fewer than {options.count} ports")
        return _NONE_LEFT
    with ExitStack() as held:
        try:
            ports = [
                held.enter_context(
                    reserved_port(within=options.within, protocol=options.protocol, family=options.family)
                )
                for _ in range(options.count)
            ]
        except ValueError as error:
            parser.error(str(error))
        except OSError as error:
            say(f"waitkit port: {error.strerror or error}")
            return _NONE_LEFT
        answer("\n".join(map(str, ports)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "port",
        "[--count N] [--within FIRST-LAST] [--family ...] [--protocol ...]",
        "Prints ports that are free now, one a line.",
        _EPILOG,
    )
    add = parser.add_argument
    add("--count", "-n", type=_count, default=1, metavar="N", help="how many, all of them different; 1 unless given")
    add("--within", type=_range, metavar="FIRST-LAST", help="take them from this range; the kernel chooses otherwise")
    add("--family", choices=("any", "ipv4", "ipv6"), default="any", help="free in these families; any: both")
    add("--protocol", choices=("tcp", "udp", "both"), default="tcp", help="free for tcp (the default), udp or both")
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= _MOST):
        raise argparse.ArgumentTypeError(f"{text!r} is not a count: give a number from 1 to {_MOST}")
    return int(text)


def _range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not dash:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of ports: give FIRST-LAST, as in 8000-8099")
    found = port_number(first), port_number(last)
    if found[0] > found[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is an empty range: give the lower port first")
    return found
