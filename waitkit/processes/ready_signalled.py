"""The parent's side of the event by which a child tells that it is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waitkit.conditions.condition import Condition
from waitkit.conditions.descriptors import DescriptorWatch
from waitkit.ground.durations import Nanoseconds
from waitkit.waits.watching import NOT_YET, Context, Verdict, Watch

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["ReadySignalled"]


class ReadySignalled(Condition[bool]):
    """Holds once the child has called ``ready_event.set()``."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._ready = False
        self._closed = False

    @property
    def what(self) -> str:
        return "its ready_event to be set"

    def poll(self) -> bool:
        """Whether it has told us so far."""
        if not self._ready and not self._closed and self._pipe.poll():
            try:
                self._ready = self._pipe.recv_bytes() == b"ready"
            except (EOFError, OSError):
                pass
            self._closed = True
        return self._ready

    @property
    def fd(self) -> int | None:
        """What to listen to; ``None`` once everything was said."""
        return None if self._closed or self._pipe.closed else self._pipe.fileno()

    def watch(self, context: Context) -> Watch:
        return _ReadyWatch(self, context)


class _ReadyWatch(DescriptorWatch):
    __slots__ = ("_condition",)

    def __init__(self, condition: ReadySignalled, context: Context) -> None:
        super().__init__(context)
        self._condition = condition

    def look(self, now: Nanoseconds) -> Verdict:
        fd = self._condition.fd
        listening = fd is not None and self.listen(fd)
        if self._condition.poll():
            return Verdict(True, True)
        return NOT_YET if listening else Verdict(False, None, self._context.next_look(now))

    def seen(self) -> str:
        if self._condition.fd is None and not self._condition.poll():
            return "the child ended its side without setting it"
        return ""
