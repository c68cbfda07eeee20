"""What a child process writes: read as it comes, so that the child never blocks, and the end of it kept."""

from __future__ import annotations

import os
import re
import threading
import weakref
from typing import Any, Final, Literal, Protocol, TypeAlias

from waitkit.conditions.condition import Condition
from waitkit.engine.descriptors import DescriptorSubscription, watch_descriptor
from waitkit.engine.owned import OwnedDescriptor
from waitkit.engine.signals import Signal
from waitkit.ground.checks import check_count

__all__ = ["Output", "Search", "Sink", "Stream", "StreamName"]

StreamName: TypeAlias = Literal["stdout", "stderr"]


class Sink(Protocol):
    """Takes what was read, with the name of the stream. It must not block, nor run code of the user."""

    def __call__(self, stream: str, chunk: bytes, /) -> None: ...

    def finish(self) -> None:
        """Nothing more will come."""

    @property
    def handed_on(self) -> Condition[Any]:
        """Holds when it has done with all it took, and was told that nothing more will come."""


_CHUNK: Final = 65_536
_KEPT: Final = 262_144

#: What is kept until those who search the output from its beginning are there.
_KEPT_AT_FIRST: Final = 64 * _KEPT


class Search:
    """A pattern that is looked for in one stream; what it has found once stays found.

    It gets everything that comes, in pieces of 256 to 512 KiB, each of which begins with the last 256 KiB of the one before: so
    it misses no match but those that are longer than that, however much comes between two looks of who waits for it.
    """

    __slots__ = ("__weakref__", "_pattern", "_searched", "found")

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self._searched = -1
        self.found: re.Match[str] | None = None

    def wants(self, size: int) -> bool:
        """Whether a stream of which so much was written has news. A pattern that fits nothing is not tried at every wake-up."""
        return self.found is None and size > self._searched

    def take(self, text: str, size: int, *, is_whole: bool) -> None:
        """Search the last part of what was written, or all of it: only there ``^`` is the beginning."""
        self._searched = size
        self.found = self._pattern.search(text, 0 if is_whole else 1)


