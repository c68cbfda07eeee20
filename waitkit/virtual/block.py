"""What users write: ``with virtual_clock() as clock``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Self

from waitkit.engine import timers, workers
from waitkit.engine.clock import current_clock, use_clock, watch_wakeups
from waitkit.engine.timers import use_timers
from waitkit.engine.workers import use_workers
from waitkit.ground.checks import check_bool, check_count
from waitkit.ground.durations import SECOND, Duration, format_duration, to_nanoseconds
from waitkit.polls import ending
from waitkit.virtual.clock import VirtualClock
from waitkit.virtual.errors import VirtualClockError
from waitkit.virtual.loops import Loops
from waitkit.virtual.monitor import Monitor
from waitkit.virtual.outer_time import OuterTime, outer_time
from waitkit.virtual.telling import describe_parked
from waitkit.virtual.threads import Threads

__all__ = ["virtual_clock"]


class virtual_clock:  # noqa: N801 - used as a function is
    """Virtual time for the length of a block: every wait, delay, tick, deadline and rate of waitkit runs on it.

    ::

        with virtual_clock() as clock:
            poller = check_orders.start()               # every hour
            wait_for(poller.has_run(25), None)          # at once
            assert clock.elapsed == 24 * 3600

    Time stands still while any thread that takes part runs, and jumps to the next due time when all of them wait. The thread that
    enters takes part, every thread started inside, work in a ``ThreadPoolExecutor``, and event loops that run inside (with
    ``asyncio.sleep``); other threads from their first wait on, and while they do what they were woken for from inside (not those
    that ``threading`` does not start: of ``_thread.start_new_thread`` and of threads of C nobody tells the clock). Those
    that take part run one at a time, in a fixed order: a test takes the same course each time. Waits of ``threading`` (events,
    queues, conditions, joins) are virtual, too.

    What is awaited outside of the program (processes, ports, sockets, files) takes real time, and virtual time passes with it.
    A thread that blocks elsewhere (a lock, ``time.sleep``, a C call) makes time stand still; after *grace* every wait ends with
    a :class:`VirtualClockError` that names the thread and its lines. Where all wait and nothing is due, all waits end at once
    with a :class:`VirtualDeadlock` that says who waits for what, and where. So do waits without a limit for which, through twelve
    times *grace*, virtual time passes and nothing happens but looks and runs of pollers.

    Args:
        auto: ``False``: time passes only by :meth:`advance`.
        grace: how long, in real time, a thread may run or block without coming to a wait.
        real_things: ``False``: time jumps also while a process or a socket is awaited.
        drive: also move the clocks of the standard library, by ``"time-machine"`` or ``"freezegun"``, to be installed (the
            first moves the time of day, the second ``time.monotonic`` as well); either makes ``time.sleep`` a virtual wait.
            ``None``: leave them.
        seed: what the instant of the start is drawn with; ``None``: by chance.

    Raises:
        TypeError, ValueError: an argument cannot be what it should be.
        ModuleNotFoundError: what *drive* names is not installed.
    """

    def __init__(
        self,
        *,
        auto: bool = True,
        grace: Duration = "5s",
        real_things: bool = True,
        drive: str | None = None,
        seed: int | None = None,
    ) -> None:
        for name, value in (("auto", auto), ("real_things", real_things)):
            check_bool(value, name)
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise TypeError(f"seed={seed!r} is neither a whole number nor None")
        self._grace = to_nanoseconds(grace, "grace")
        self._clock = VirtualClock(auto=auto, real_things=real_things, seed=seed, grace=self._grace)
        self._clock.explain = self._explain
        self._threads = Threads(self._clock)
        self._loops = Loops(self._clock)
        self._outer: OuterTime = outer_time(drive, self._clock)
        self._monitor = Monitor(self._clock, self._grace)
        self._auto = auto
        self._used = False
        #: how to put back what was changed; each of these may be called again
        self._undo: list[Callable[[], object]] = []
        self._left: list[str] = []

    @property
    def elapsed(self) -> float:
        """Seconds of virtual time since the start."""
        return (self._clock.now() - self._clock.start) / SECOND

    @property
    def now(self) -> float:
        """The virtual instant, in seconds; its origin means nothing, but for what *drive* names it is the time of day."""
        return self._clock.now() / SECOND

    def advance(self, duration: Duration) -> None:
        """Let so much time pass: all that is due until then happens, each at its instant, what is due at the end included.

        Args:
            duration: how much.

        Raises:
            TypeError, ValueError: *duration* is no duration.
            RuntimeError: we are not inside of the block, or an event loop runs in this thread.
        """
        until = self._open().now() + to_nanoseconds(duration, "duration")
        self._refuse_in_a_loop("advance")
        self._clock.rest_until(until, f"{format_duration(until - self._clock.now())} to pass (advance)")

    def block_until(self, threads: int) -> None:
        """Return when so many other threads wait, and none runs. No time passes.

        Args:
            threads: how many, 1 or more; threads of waitkit's own that have nothing to do do not count.

        Raises:
            ValueError: *threads* is no whole number of 1 or more.
            RuntimeError: we are not inside of the block, or an event loop runs in this thread.
            VirtualDeadlock: there are fewer, and none will come.
        """
        check_count(threads, "threads")
        clock = self._open()
        self._refuse_in_a_loop("block_until")
        clock.rest_until_parked(threads)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A ``with`` block in which time stands still, and the thread may block in whatever it likes; others go on.

        Inside, its waits of ``threading`` are real, and threads that it starts do not take part before their first wait. What
        it waits for with waitkit, others have to bring about: a wait that time alone could end is an error after the grace.

        Raises:
            RuntimeError: we are not inside of the block of the clock.
        """
        self._open().hold()
        try:
            yield
        finally:
            self._clock.release()

    @staticmethod
    def _refuse_in_a_loop(method: str) -> None:
        from asyncio import _get_running_loop

        if _get_running_loop() is not None:
            raise RuntimeError(
                f"{method}() would block the event loop that runs in this thread, so none of its tasks could go on: "
                f"write `await asyncio.to_thread(clock.{method}, ...)`"
            )

    def _open(self) -> VirtualClock:
        if current_clock() is not self._clock:
            raise RuntimeError("time passes by this virtual clock only inside of its with block")
        return self._clock

    def __enter__(self) -> Self:
        if isinstance(current_clock(), VirtualClock):
            raise RuntimeError("the clock is virtual already: virtual clocks do not nest")  # noqa: TRY004 - no type is wrong
        if self._used:
            raise RuntimeError("this virtual clock was used already: make one for each with block")
        self._used = True
        self._pollers_before = ending.running()
        try:
            self._begin()
            return self
        except BaseException:
            self._put_back()
            raise

    def _begin(self) -> None:
        # How a step is undone is noted before it is made: Ctrl-C may come at any time.
        undo = self._undo
        undo.append(self._monitor.interrupter.remove)
        self._monitor.interrupter.install()
        undo.append(self._monitor.stop)
        self._monitor.start()
        undo.append(self._close)
        self._clock.enter()
        undo.append(partial(watch_wakeups, None))
        self._clock.outsiders.begin()
        watch_wakeups(self._clock.woken_outside)
        undo.append(partial(use_clock, current_clock()))
        use_clock(self._clock)
        # Those of real time go on for who waits there; they have threads of their own.
        undo.append(partial(use_timers, timers.current))
        use_timers(timers.Timers())
        undo.append(partial(use_workers, workers._workers, workers._lookers))
        use_workers(workers.Workers(), workers.Workers(name="looker"))
        undo.append(partial(_active.discard, self))
        _active.add(self)
        undo.append(self._threads.remove)
        self._threads.install()
        undo.append(self._loops.remove)
        self._loops.install()
        undo.append(self._outer.end)
        self._outer.begin()

    def _put_back(self) -> None:
        try:
            self._undo_all()
        except BaseException:
            self._undo_all()  # the step that Ctrl-C cut off, and what is left: each may be made again
            raise

    def _undo_all(self) -> None:
        errors: list[Exception] = []
        while self._undo:
            try:
                self._undo[-1]()
            except Exception as error:  # noqa: BLE001 - the rest has to be put back nevertheless
                errors.append(error)
            self._undo.pop()
        if errors:
            raise errors[0]

    def _close(self) -> None:
        explained = describe_parked(self._clock)
        if self._clock.close():
            self._left.append(explained)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                for machine in ending.running() - self._pollers_before:
                    machine.begin_stop(cancel=True)
                self._left += self._loops.left()
            self._put_back()
        except BaseException:
            self._put_back()
            raise
        if isinstance(error, KeyboardInterrupt) and self._monitor.stuck is not None:
            raise self._monitor.stuck from None
        if error is None and self._left:
            text = "\n".join(self._left)
            raise VirtualClockError(f"the virtual clock was left while threads wait on it:\n{text}")

    def _in_forked_child(self) -> None:
        self._clock.forget_others()
        self._threads.forget_others()
        self._monitor.begin_anew()

    def _explain(self) -> str:
        why = "nothing is due" if self._auto else "time passes only by advance()"
        return f"every thread that takes part waits, and {why}:\n{describe_parked(self._clock)}"


virtual_clock.__module__ = "waitkit"

_active: set[virtual_clock] = set()


def _in_forked_child() -> None:
    for clock in _active:
        clock._in_forked_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)
