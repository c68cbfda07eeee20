"""The event by which a child tells that it is ready: one byte through a pipe, so that the parent is woken, not polling."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["ReadyEvent"]


class ReadyEvent:
    """What a child gets as ``ready_event``: it calls :meth:`set` when it can be used."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._set = False

    def set(self) -> None:
        """Tell the parent. Telling it again does nothing; a parent that no longer listens does not matter."""
        if not self._set:
            self._set = True
            try:
                self._pipe.send_bytes(b"ready")
            except OSError:
                pass  # the parent has given up on us, and will end us
            self._pipe.close()

    def is_set(self) -> bool:
        """Whether it was set here."""
        return self._set


ReadyEvent.__module__ = "waitkit"