class Stream:
    """One stream of a child: the last 256 KiB of it, and searches in all of it.

    ``_lock`` guards the buffer, the searches and the descriptor. Reading happens in waitkit's descriptor thread whenever
    the child has written, and once more when the child is gone. Nothing is dropped before it was searched: the regular
    expressions run under the lock, in the thread that reads or the one that waits. As they run under the GIL, too, no thread
    would gain from their running elsewhere.
    """

    def __init__(self, name: str, fd: int, sink: Sink | None = None) -> None:
        #: ``"stdout"`` or ``"stderr"``
        self.name = name
        #: notified when something was read, and at the end
        self.changed = Signal()
        self._lock = threading.RLock()
        self._kept = bytearray()
        self._dropped = 0
        self._from_the_start = True
        self._searches: weakref.WeakSet[Search] = weakref.WeakSet()
        self._pipe: OwnedDescriptor | None = OwnedDescriptor(fd)
        self._subscription: DescriptorSubscription | None = None
        self._sink = sink
        os.set_blocking(fd, False)

    def start(self) -> None:
        """Begin to read."""
        self._listen()

    def _listen(self) -> None:
        with self._lock:
            if self._pipe is not None:
                self._subscription = watch_descriptor(self._pipe.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        if self._read():
            self._listen()
        self.changed.notify()

    def _read(self) -> bool:
        """Take what is there. False at the end of the stream."""
        with self._lock:
            return self._take_in()

    # What follows is called by who holds the lock.

    def _take_in(self) -> bool:
        while self._pipe is not None:
            try:
                chunk = os.read(self._pipe.fileno(), _CHUNK)
            except BlockingIOError:
                return True
            except OSError:
                chunk = b""
            if not chunk:
                self._close()
                return False
            self._kept += chunk
            if self._sink is not None:
                self._sink(self.name, chunk)
            self._drop_what_is_old()
            if len(chunk) < _CHUNK:
                return True  # let others have their turn; if there is more, we are called again
        return False

    def _drop_what_is_old(self) -> None:
        most = _KEPT_AT_FIRST if self._from_the_start else 2 * _KEPT if self._searches else _KEPT
        if len(self._kept) <= most:
            return
        for search in tuple(self._searches):
            self._let_search(search)
        surplus = len(self._kept) - _KEPT
        del self._kept[:surplus]
        self._dropped += surplus

    def _let_search(self, search: Search) -> None:
        if search.wants(self.size):
            search.take(self._kept.decode("utf-8", "replace"), self.size, is_whole=self._dropped == 0)

    def _close(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.close()

    def _read_all(self) -> bool:
        """Take what is there, also where it comes in small pieces; a child that never stops writing is left at 4 MiB.

        Returns:
            Whether anything was there: then *changed* is to be notified, once the lock is given up.
        """
        began = self.size
        limit = began + 16 * _KEPT
        while self._pipe is not None and self.size < limit:
            before = self.size
            if not self._take_in() or self.size == before:
                break
        return self.size > began

    # What follows takes the lock.

    def finish(self) -> None:
        """The child is gone: take what is left, and stop. A grandchild that holds the pipe open is not waited for."""
        with self._lock:
            self._read_all()
            self._close()
        self.changed.notify()

    @property
    def size(self) -> int:
        """Bytes written so far, those no longer kept included."""
        with self._lock:
            return self._dropped + len(self._kept)

    def begin_search(self, search: Search) -> None:
        """Have *search* see what is kept, and from now on all that comes, until it is ended or nobody has it any more."""
        with self._lock:
            self._searches.add(search)

    def end_search(self, search: Search) -> None:
        """Ending it again does nothing."""
        with self._lock:
            self._searches.discard(search)

    def forget_what_is_old(self) -> None:
        """Those who search from the beginning are there: from now on the end alone is kept."""
        with self._lock:
            self._from_the_start = False
            self._drop_what_is_old()

    def found_by(self, search: Search) -> re.Match[str] | None:
        """What a search has found in all that was written so far."""
        with self._lock:
            new = self._read_all()
            self._let_search(search)
        self._tell_of(new)
        return search.found

    def text(self) -> str:
        """What is kept, as text; bytes that are no UTF-8 are replaced."""
        with self._lock:
            new = self._read_all()
            kept = self._kept[-_KEPT:].decode("utf-8", "replace")
        self._tell_of(new)
        return kept

    def _tell_of(self, new: bool) -> None:
        # What a look takes the selector will not tell of: who waits for output, the caller among them, is to look.
        if new:
            self.changed.notify()


class Output:
    """What a process wrote to its two streams, as far as it is kept: the last 256 KiB of each."""

    def __init__(self, stdout: int, stderr: int, sink: Sink | None = None) -> None:
        self._sink = sink
        self._streams = (Stream("stdout", stdout, sink), Stream("stderr", stderr, sink))
        try:
            for stream in self._streams:
                stream.start()
        except BaseException:
            self.finish()
            raise

    def streams(self, name: StreamName | None) -> tuple[Stream, ...]:
        """The stream of this name, or both."""
        return tuple(stream for stream in self._streams if name in (None, stream.name))

    def forget_what_is_old(self) -> None:
        """Those who search both streams from their beginning are there: from now on the end alone is kept."""
        for stream in self._streams:
            stream.forget_what_is_old()

    @property
    def stdout(self) -> str:
        """The text written to standard output."""
        return self._streams[0].text()

    @property
    def stderr(self) -> str:
        """The text written to standard error."""
        return self._streams[1].text()

    def tail(self, lines: int = 10) -> str:
        """The last lines of both streams, each under its name; empty where nothing was written.

        Args:
            lines: how many of each at most, 1 or more.

        Raises:
            ValueError: *lines* is no such number.
        """
        check_count(lines, "lines")
        parts = []
        for stream in self._streams:
            last = stream.text().rstrip().splitlines()[-lines:]
            if last:
                parts.append(f"the end of its {stream.name}:\n" + "\n".join(f"    {line}" for line in last))
        return "\n".join(parts)

    @property
    def handed_on(self) -> Condition[Any] | None:
        """That all of it was handed on, after its end; ``None`` where nobody gets it."""
        return None if self._sink is None else self._sink.handed_on

    def finish(self) -> None:
        """Take what is left of both streams, and stop reading."""
        for stream in self._streams:
            stream.finish()
        if self._sink is not None:
            self._sink.finish()


Output.__module__ = "waitkit"
