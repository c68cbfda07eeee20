"""What remains real while time is virtual: the clock of the system, and what the system knows of threads."""

from __future__ import annotations

import threading
import time
from typing import Final

from waitkit.ground.durations import Nanoseconds

__all__ = ["busy", "is_ours", "name_of", "real_now"]

#: Real time, whatever is done to the module ``time`` later.
real_now: Final = time.monotonic_ns


def busy(thread: int) -> Nanoseconds:
    """How long *thread* has computed in its life, by Linux; -1: it does so now, or is ready to. Elsewhere 0."""
    native = getattr(threading._active.get(thread), "native_id", None)  # type: ignore[attr-defined]
    try:
        with open(f"/proc/self/task/{native}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
        with open(f"/proc/self/task/{native}/schedstat", "rb") as file:
            return int(file.read().split()[0]) if state == b"S" else -1
    except (OSError, ValueError, IndexError):
        return 0


def is_ours(thread: int) -> bool:
    """Whether it is one of waitkit's own, and no thread of the test."""
    found = threading._active.get(thread)  # type: ignore[attr-defined]
    return found is not None and found.name.startswith("waitkit-")


def name_of(thread: int) -> str:
    """As it is called in messages."""
    found = threading._active.get(thread)  # type: ignore[attr-defined]
    return f"thread {found.name!r}" if found is not None else f"thread {thread}"
