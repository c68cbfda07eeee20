"""Where other threads are: their frames, asked for so that CPython does not stand still."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final, TypeAlias

from waitkit.engine.locks import ForkSafeLock

__all__ = ["Spot", "coroutine_frames", "current_frames", "spot_of"]

#: See :func:`spot_of`.
Spot: TypeAlias = tuple[int, int, int]

#: Held while the garbage collector is off, so that nobody turns it on under another.
_lock: Final = ForkSafeLock()


def current_frames() -> dict[int, FrameType]:
    """The innermost frame of each thread, by its identifier.

    ``sys._current_frames()`` makes objects while it holds a lock of the interpreter. Where that begins a collection, and the
    collection ends the thread-local data of a thread or lets another thread run that starts or ends, CPython waits for that lock
    for ever, with the interpreter's own lock in its hand (gh-106883; seen on 3.11.7). So no collection begins meanwhile.
    """
    with _lock:
        collects = gc.isenabled()
        try:
            gc.disable()
            return sys._current_frames()
        finally:
            if collects:
                gc.enable()


def spot_of(frame: FrameType) -> Spot:
    """What tells whether a thread is still where it was, as far as can be told without keeping its frame.

    The code is part of it: a frame that is over leaves its memory, and so its ``id``, to the next one.
    """
    return id(frame.f_code), id(frame), frame.f_lasti


def coroutine_frames(coroutine: Any) -> Iterator[FrameType]:
    """The frames of a coroutine that is suspended, and of what that awaits: the innermost last.

    ``Task.get_stack`` has the first of them only.
    """
    step = coroutine
    while step is not None:
        for kind in ("cr", "gi", "ag"):  # coroutine, generator, asynchronous generator
            frame = getattr(step, f"{kind}_frame", None)
            if frame is not None:
                yield frame
                step = getattr(step, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
                break
        else:
            return
