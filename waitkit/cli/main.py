"""The command ``waitkit``. Each subcommand is a module of its own here, with ``add_to`` and ``run``.

Where the command starts processes with ``multiprocessing``, each of them imports this module once more: so it imports
nothing by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    import argparse

    from waitkit import __version__
    from waitkit.cli import demo, report

    parser = argparse.ArgumentParser(prog="waitkit", description="Wait for conditions instead of guessing with sleeps.")
    parser.add_argument("--version", action="version", version=f"waitkit {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    demo.add_to(commands)
    report.add_to(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; ``None``: those of this process.

    Returns:
        The exit code: the subcommand's, 130 after Ctrl-C, 141 where nobody reads the output any more. Bad arguments, and
        ``--help`` and ``--version``, raise ``SystemExit`` instead, as argparse does.
    """
    import os
    import sys

    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("waitkit: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes stdout once more at its end, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


if __name__ == "__main__":
    raise SystemExit(main())
