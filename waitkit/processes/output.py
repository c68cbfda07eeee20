"""What a child process writes: read as it comes, so that the child never blocks, and the end of it kept."""

from __future__ import annotations

import os
import threading
from typing import Final, Literal, Protocol, TypeAlias

from waitkit.engine.descriptors import DescriptorSubscription, watch_descriptor
from waitkit.engine.signals import Signal

__all__ = ["Output", "Sink", "Stream", "StreamName"]

StreamName: TypeAlias = Literal["stdout", "stderr"]


class Sink(Protocol):
    """Takes what was read, with the name of the stream. It must not block, nor run code of the user."""

    def __call__(self, stream: str, chunk: bytes, /) -> None: ...

    def finish(self) -> None:
        """Nothing more will come."""


_CHUNK: Final = 65_536
_KEPT: Final = 262_144


class Stream:
    """One stream of a child: the last 256 KiB of it.

    ``_lock`` guards the buffer and the descriptor. Reading happens in waitkit's descriptor thread whenever the
    child has written, and once more when the child is gone.
    """

    def __init__(self, name: str, fd: int, sink: Sink | None = None) -> None:
        #: ``"stdout"`` or ``"stderr"``
        self.name = name
        #: notified when something was read, and at the end
        self.changed = Signal()
        self._lock = threading.RLock()
        self._kept = bytearray()
        self._dropped = 0
        self._fd: int | None = fd
        self._subscription: DescriptorSubscription | None = None
        self._sink = sink
        os.set_blocking(fd, False)

    def start(self) -> None:
        """Begin to read."""
        self._listen()

    def _listen(self) -> None:
        with self._lock:
            if self._fd is not None:
                self._subscription = watch_descriptor(self._fd, self._on_readable)

    def _on_readable(self) -> None:
        if self._read():
            self._listen()
        self.changed.notify()

    def _read(self) -> bool:
        """Take what is there. False at the end of the stream."""
        with self._lock:
            while self._fd is not None:
                try:
                    chunk = os.read(self._fd, _CHUNK)
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
                surplus = len(self._kept) - _KEPT
                if surplus > 0:
                    del self._kept[:surplus]
                    self._dropped += surplus
                if len(chunk) < _CHUNK:
                    return True  # let others have their turn; if there is more, we are called again
            return False

    def _close(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def finish(self) -> None:
        """The child is gone: take what is left, and stop. A grandchild that holds the pipe open is not waited for."""
        with self._lock:
            self._read_all()
            self._close()
        self.changed.notify()

    def _read_all(self) -> bool:
        """Take what is there, also where it comes in small pieces; a child that never stops writing is left at 4 MiB.

        Returns:
            Whether anything was there: then *changed* is to be notified, once the lock is given up.
        """
        began = self.size
        limit = began + 16 * _KEPT
        while self._fd is not None and self.size < limit:
            before = self.size
            if not self._read() or self.size == before:
                break
        return self.size > began

    @property
    def size(self) -> int:
        """Bytes written so far, those no longer kept included."""
        with self._lock:
            return self._dropped + len(self._kept)

    def snapshot(self) -> tuple[str, int]:
        """The text, all written so far included, and how much that was; bytes that are no UTF-8 are replaced."""
        with self._lock:
            new = self._read_all()
            found = self._kept.decode("utf-8", "replace"), self.size
        if new:
            # What is taken here the selector will not tell of: who waits for output, the caller among them, is to look.
            self.changed.notify()
        return found

    def text(self) -> str:
        """What is kept, as text."""
        return self.snapshot()[0]


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
            lines: how many of each at most.
        """
        parts = []
        for stream in self._streams:
            last = stream.text().rstrip().splitlines()[-lines:]
            if last:
                parts.append(f"the end of its {stream.name}:\n" + "\n".join(f"    {line}" for line in last))
        return "\n".join(parts)

    def finish(self) -> None:
        """Take what is left of both streams, and stop reading."""
        for stream in self._streams:
            stream.finish()
        if self._sink is not None:
            self._sink.finish()


Output.__module__ = "waitkit"
