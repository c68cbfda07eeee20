"""A few threads that run short tasks one after another, for those who have no thread of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from waitkit.engine.background import LINGER, CannotStart, run_shown, start_thread
from waitkit.engine.clock import now
from waitkit.engine.forks import on_fork_in_child, reset_in_child
from waitkit.engine.locks import ForkSafeLock
from waitkit.engine.parking import Parker

__all__ = ["MOST_WORKERS", "Task", "Workers", "run_in_worker", "use_workers"]

Task: TypeAlias = Callable[[], None]

#: So many tasks at most rest or compute at the same time; further ones queue.
MOST_WORKERS: Final = 64


class Workers:
    """Threads ``waitkit-<name>``: started when a task finds no idle one, gone when they have been idle for a while.

    One worker at a time is on its way to the queue (``_coming``), woken or being started; when it has taken its task and
    more are there, it calls the next. So a hundred short tasks do not wake a hundred threads that fight for the interpreter
    (measured at 10,000 tasks a second: 64 threads woken one by one took twice the time of the few that are needed).

    ``_lock`` guards all attributes. It is held for a few statements, never while a task runs. The worker that became
    idle last is woken first: the others get old, and end.
    """

    def __init__(self, most: int = MOST_WORKERS, name: str = "worker") -> None:
        self._most = most
        self._name = name
        self._lock = ForkSafeLock()
        reset_in_child(self, Workers.forget)
        self.forget()

    def forget(self) -> None:
        """Begin anew, as in a forked child: the threads, and what they were given, are the parent's."""
        self._tasks: deque[Task] = deque()
        self._idle: dict[Parker, None] = {}
        self._count = 0
        self._coming = False

    def run(self, task: Task) -> None:
        """Run *task* in a worker, as soon as one is free.

        Args:
            task: what it raises is shown as that of a thread is; it does no harm to others.

        Raises:
            CannotStart: there is no worker, and none can be started.
        """
        with self._lock:
            self._tasks.append(task)
        try:
            self._call_one()
        except CannotStart:
            with self._lock:
                if self._count or task not in self._tasks:
                    return  # a worker will come to it, or has
                self._tasks.remove(task)
            raise

    def _call_one(self) -> None:
        """Have one more worker come, where tasks are waiting and none is on its way."""
        with self._lock:
            if self._coming or not self._tasks:
                return
            parker = self._idle.popitem()[0] if self._idle else None
            if parker is None:
                if self._count >= self._most:
                    return
                self._count += 1
            self._coming = True
        if parker is not None:
            parker.unpark()
            return
        start_thread(self._name, self._work, otherwise=self._does_not_come)

    def _does_not_come(self) -> None:
        with self._lock:
            self._count -= 1
            self._coming = False

    def _work(self) -> None:
        parker = Parker()
        coming = True
        while True:
            with self._lock:
                if coming:
                    self._coming = False
                task = self._tasks.popleft() if self._tasks else None
                more = bool(self._tasks)
                if task is None:
                    self._idle[parker] = None
            if task is not None:
                if more:
                    self._call_another()
                run_shown(task)
                del task  # while it rests it keeps nothing alive
                coming = False
            elif self._rest(parker):
                coming = True
            else:
                return

    def _call_another(self) -> None:
        try:
            self._call_one()
        except CannotStart:
            pass  # those that there are will do the work

    def _rest(self, parker: Parker) -> bool:
        """Rest until called. False where nobody has called for a while."""
        idle_until = now() + LINGER
        while True:
            parker.linger(idle_until)
            with self._lock:
                if parker not in self._idle:
                    return True
                if now() >= idle_until:
                    del self._idle[parker]
                    self._count -= 1
                    return False


_workers = Workers()
#: for looks that somebody waits for, with a limit: they must not queue behind what runs for as long as it likes
_lookers = Workers(name="looker")


def run_in_worker(task: Task) -> None:
    """As :meth:`Workers.run`, on the workers of this process."""
    _workers.run(task)


def run_in_looker(look: Task) -> None:
    """As :meth:`Workers.run`, on threads of this process that do nothing but look, each for a short while."""
    _lookers.run(look)


def use_workers(workers: Workers, lookers: Workers | None = None) -> tuple[Workers, Workers]:
    """Make these those of this process; *lookers* left out: they stay. Returns the ones used until now."""
    global _workers, _lookers
    previous = _workers, _lookers
    _workers, _lookers = workers, lookers or _lookers
    return previous


@on_fork_in_child
def _reset() -> None:
    use_workers(Workers(), Workers(name="looker"))
