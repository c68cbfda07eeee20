"""What the commands read alike: the command after ``--``, durations, and the parser itself."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Final

from waitkit.ground.durations import Nanoseconds, to_nanoseconds

__all__ = ["duration", "new_parser", "optional_duration", "port_number", "split_command"]

_FORMS: Final = 'seconds (60, 0.5) or a number with units of d, h, m, s, ms, us, ns ("60s", "1m30s", "250ms")'
_SECONDS: Final = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?")


class _Help(argparse.RawDescriptionHelpFormatter):
    """Of a fixed width: argparse makes one for every option, and would import shutil to ask for that of the terminal."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=98)


def new_parser(
    name: str, usage: str, description: str, epilog: str = "", *, add_help: bool = True
) -> argparse.ArgumentParser:
    """A parser for one command: ``waitkit NAME``.

    Args:
        name: of the command.
        usage: its arguments.
        description: what it does, in a paragraph.
        epilog: what follows the options in ``--help``, as it stands.
        add_help: whether it has ``-h`` and ``--help`` for help.
    """
    return argparse.ArgumentParser(
        prog=f"waitkit {name}",
        usage=f"waitkit {name} {usage}",
        description=description,
        epilog=epilog,
        formatter_class=_Help,
        add_help=add_help,
        allow_abbrev=False,  # a script that says --time would fail when an option --timer comes
    )


def split_command(words: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """The words before the first ``--``, and the command after it; ``None`` where there is no ``--``."""
    before = list(words)
    if "--" not in before:
        return before, None
    place = before.index("--")
    return before[:place], before[place + 1 :]


def port_number(text: str) -> int:
    """Read the number of a port.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 1 to 65535")
    return int(text)


def duration(text: str) -> Nanoseconds:
    """Read a duration as it is given on a command line, where a bare number is seconds.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    return _read(text, _FORMS)


def optional_duration(text: str) -> Nanoseconds | None:
    """As :func:`duration`, and ``none`` for no limit."""
    return None if text == "none" else _read(text, f'{_FORMS}, 0 for one look, "none" for no limit')


def _read(text: str, forms: str) -> Nanoseconds:
    try:
        # Through float a long one would lose its end; a unit is all that a bare number lacks.
        return to_nanoseconds(f"{text}s" if _SECONDS.fullmatch(text) else text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: give {forms}") from None
