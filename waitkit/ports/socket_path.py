"""Reserving a path for a unix socket: in a folder of its own, short enough, and gone with the block."""

from __future__ import annotations

import os
import socket
import sys
import weakref
from pathlib import Path
from types import TracebackType
from typing import Final

__all__ = ["LONGEST_PATH", "reserved_socket_path"]

#: The bytes of ``sun_path`` without the one that ends it: 108 on Linux, 104 on macOS and the BSDs.
LONGEST_PATH: Final = 107 if sys.platform == "linux" else 103


class reserved_socket_path:
    """Reserve a path for a unix socket for the length of a block: ``with reserved_socket_path() as path``.

    The block gets a ``pathlib.Path`` in a new folder that only this user may enter, so the path is nobody else's, and it is
    short enough for a socket whatever the temporary folder of the system is called. Nothing is there yet: the server
    makes it. The folder goes with the block, and whatever is in it. In a forked child it stays: it is the parent's.

    Args:
        name: of the socket in its folder.

    Raises:
        TypeError, ValueError: *name* is no name of a file, or too long.
        OSError: the folder cannot be made (on entering the block).
        RuntimeError: the block is entered while it is in use already.
    """

    def __init__(self, name: str = "socket") -> None:
        if not isinstance(name, str):
            raise TypeError(f"name={name!r} is no name of a file")
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            raise ValueError(f"name={name!r} is no name of a file: give one without a folder")
        if _length(Path("/tmp/wXXXXXXXX") / name) > LONGEST_PATH:  # noqa: S108
            raise ValueError(
                f"name={name!r} is too long for a unix socket: at most {LONGEST_PATH} bytes with its folder"
            )
        self._name = name
        self._remove: weakref.finalize[..., reserved_socket_path] | None = None
        self._path: Path | None = None
        self._listeners: list[socket.socket] = []

    def __enter__(self) -> Path:
        if self._path is not None:
            raise RuntimeError("this path is in use already: make another reserved_socket_path() for another one")
        folder = _short_folder(self._name)
        # Also where the block is never left: a generator that is forgotten, an interpreter that ends.
        self._remove = weakref.finalize(self, _remove, str(folder), os.getpid())
        self._path = folder / self._name
        return self._path

    def listen(self, *, backlog: int = 128) -> socket.socket:
        """A socket that listens at the path already, to hand over to a server; it is closed when the block is left.

        Args:
            backlog: how many connections wait until they are accepted.

        Raises:
            RuntimeError: outside of the block.
            OSError: a server has made its socket at the path.
        """
        if self._path is None:
            raise RuntimeError("no path is reserved now: enter the block first")
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(self._path))
            listener.listen(backlog)
        except BaseException:
            listener.close()
            raise
        self._listeners.append(listener)
        return listener

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._path = None
        if self._remove is not None:
            self._remove()


reserved_socket_path.__module__ = "waitkit"


def _length(path: Path) -> int:
    return len(os.fsencode(path))


def _short_folder(name: str) -> Path:
    """A new folder of our own: in the system's temporary one, or in ``/tmp`` where that is too long for a socket."""
    import tempfile  # with what it brings it costs milliseconds, and whoever awaits a port imports this module

    folder = Path(tempfile.mkdtemp(prefix="w"))
    if _length(folder / name) <= LONGEST_PATH:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
