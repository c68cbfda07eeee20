"""Signals, heard by a callback instead of an exception that may come between any two bytecodes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from typing import Any, Self

from waitkit.engine.descriptors import CannotStart, DescriptorSubscription, watch_descriptor

__all__ = ["HeardSignals", "has_terminal", "in_foreground"]


class HeardSignals:
    """For the length of a block, have each of these signals told to *callback*, in a thread of waitkit's own.

    A handler of Python runs in the main thread, between two bytecodes: one whose signal comes just before a rest would run
    after it. So each signal is written to a pipe, by C code and at once, and the thread that waits for descriptors reads it.
    A signal that is ignored when the block begins goes on being ignored. For the main thread.

    Args:
        numbers: the signals.
        callback: called with the number of each.
    """

    def __init__(self, numbers: Iterable[int], callback: Callable[[int], object]) -> None:
        self._numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
        self._callback = callback
        self._handlers: dict[int, Any] = {}
        self._subscription: DescriptorSubscription | None = None

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        for fd in (self._reader, self._writer):
            os.set_blocking(fd, False)
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        handler = _nothing if self._listen() else self._directly
        for number in self._numbers:
            self._handlers[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        if self._subscription is not None:
            self._subscription.close()
        os.close(self._writer)
        os.close(self._reader)

    def _listen(self) -> bool:
        try:
            self._subscription = watch_descriptor(self._reader, self._read)
        except CannotStart:  # no epoll and no kqueue here
            return False
        return True

    def _read(self) -> None:
        try:
            numbers = os.read(self._reader, 4_096)
        except OSError:  # nothing is there; the block is being left
            return
        self._listen()
        for number in numbers:
            if number in self._handlers:
                self._callback(number)

    def _directly(self, number: int, _: object) -> None:
        self._callback(number)


def _nothing(*_: object) -> None:
    """There must be a handler, or the signal would do what it does by default."""


def has_terminal() -> bool:
    """Whether this process has a terminal that it could be ended by."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def in_foreground() -> bool:
    """Whether Ctrl-C at the terminal reaches the whole process group of ours, and so those we have started in it."""
    try:
        fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(fd)
