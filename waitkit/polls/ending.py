"""The pollers of this process that run, and what ends them all: a signal, or the end of the interpreter."""

from __future__ import annotations

import atexit
import signal
import threading
import warnings
from contextlib import ExitStack
from functools import partial
from types import FrameType
from typing import Protocol

from waitkit.engine.background import CannotStart, start_thread
from waitkit.engine.clock import now
from waitkit.engine.forks import on_fork_in_child
from waitkit.engine.timers import call_at
from waitkit.ground.durations import Nanoseconds
from waitkit.ground.errors import WaitTimeout
from waitkit.polls.conditions import Observable, Stopped
from waitkit.waits.drivers import block
from waitkit.waits.wait import Wait

__all__ = ["add", "discard", "running", "stop_pollers_on"]


class _Machine(Observable, Protocol):
    def begin_stop(self, *, cancel: bool = False) -> bool: ...
    def let_none_follow(self) -> None: ...


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
        TypeError: there are none, or one is no signal.
        ValueError: one cannot be handled (``SIGKILL``, ``SIGSTOP``, a number that is no signal), or this is not the main thread.
            No handler is installed then.
    """
    if not signals:
        raise TypeError("stop_pollers_on() needs at least one signal, such as signal.SIGTERM")
    for one in signals:
        _refuse_what_cannot_be_handled(one)
    before = {one: signal.getsignal(one) for one in signals}

    def handle(_number: int, _frame: FrameType | None) -> None:
        for one, handler in before.items():
            signal.signal(one, signal.SIG_DFL if handler is None else handler)
        machines = list(_running.copy())
        for machine in machines:
            machine.let_none_follow()
        call_at(now(), partial(_stop_elsewhere, machines))

    for one in before:
        signal.signal(one, handle)


def _refuse_what_cannot_be_handled(one: object) -> None:
    if isinstance(one, bool) or not isinstance(one, int):
        raise TypeError(f"stop_pollers_on() takes signals, such as signal.SIGTERM, not {one!r}")
    if one not in signal.valid_signals():
        raise ValueError(f"stop_pollers_on() takes signals, such as signal.SIGTERM: there is no signal {one!r}")
    if one in (signal.SIGKILL, signal.SIGSTOP):
        raise ValueError(f"stop_pollers_on() cannot have {signal.Signals(one).name} handled: no process can")
    if threading.current_thread() is not threading.main_thread():
        raise ValueError(f"stop_pollers_on() can have {_name(one)} handled only where it is called in the main thread")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # of the real-time signals only the first and the last have a name
        return f"signal {number}"


def _stop_elsewhere(machines: list[_Machine]) -> None:
    """Stop them in a thread of its own: not in that of the timers, which others need, nor in a worker, as all may be busy."""
    try:
        start_thread("pollers-stop", partial(_stop, machines))
    except CannotStart:
        _stop(machines)


def _stop(machines: list[_Machine]) -> None:
    with ExitStack() as stack:  # each of them, though one fails to put away what it has
        for machine in machines:
            stack.callback(machine.begin_stop)


@on_fork_in_child
def _forget() -> None:
    _running.clear()
