"""How threads come to take part: the standard library's starting, joining and waiting, while the clock is virtual."""

from __future__ import annotations

import concurrent.futures._base as futures
import concurrent.futures.thread as executors
import queue
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from waitkit.conditions.thread_ends import ThreadEnding
from waitkit.engine.background import REAL
from waitkit.engine.clock import now
from waitkit.engine.parking import Parker
from waitkit.ground.durations import SECOND
from waitkit.virtual.clock import VirtualClock
from waitkit.virtual.errors import VirtualClockError
from waitkit.virtual.notifying import notify_really, wait_virtually
from waitkit.virtual.turns import Crew, Seat

__all__ = ["Threads"]


#: The timer of pytest-timeout is started by the thread of the test, and is about real time.
_TIMERS_OF_RUNNERS: Final = "pytest_timeout "


#: Seconds of real time in which a thread whose function has returned has ended, as a rule within microseconds.
_SOON: Final = 1.0


class Threads:
    """Puts the clock's view of threads in the place of some functions of the standard library, and takes it out again.

    - ``Thread.start``: the parent counts its child before it runs.
    - ``Thread.join``: a wait, until the thread's function has returned.
    - ``Thread.is_alive``: not true any more once the function has returned. Those that take part see nothing of the microseconds
      until the thread has really ended, which are not the same each time.
    - ``Condition.wait``, on which events, queues, semaphores, barriers and futures rest: a wait on the virtual clock. Threads
      that do not take part are not concerned.
    - ``Condition.notify``: it wakes those, too, and they count as running from then on.
    - the clock by which ``threading``, ``queue`` and ``concurrent.futures`` count what is left of a time-out.
    - ``ThreadPoolExecutor.submit``: the work is counted, not the idle thread that does it.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._here = threading.local()
        self._crews: weakref.WeakKeyDictionary[Any, Crew] = weakref.WeakKeyDictionary()
        self._crew_of: weakref.WeakKeyDictionary[threading.Thread, Crew] = weakref.WeakKeyDictionary()
        #: those that were started inside and run, with who waits for each in ``join``
        self._joiners: dict[threading.Thread, list[Parker]] = {}
        #: those whose function has returned
        self._over: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._originals: list[tuple[Any, str, Any]] = []

    def install(self) -> None:
        """Begin."""
        self._put(threading.Thread, "start", self._start)
        self._put(threading.Thread, "join", self._join)
        self._put(threading.Thread, "is_alive", self._is_alive)
        self._put(threading.Condition, "wait", self._wait)
        self._put(threading.Condition, "notify", self._notify)
        self._put(threading, "_time", self._time)
        self._put(queue, "time", self._time)
        self._put(futures, "time", lambda _: _Time(self._clock))
        self._put(executors.ThreadPoolExecutor, "submit", self._submit)
        self._put(executors.ThreadPoolExecutor, "shutdown", self._shutdown)
        self._put(executors._WorkItem, "__init__", self._work_is_given)
        self._put(executors._WorkItem, "run", self._work)

    def forget_others(self) -> None:
        """A forked child: threads that it does not have need not be waited for."""
        here = threading.current_thread()
        self._joiners = {thread: [] for thread in self._joiners if thread is here}

    def remove(self) -> None:
        """End: what was there before is there again. It may be called again, where Ctrl-C cut it off."""
        for owner, name, original in reversed(self._originals):
            setattr(owner, name, original)
        self._originals.clear()

    def _put(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        self._originals.append((owner, name, original))
        setattr(owner, name, make(original))

    def _start(self, original: Callable[[threading.Thread], None]) -> Any:
        clock, here = self._clock, self._here

        def start(thread: threading.Thread) -> None:
            if thread.name.startswith(_TIMERS_OF_RUNNERS):
                setattr(thread, REAL, True)
            if not clock.is_member() or getattr(thread, REAL, False) or thread.ident is not None:
                start_really(thread)
                return clock.started_outside(thread.ident)
            # A thread of an executor waits for work in a way that nobody can see: its work takes part, not the thread.
            works_for_others = getattr(thread, "_target", None) is executors._worker
            seat = self._make_a_worker(thread) if works_for_others else clock.expect()
            self._joiners[thread] = []
            before, run = vars(thread).get("run"), thread.run
            thread.run = partial(self._run, thread, run, before, None if works_for_others else seat)  # type: ignore[method-assign]
            try:
                return start_really(thread)
            except BaseException:
                if thread.ident is None:  # it was not started; Ctrl-C may come after that
                    self._joiners.pop(thread, None)
                    del thread.run
                    if before is not None:
                        thread.run = before  # type: ignore[method-assign]
                    if seat is not None:
                        clock.withdraw(seat)
                raise

        def start_really(thread: threading.Thread) -> None:
            here.starting = True  # the parent waits for the child's first steps: that is real
            try:
                original(thread)
            finally:
                here.starting = False

        return start

    def _make_a_worker(self, thread: Any) -> Seat | None:
        """The thread will work for an executor. What it is initialized with takes part, and comes before its work."""
        crew = self._crew_of[thread] = self._crew()
        if len(thread._args) < 4 or thread._args[2] is None:
            return None
        clock, (executor, tasks, initialize, given) = self._clock, thread._args
        crew.size += 1
        seat = clock.expect(crew, first=True)

        def initialize_in_turn(*args: Any) -> None:
            clock.begin(seat)
            try:
                initialize(*args)
            except BaseException:
                crew.size -= 1  # this thread ends, after it has told those who wait for its work
                self._here.failed = seat
                raise
            clock.end(seat)

        thread._args = (executor, tasks, initialize_in_turn, given)
        return seat

    def _run(self, thread: threading.Thread, run: Callable[[], None], before: Any, seat: Seat | None) -> None:
        clock = self._clock
        if seat is not None:
            clock.begin(seat)
        try:
            run()
        except VirtualClockError:
            if not thread.name.startswith("waitkit-"):
                raise
        finally:
            del thread.run
            if before is not None:
                thread.run = before  # type: ignore[method-assign]
            self._over.add(thread)
            for parker in self._joiners.pop(thread, []):
                parker.unpark()
            ThreadEnding.begins_in(thread)  # before it leaves its turn: those who wait for it are ready from now on
            seat = seat or getattr(self._here, "failed", None)
            if seat is not None:
                clock.end(seat)

    def _join(self, original: Callable[..., None]) -> Any:
        clock = self._clock

        def join(thread: threading.Thread, timeout: float | None = None) -> None:
            joiners = self._joiners.get(thread)
            if joiners is None or not clock.is_member() or thread is threading.current_thread():
                return original(thread, timeout)
            parker = Parker(_End(thread, self._crew_of.get(thread)))
            joiners.append(parker)
            due = None if timeout is None else now() + round(max(0, timeout) * SECOND)
            while thread in self._joiners:
                if due is not None and now() >= due:
                    return None
                parker.park(due)
            return original(thread)  # it has run; what is left of it ends by itself

        return join

    def _is_alive(self, original: Callable[[threading.Thread], bool]) -> Any:
        clock, join = self._clock, threading.Thread.join

        def is_alive(thread: threading.Thread) -> bool:
            if thread in self._over and clock.is_member() and thread is not threading.current_thread():
                join(
                    thread, _SOON
                )  # what is left of it ends by itself, unless what shows its error needs something of ours
            return original(thread)

        return is_alive

    def _time(self, original: Callable[[], float]) -> Any:
        clock = self._clock
        # From the start on: the smaller a float, the more exact it is.
        return lambda: (clock.now() - clock.start) / SECOND if clock.is_member() else original()

    def _wait(self, original: Callable[..., bool]) -> Any:
        clock, here = self._clock, self._here

        def wait(condition: threading.Condition, timeout: float | None = None) -> bool:
            if getattr(here, "starting", False) or not clock.is_member():
                return original(condition, timeout)
            return wait_virtually(condition, timeout)

        return wait

    def _notify(self, original: Callable[..., None]) -> Any:
        clock = self._clock

        def notify(condition: threading.Condition, n: int = 1) -> None:
            woken = notify_really(original, condition, n)
            if woken and clock.outsiders.threads:
                clock.notified_outside(woken)

        return notify

    def _submit(self, original: Callable[..., Any]) -> Any:
        def submit(executor: Any, *args: Any, **kwargs: Any) -> Any:
            self._here.executor = executor
            try:
                return original(executor, *args, **kwargs)
            finally:
                self._here.executor = None

        return submit

    def _crew(self) -> Crew:
        """That of the executor which the caller gives work to."""
        executor = self._here.executor
        if executor not in self._crews:
            # Threads that are yet to be initialized come one by one.
            size = executor._max_workers if executor._initializer is None else len(executor._threads)
            self._crews[executor] = Crew(size)
        return self._crews[executor]

    def _work_is_given(self, original: Callable[..., None]) -> Any:
        clock = self._clock

        def init(item: Any, *args: Any) -> None:
            original(item, *args)
            given = clock.is_member() and getattr(self._here, "executor", None) is not None
            item.seat = clock.expect(self._crew()) if given else None
            if given:
                item.future.add_done_callback(partial(self._withdraw, item.seat))

        return init

    def _withdraw(self, seat: Seat, future: futures.Future[Any]) -> None:
        """Work is done, or never comes to a thread. What was cancelled comes: its thread tells those who wait for it."""
        if not future.cancelled() or getattr(self._here, "shuts_down", False):
            self._clock.withdraw(seat)

    def _shutdown(self, original: Callable[..., None]) -> Any:
        def shutdown(executor: Any, wait: bool = True, *, cancel_futures: bool = False) -> None:
            self._here.shuts_down = cancel_futures  # it takes the work that it cancels away from the threads
            try:
                original(executor, wait, cancel_futures=cancel_futures)
            finally:
                self._here.shuts_down = False

        return shutdown

    def _work(self, original: Callable[..., None]) -> Any:
        clock = self._clock

        def run(item: Any, *args: Any) -> None:
            seat = getattr(item, "seat", None)
            if seat is None or not clock.begin(seat):
                return original(item, *args)
            try:
                return original(item, *args)
            finally:
                clock.end(seat)  # after its future was set, and those who wait for it were counted

        return run


class _Time:
    """The module ``time`` as ``concurrent.futures`` sees it: for those who take part its clock is the virtual one.

    There it goes on by a nanosecond with each look of a thread: ``as_completed`` looks again and again until its deadline
    *has passed*, which would never be so for a clock that stands at that very instant.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._here = threading.local()

    def monotonic(self) -> float:
        if not self._clock.is_member():
            return time.monotonic()
        shown = self._clock.now() - self._clock.start
        self._here.shown = shown = max(shown, getattr(self._here, "shown", -1) + 1)
        return shown / SECOND

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class _End:
    """The end of a thread, as what another waits for."""

    def __init__(self, thread: threading.Thread, crew: Crew | None) -> None:
        self._thread = thread
        self._crew = crew

    @property
    def ends_by_itself(self) -> bool:
        """Whether time has nothing to do with it: a thread of an executor that has no work left."""
        return self._crew is not None and self._crew.busy == 0

    def describe(self) -> str:
        return f"thread {self._thread.name!r} to end (Thread.join)"
