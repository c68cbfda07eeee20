"""Threads of waitkit's own: started when first needed, few, daemonic, and gone when idle."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Final

from waitkit.engine.forks import on_fork_in_child
from waitkit.engine.locks import Token
from waitkit.ground.durations import SECOND

__all__ = ["LINGER", "REAL", "CannotStart", "others_may_fork", "run_shown", "show_error", "start_thread"]

#: How long an idle thread stays for the next piece of work. A process that is done waiting has no thread of ours,
#: so a later fork finds none.
LINGER: Final = 2 * SECOND


class CannotStart(RuntimeError):
    """No thread can be started: the interpreter is shutting down, or the system refuses. Callers look instead of listening."""


#: An attribute of threads that wait for what is outside of the program: virtual time does not concern them.
REAL: Final = "_waitkit_real"


#: Threads of ours that run, and start no process, by the numbers that the system has given them.
_fork_nothing: Final[set[int]] = set()
on_fork_in_child(_fork_nothing.clear)


class _Start:
    """What a thread runs: taken once, by the thread that begins it or by who calls it off."""

    def __init__(self, run: Callable[[], None], *, forks_nothing: bool) -> None:
        self.run = run
        self._forks_nothing = forks_nothing
        self._to_be_run = Token()

    def __call__(self) -> None:
        if self._to_be_run.take():
            number = threading.get_native_id()
            try:
                if self._forks_nothing:
                    _fork_nothing.add(number)
                self.run()
            finally:
                _fork_nothing.discard(number)

    def call_off(self) -> bool:
        """False where it has begun."""
        return self._to_be_run.take()


def start_thread(
    name: str,
    run: Callable[[], None],
    *,
    otherwise: Callable[[], None] | None = None,
    real: bool = False,
    forks_nothing: bool = False,
) -> threading.Thread:
    """Start a daemon thread named ``waitkit-<name>``.

    Args:
        name: what it is for.
        run: what it runs.
        otherwise: called before an exception is raised, where *run* has not begun and never will. An interrupt may come when
            the thread is already there: then either *run* is begun, and this is not called, or the thread ends at once.
        real: marks it as one that virtual time does not concern.
        forks_nothing: nothing that it runs starts a process, see :func:`others_may_fork`.

    Raises:
        CannotStart: the interpreter is going down (3.12 and later refuse new threads then) or the limit is reached.
    """
    start = _Start(run, forks_nothing=forks_nothing)
    thread = threading.Thread(target=start, name=f"waitkit-{name}", daemon=True)
    setattr(thread, REAL, real)
    try:
        thread.start()
    except BaseException as error:
        if start.call_off() and otherwise is not None:
            otherwise()
        if isinstance(error, RuntimeError):
            raise CannotStart(str(error)) from error
        raise
    return thread


def others_may_fork() -> bool:
    """Whether there is a thread beside this one that may start a process, whoever has begun it; for Linux."""
    here = threading.get_native_id()
    return any(number not in _fork_nothing for number in map(int, os.listdir("/proc/self/task")) if number != here)


def run_shown(task: Callable[[], None]) -> None:
    """Run *task* in a thread that belongs to many: what it raises is shown as that of a thread is, and the thread goes on."""
    try:
        task()
    except BaseException:  # noqa: BLE001 - see above
        show_error()


def show_error() -> None:
    """Show the exception that is handled just now as that of a thread is."""
    kind, error, trace = sys.exc_info()
    assert kind is not None
    threading.excepthook(threading.ExceptHookArgs((kind, error, trace, threading.current_thread())))
