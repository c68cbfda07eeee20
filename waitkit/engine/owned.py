"""Descriptors that are closed just once, whatever comes between."""

from __future__ import annotations

from io import FileIO
from typing import TypeAlias

__all__ = ["OwnedDescriptor"]

#: Owns a descriptor: ``OwnedDescriptor(os.pidfd_open(pid))``, used by its ``fileno()``.
#:
#: Between ``os.close(fd)`` and ``fd = None`` an interrupt may come; whoever cleans up then closes the number once more, which may
#: be somebody else's meanwhile. This one closes and forgets in one step of C code. Who has it in an attribute takes it out of
#: there first, ``owned, self._owned = self._owned, None``, and closes it then, so that nobody finds a closed one.
#:
#: Where Ctrl-C may come, it is opened by ``(self._owned,) = map(OwnedDescriptor, map(os.pidfd_open, (pid,)))``. CPython looks for
#: signals after each call: of nested ones the descriptor would be lost, and told as unclosed. This is unpacked by C code alone.
OwnedDescriptor: TypeAlias = FileIO
