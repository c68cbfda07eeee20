"""Where the output of a process is handed on to: a file of bytes or of text, a path, a logger."""

from __future__ import annotations

import codecs
import io
import os
from typing import Any, Final, Protocol

__all__ = ["Writer", "writer_to"]

_INFO: Final = 20  # logging.INFO; logging itself is imported by who has a logger
#: A line that is longer is logged in pieces: of a progress bar, or of a file without line breaks, the end may never come.
_LONGEST_LINE: Final = 65_536


class Writer(Protocol):
    """Writes what a process has written; its two streams come mixed, in pieces of any size."""

    def write(self, stream: str, chunk: bytes) -> None: ...

    def finish(self) -> None:
        """Nothing more will come."""


def writer_to(target: Any, name: str) -> Writer:
    """What writes to *target*; *name* is that of the process.

    Raises:
        OSError: a path cannot be written to.
    """
    if isinstance(target, str | os.PathLike):
        return _ToPath(target)
    if hasattr(target, "log") and hasattr(target, "handlers"):
        return _ToLogger(target, name)
    return _ToFile(target)


class _ToPath:
    """Appends: the file may be another's, too, or be moved away meanwhile."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self.write("", b"")  # where that cannot be, the process is not to be started

    def write(self, stream: str, chunk: bytes) -> None:
        with open(self._path, "ab") as file:
            file.write(chunk)

    def finish(self) -> None:
        pass


class _ToFile:
    """Anything with ``write()``: of text where that is known, else of bytes, and of text where it refuses them."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._takes_text = isinstance(file, io.TextIOBase) or "b" not in getattr(file, "mode", "b")
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}

    def write(self, stream: str, chunk: bytes) -> None:
        if not self._takes_text:
            try:
                self._file.write(chunk)
            except TypeError:
                if isinstance(self._file, io.IOBase):
                    raise
                self._takes_text = True
        if self._takes_text:
            self._write_text(stream, chunk)
        self._flush()

    def _write_text(self, stream: str, chunk: bytes, *, final: bool = False) -> None:
        if stream not in self._decoders:  # a character may begin in one piece and end in the next
            self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
        self._file.write(self._decoders[stream].decode(chunk, final))

    def _flush(self) -> None:
        flush = getattr(self._file, "flush", None)
        if flush is not None:
            flush()

    def finish(self) -> None:
        for stream in self._decoders:
            self._write_text(stream, b"", final=True)
        self._flush()


class _ToLogger:
    """A record for each line."""

    def __init__(self, logger: Any, name: str) -> None:
        self._logger = logger
        self._name = name
        self._rest: dict[str, bytearray] = {}

    def write(self, stream: str, chunk: bytes) -> None:
        rest = self._rest.setdefault(stream, bytearray())
        searched = len(rest)
        rest += chunk
        end = rest.rfind(b"\n", searched) + 1
        if end == 0 and len(rest) >= _LONGEST_LINE:
            end = len(rest)
        if end:
            for line in bytes(rest[:end]).removesuffix(b"\n").split(b"\n"):
                self._log(stream, line)
            del rest[:end]

    def _log(self, stream: str, line: bytes) -> None:
        self._logger.log(_INFO, "%s %s: %s", self._name, stream, line.decode("utf-8", "replace"))

    def finish(self) -> None:
        for stream, rest in self._rest.items():
            if rest:
                self._log(stream, bytes(rest))
        self._rest.clear()
