"""``{port}`` in what is given to ``waitkit run``: a reserved port for each name, the same one wherever it stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from waitkit.ports.reserve import reserved_port

__all__ = ["Ports", "check_placeholders", "hint_at_placeholders"]

_PLACEHOLDER: Final = re.compile(r"\{port(?P<name>\d*|:[A-Za-z_][A-Za-z0-9_-]*)\}")
_MEANT: Final = re.compile(r"\{port:[^{}]*\}")
_IN_BRACES: Final = re.compile(r"\{[^{}]*\}")
_FORMS: Final = "{port}, {port2}, or {port:name}"


def check_placeholders(words: Sequence[str]) -> None:
    """Refuse what is meant as a placeholder and is none.

    Raises:
        ValueError: such a one is among *words*.
    """
    for word in words:
        for meant in _MEANT.findall(word):
            if not _PLACEHOLDER.fullmatch(meant):
                raise ValueError(f"{meant} in {word!r} names no port: write {_FORMS}")


def hint_at_placeholders(word: str) -> str:
    """What to add to the error about a word that is not understood: which placeholders there are, where it has one that is none.

    That it is an error is for others to find: a file may well be called ``{prot}``.
    """
    other = [found for found in _IN_BRACES.findall(word) if not _PLACEHOLDER.fullmatch(found)]
    return f"; {other[0]} is no placeholder: for a free port write {_FORMS}" if other else ""


class Ports:
    """The ports of one run, reserved as they are asked for, and given up at the end of the block."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._reservations: list[reserved_port] = []
        #: by what stands after "port": "", "2", ":name"
        self.numbers: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def put_into(self, words: Sequence[str]) -> list[str]:
        """*words* with the numbers in the place of the placeholders. ``OSError``: no port is left."""
        return [_PLACEHOLDER.sub(lambda found: str(self._number(found["name"])), word) for word in words]

    def _number(self, name: str) -> int:
        if name not in self.numbers:
            reservation = reserved_port()
            self.numbers[name] = self._stack.enter_context(reservation)
            self._reservations.append(reservation)
        return self.numbers[name]

    def release(self) -> None:
        """Give them up now, for servers that can have no port which is reserved."""
        for reservation in self._reservations:
            reservation.release()

    def __str__(self) -> str:
        """``" on port 45123"``, ``" on ports 45123 and 45124 (api)"``; empty without any."""
        if not self.numbers:
            return ""
        told = [
            f"{number} ({name[1:]})" if name.startswith(":") else str(number) for name, number in self.numbers.items()
        ]
        listed = told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"
        return f" on port{'' if len(told) == 1 else 's'} {listed}"
