"""The command ``waitkit``. Each subcommand is a module of its own here, with a ``run``.

Where the command starts processes with ``multiprocessing``, each of them imports this module once more: so it imports
nothing by itself. Of the commands only the one that is called is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "main"]

#: The commands, and the line of help for each.
COMMANDS: Final = {
    "wait": "wait for ports, pages, files and processes, then run a command",
    "run": "run a command, ready and with a free port, and another one while it is up",
    "port": "print a free port",
    "holds": "tell who holds a port",
    "report": "make a page for the browser of a trace of waits",
    "demo": "run 26 tests of an RPC service without a sleep",
}

INTERRUPTED: Final = 130
NOBODY_READS: Final = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; ``None``: those of this process.

    Returns:
        The exit code: the command's own, and 141 where nobody reads the output any more. Ctrl-C gives 130; where *argv* is
        ``None`` the process ends by SIGINT itself, which a shell tells as 130, and which stops the script around, too. Bad
        arguments, and ``--help`` and ``--version``, raise ``SystemExit`` instead, as argparse does.
    """
    import sys

    try:
        try:
            return _dispatch(list(sys.argv[1:] if argv is None else argv))
        finally:
            _flush()
    except KeyboardInterrupt:
        from waitkit.cli.telling import say

        say("waitkit: interrupted")
        if argv is None:
            _end_by_interrupt()
        return INTERRUPTED
    except BrokenPipeError:
        from waitkit.cli.telling import give_up

        give_up(sys.stdout)
        return NOBODY_READS


def _flush() -> None:
    import sys

    for stream in (sys.stderr, sys.stdout):
        try:
            if stream is not None:  # it is closed: >&-
                stream.flush()
        except OSError as error:  # its reader is gone; the disk is full
            from waitkit.cli.telling import give_up, unwritable

            if stream is sys.stderr:
                give_up(stream)
            elif isinstance(error, BrokenPipeError):
                raise
            else:
                unwritable(error)


def _dispatch(words: list[str]) -> int:
    name = words[0] if words else ""
    if name not in COMMANDS:
        return _without_command(words)
    from importlib import import_module

    run = import_module(f"waitkit.cli.{name}").run
    code: int = run(words[1:])
    return code


def _without_command(words: list[str]) -> int:
    """``--help``, ``--version``, or an error."""
    import argparse

    from waitkit import __version__

    width = max(map(len, COMMANDS))
    parser = argparse.ArgumentParser(
        prog="waitkit",
        usage="waitkit COMMAND ...",
        description="Wait for conditions instead of guessing with sleeps.",
        epilog="commands:\n"
        + "\n".join(f"  {name:{width}}  {about}" for name, about in COMMANDS.items())
        + "\n\n'waitkit COMMAND --help' tells the rest",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"waitkit {__version__}")
    parser.add_argument("command", metavar="COMMAND", nargs="?", help=argparse.SUPPRESS)
    given = parser.parse_known_args(words)[0].command
    accepted = ", ".join(COMMANDS)
    if given is None and words:
        parser.error(f"{words[0]!r} is no option here; commands are {accepted}")
    parser.error(
        f"give a command, of {accepted}" if given is None else f"there is no command {given!r}, only {accepted}"
    )


def _end_by_interrupt() -> None:
    """End as a program that does nothing about Ctrl-C: a shell goes on with its script where one merely exits with 130."""
    import os
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)  # process 1 of a container gets no such signal, and goes on from here


if __name__ == "__main__":
    raise SystemExit(main())
