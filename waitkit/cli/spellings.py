"""What wait-for-it, dockerize and wait-on call things: understood where it means the same here, else refused by name."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any, Final

from waitkit.cli.options import port_number
from waitkit.cli.targets import is_address

__all__ = ["HELP", "add_spellings", "as_targets"]

HELP: Final = """spellings of other tools that are understood: HOST:PORT, -h HOST -p PORT, -s of wait-for-it; -wait TARGET,
-timeout DURATION of dockerize; socket:PATH, http-get://..., --reverse of wait-on (whose -t 30000 is -t 30 here)"""

#: What means something else here, or nothing, and what to do about it. Each stands here by its full name, as argparse
#: would otherwise take "-template" for "-t emplate".
_REFUSED: Final = {
    ("-w", "--window"): "write --held-for 1s",
    ("-i", "--interval", "-wait-retry-interval", "--wait-retry-interval"): "looks have no fixed interval: leave it out",
    ("-d", "--delay"): "a wait ends when it is time, so it need not begin late: leave it out",
    ("-v", "--verbose", "-l", "--log"): "a wait that goes on is told of in any case: leave it out",
    ("--httpTimeout", "--tcpTimeout"): "how long one look may take is said by --look-timeout 1s, for pages",
    ("-c", "--config"): "all options stand on the command line",
    ("-wait-http-header", "--wait-http-header"): "pages are asked for without further headers",
    ("-template", "-stdout", "-stderr", "-poll", "-delims", "-no-overwrite"): "that is dockerize's, and no wait",
}


class _HostOrHelp(argparse.Action):
    """``-h HOST``, and ``-h`` alone for help."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if values is None:
            parser.print_help()
            parser.exit()
        namespace.host = [*namespace.host, values]


class _Refused(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        parser.error(f"{option_string} is another tool's: {self.const}")


def add_spellings(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser that has no ``-h`` yet."""
    add = parser.add_argument
    add("--help", action="help", help="show this, as does -h alone")
    add("-h", dest="host", nargs="?", action=_HostOrHelp, default=[], help=argparse.SUPPRESS)
    add("--host", dest="host", action="append", help=argparse.SUPPRESS)
    add("--port", "-p", dest="port", type=port_number, action="append", default=[], help=argparse.SUPPRESS)
    add("--strict", "-s", action="store_true", help=argparse.SUPPRESS)
    add("-wait", "--wait", dest="awaited", action="append", default=[], help=argparse.SUPPRESS)
    for names, why in _REFUSED.items():
        add(*names, dest="refused", nargs="?", action=_Refused, const=why, help=argparse.SUPPRESS)


def as_targets(options: argparse.Namespace) -> Iterator[str]:
    """The targets, however they were given; what cannot be told is found when its turn comes.

    Raises:
        ValueError: it cannot be told what is meant.
    """
    # In this order: dockerize's command follows without --, and it is its first word that is to be complained of, rather
    # than one of its options that is one of ours.
    yield from (_unambiguous(text, options) for text in (*options.targets, *options.awaited))
    if options.host or options.port:
        yield _unambiguous(_one_address(options.host, options.port), options)


def _unambiguous(target: str, options: argparse.Namespace) -> str:
    if options.timeout == 0 and is_address(target):
        raise ValueError(
            f"a timeout of 0 is no limit in wait-for-it, and one look here: with {target!r} write -t none for no limit; "
            f"for one look write tcp:{target}"
        )
    return target


def _one_address(hosts: Sequence[str], ports: Sequence[int]) -> str:
    if len(hosts) != 1 or len(ports) != 1:
        given = ", ".join([*map(repr, hosts), *map(str, ports)])
        raise ValueError(
            f"one -h HOST and one -p PORT belong together, here is {given}: write each target as tcp:HOST:PORT"
            "; for help write --help"
        )
    host = hosts[0]
    return f"[{host}]:{ports[0]}" if ":" in host and not host.startswith("[") else f"{host}:{ports[0]}"
