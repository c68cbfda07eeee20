"""Several processes at once: started side by side, so that the slowest counts and not the sum, and ended side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from waitkit.conditions.own import Event
from waitkit.engine.clock import now
from waitkit.engine.parking import Parker
from waitkit.ground.callers import Caller, calling_line
from waitkit.processes.managed import ManagedProcess
from waitkit.waits.drivers import Flow, drive, drive_in_loop
from waitkit.waits.wait import Wait
from waitkit.waits.watching import earliest

__all__ = ["Strand", "earliest_due", "started", "weave", "weave_in_loop"]


class _TakenDown(BaseException):
    """Another of the flows has failed: this one is to end as if it had been interrupted. Never leaves this module."""


class Strand:
    """One of several flows that one thread drives: where it stands."""

    def __init__(self, flow: Flow[Any], woken: Callable[[], None]) -> None:
        self._flow = flow
        self._woken = woken
        self._wait: Wait | None = None
        self._woken_up = True
        self._taken_down = False
        self.done = False
        #: what it ended with, where it failed
        self.error: BaseException | None = None
        self._go_on(lambda: flow.send(None))

    @property
    def due(self) -> int | None:
        """When to look at its wait again, at the latest."""
        return None if self._wait is None else self._wait.due

    @property
    def to_look(self) -> bool:
        """Whether it was woken since the last look."""
        return self._woken_up and not self.done

    def _wake(self) -> None:
        self._woken_up = True
        self._woken()

    def _go_on(self, step: Callable[[], Wait]) -> None:
        """Let the flow run to its next wait."""
        while True:
            try:
                self._wait = step()
            except StopIteration:
                self.done, self._wait = True, None
                return
            except BaseException as error:  # noqa: BLE001 - whoever drives judges what to do with it
                self.done, self.error, self._wait = True, error, None
                return
            try:
                if not self._wait.look():
                    self._wait.arm(self._wake)
                    self._woken_up = True
                    return
            except BaseException as error:  # noqa: BLE001 - the flow gets it
                step = self._failing(error)
            else:
                step = self._holding()

    def _holding(self) -> Callable[[], Wait]:
        wait, self._wait = self._wait, None
        assert wait is not None
        wait.close()
        return lambda: self._flow.send(wait.value)

    def _failing(self, error: BaseException) -> Callable[[], Wait]:
        wait, self._wait = self._wait, None
        if wait is not None:
            wait.close(error)
        return lambda: self._flow.throw(error)

    def look(self, instant: int) -> None:
        """Look at its wait, where that was woken or is due, and go on."""
        if self._wait is None or not (self._woken_up or (self._wait.due is not None and self._wait.due <= instant)):
            return
        self._woken_up = False
        try:
            holds = self._wait.look()
        except BaseException as error:  # noqa: BLE001 - as above
            self._go_on(self._failing(error))
        else:
            if holds:
                self._go_on(self._holding())

    def take_down(self) -> None:
        """End it because another one has failed. Again, it does nothing."""
        if not self._taken_down:
            self._taken_down = True
            self.throw(_TakenDown())

    def throw(self, error: BaseException) -> None:
        """End its wait by an exception."""
        if not self.done:
            self._go_on(self._failing(error))


def weave(flows: Sequence[Flow[Any]], *, all_or_none: bool) -> None:
    """Drive several flows in this thread, each to its end.

    Args:
        flows: not begun yet.
        all_or_none: where one fails, the others are ended as by an interrupt, which each may take its time to obey.

    Raises:
        ExceptionGroup: several failed by themselves; where it was one, its exception.
    """
    parker = Parker()
    strands: list[Strand] = []
    to_begin = list(flows)
    interrupt: BaseException | None = None
    while to_begin or not all(strand.done for strand in strands):
        try:
            while to_begin:
                strands.append(Strand(to_begin.pop(0), parker.unpark))
            _look_at_all(strands, all_or_none=all_or_none)
            going_on = [strand for strand in strands if not strand.done]
            if going_on and not any(strand.to_look for strand in going_on):
                parker.park(earliest_due(going_on))
        except BaseException as error:  # noqa: BLE001 - Ctrl-C, once or more: each flow gets it, and ends in its way
            interrupt = interrupt or error
            to_begin.clear()
            for strand in strands:
                strand.throw(error)
    if interrupt is not None:
        raise interrupt
    _raise_errors([strand.error for strand in strands])


def _look_at_all(strands: Sequence[Strand], *, all_or_none: bool) -> None:
    instant = now()
    for strand in strands:
        strand.look(instant)
    if all_or_none and any(strand.error is not None for strand in strands):
        for strand in strands:
            strand.take_down()


def earliest_due(strands: Sequence[Strand]) -> int | None:
    """When the first of them is to be looked at again at the latest."""
    due = None
    for strand in strands:
        due = earliest(due, strand.due)
    return due


async def weave_in_loop(flows: Sequence[Flow[Any]], caller: Caller, *, all_or_none: bool) -> None:
    """As :func:`weave`, in the running event loop: a task for each flow."""
    import asyncio

    errors: list[BaseException | None] = []

    async def run(flow: Flow[Any]) -> None:
        try:
            await drive_in_loop(flow, caller)
        except Exception as error:
            errors.append(error)
            if all_or_none:
                raise

    try:
        async with asyncio.TaskGroup() as group:
            for flow in flows:
                group.create_task(run(flow))
    except BaseExceptionGroup:
        _raise_errors(errors)
        raise
    _raise_errors(errors)


def _raise_errors(errors: Sequence[BaseException | None]) -> None:
    real = [error for error in errors if error is not None and not isinstance(error, _TakenDown)]
    for error in real:
        if not isinstance(error, Exception):
            raise error  # a scope was cancelled, an interrupt: nothing that goes into a group
    if len(real) == 1:
        raise real[0]
    if real:
        raise ExceptionGroup(f"{len(real)} processes failed", [error for error in real if isinstance(error, Exception)])


class started:  # noqa: N801 - a verb of users, as reserved_port
    """Several processes for the length of a block, started side by side: the slowest counts, not the sum.

    ::

        with started(managed_process(...), managed_process(...)) as (database, cache):
            ...

    The block begins when all are ready. Where one fails, the others are ended, and its error is raised; where several fail
    by themselves, an ``ExceptionGroup`` of their errors. At its end all are asked to end at once. ``async with`` does the
    same without blocking the event loop.

    Args:
        processes: one or more, none of them running.

    Raises:
        TypeError: one is no managed process, or there is none.
        ValueError: one is given twice.
    """

    def __init__(self, *processes: ManagedProcess) -> None:
        for process in processes:
            if not isinstance(process, ManagedProcess):
                raise TypeError(f"{process!r} is no process to be started: give what managed_process(...) returns")
        if not processes:
            raise TypeError("started() needs at least one managed_process(...)")
        if len(set(map(id, processes))) < len(processes):
            raise ValueError("a process is given twice: each runs once at a time, so make another managed_process(...)")
        self._processes = processes

    def __enter__(self) -> tuple[ManagedProcess, ...]:
        weave(self._starting(), all_or_none=True)
        return self._processes

    def _starting(self) -> list[Flow[None]]:
        to_come = list(self._processes)
        all_ready = Event()

        def starting(process: ManagedProcess) -> Flow[None]:
            yield from process._starting()
            try:
                to_come.remove(process)
                if not to_come:
                    all_ready.set()
                yield Wait(all_ready.described("the other processes to be ready"), None)
            except GeneratorExit:
                drive(process._stopping())
                raise
            except BaseException:
                yield from process._stopping()
                raise

        return [starting(process) for process in self._processes]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        weave([process._stopping() for process in self._processes], all_or_none=False)

    async def __aenter__(self) -> tuple[ManagedProcess, ...]:
        await weave_in_loop(self._starting(), calling_line(), all_or_none=True)
        return self._processes

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await weave_in_loop([process._stopping() for process in self._processes], calling_line(), all_or_none=False)


started.__module__ = "waitkit"
