"""The pollers of this process that run, and what ends them all: a signal, or the end of the interpreter."""

from __future__ import annotations

import atexit
import signal
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from waitkit.engine.forks import on_fork_in_child
from waitkit.ground.durations import Nanoseconds
from waitkit.ground.errors import WaitTimeout
from waitkit.polls.conditions import Observable, Stopped
from waitkit.waits.drivers import block
from waitkit.waits.wait import Wait

__all__ = ["add", "discard", "running", "stop_pollers_on"]


class _Machine(Observable, Protocol):
    def begin_stop(self, *, cancel: bool = False) -> bool: ...
    def stop_soon(self) -> None: ...


# Single operations on a dictionary are atomic, so a signal handler may come between any two.
_running: dict[_Machine, Nanoseconds | None] = {}


def add(machine: _Machine, patience_at_exit: Nanoseconds | None) -> None:
    """A poller starts. With *patience_at_exit* the end of the interpreter stops it, and waits so long for its run."""
    if patience_at_exit is not None:
        atexit.unregister(_stop_at_exit)
        atexit.register(_stop_at_exit)
    _running[machine] = patience_at_exit


def discard(machine: _Machine) -> None:
    """A poller has ended."""
    _running.pop(machine, None)


def running() -> set[_Machine]:
    """Those that have started and not ended."""
    return set(_running)


def _stop_at_exit() -> None:
    asked = [(machine, patience) for machine, patience in _running.copy().items() if patience is not None]
    going_on = [(machine, patience) for machine, patience in asked if machine.begin_stop()]
    for machine, patience in going_on:
        try:
            block(Wait(Stopped(machine), patience))
        except WaitTimeout as error:
            warnings.warn(f"the interpreter ends, and {error}", RuntimeWarning, stacklevel=1)


def stop_pollers_on(*signals: signal.Signals) -> None:
    """Have the first of these signals stop all pollers of the process; the next does what it did before.

    ::

        stop_pollers_on(signal.SIGTERM, signal.SIGINT)
        check_orders.start().join()         # returns when the run in progress at SIGTERM has ended

    The handler does not wait: it lets no further run begin. Whoever waits for the pollers (:meth:`Poller.join`, a ``with``
    block that is left) goes on when their runs have ended.

    Args:
        signals: one or more, such as ``signal.SIGTERM``.

    Raises:
        TypeError, ValueError: there are none, or one is no signal that can be handled (also outside of the main thread).
    """
    if not signals:
        raise TypeError("stop_pollers_on() needs at least one signal, such as signal.SIGTERM")
    before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def handle(_number: int, _frame: FrameType | None) -> None:
        for one, handler in before.items():
            signal.signal(one, signal.SIG_DFL if handler is None else handler)
        for machine in _running.copy():
            machine.stop_soon()

    for one in signals:
        before[one] = signal.signal(one, handle)


@on_fork_in_child
def _forget() -> None:
    _running.clear()
