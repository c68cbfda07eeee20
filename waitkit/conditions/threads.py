"""The standard library's own: events, queues, futures and threads, woken by hooks on what they already do."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar, cast

from waitkit.conditions.condition import Condition
from waitkit.conditions.probes import Probe
from waitkit.conditions.sources import describe_value
from waitkit.engine.signals import ConditionHook, Signal, Wake
from waitkit.ground.durations import MICROSECOND, Nanoseconds
from waitkit.waits.watching import Context, Verdict, Watch

__all__ = ["EventSet", "FutureDone", "ItemQueued", "SharedEventSet", "ThreadEnded", "notified"]

T = TypeVar("T")


class _HookedWatch(Watch):
    """Calls *judge* when one of *conditions* is notified; what it returns is the value, if true.

    Where a condition cannot be hooked (a subclass with its own ``notify``, another implementation) or does not
    tell of a change in both directions, the watch falls back to looking at growing gaps.
    """

    __slots__ = ("_context", "_falls_silently", "_hookable", "_hooks", "_judge", "_judged")

    def __init__(
        self,
        context: Context,
        conditions: tuple[object, ...],
        judge: Callable[[], object],
        *,
        falls_silently: bool = False,
    ) -> None:
        self._context = context
        self._judge = judge
        self._judged: object = None
        self._falls_silently = falls_silently
        self._hooks: list[ConditionHook] = []
        self._hookable: tuple[threading.Condition, ...] = ()
        if conditions and all(ConditionHook.works_on(condition) for condition in conditions):
            self._hookable = cast("tuple[threading.Condition, ...]", conditions)

    def arm(self, wake: Wake) -> None:
        self._hooks = [ConditionHook(condition, wake) for condition in self._hookable]

    def look(self, now: Nanoseconds) -> Verdict:
        for hook in self._hooks:
            hook.arm()
        judged = self._judged = self._judge()
        holds = bool(judged)
        silent = not self._hookable or (holds and self._falls_silently)
        return Verdict(holds, judged, self._context.next_look(now) if silent else None)

    def close(self) -> None:
        for hook in self._hooks:
            hook.close()

    def seen(self) -> str:
        return describe_value(self._judged) if self._judged else ""


class EventSet(Condition[bool]):
    """A :class:`threading.Event` that is set. Being cleared notifies nobody, so ``~event`` is looked at from time to time."""

    def __init__(self, event: threading.Event) -> None:
        self.event = event

    @property
    def what(self) -> str:
        return f"{_named(self.event)} to be set"

    def watch(self, context: Context) -> Watch:
        hook = getattr(self.event, "_cond", None)
        return _HookedWatch(context, (hook,), self.event.is_set, falls_silently=True)


class SharedEventSet(Condition[bool]):
    """A :class:`multiprocessing.Event` that is set.

    It is looked at from time to time: it consists of POSIX semaphores, which no selector can wait for, and a thread that
    waited in our place could not be called back without waking somebody else's waiter (they all share one semaphore).
    """

    def __init__(self, event: Any) -> None:
        self.event = event

    @property
    def what(self) -> str:
        return "a multiprocessing.Event to be set"

    def watch(self, context: Context) -> Watch:
        return _HookedWatch(context, (), self.event.is_set)


class ItemQueued(Condition[Any]):
    """A :class:`queue.Queue` (or Lifo-, Priority-, SimpleQueue) that has an item; its value is the queue.

    It says that an item is there, not that it stays: another thread may take it first.
    """

    def __init__(self, items: queue.Queue[Any]) -> None:
        self._queue = items

    @property
    def what(self) -> str:
        return f"an item in {_named(self._queue)}"

    def watch(self, context: Context) -> Watch:
        items = self._queue
        # put() notifies not_empty and get() not_full: both, as ~condition waits for the queue to be empty. A
        # SimpleQueue is written in C and has neither.
        hooks = (getattr(items, "not_empty", None), getattr(items, "not_full", None))
        return _HookedWatch(context, hooks, lambda: None if items.empty() else items)


class FutureDone(Condition["Future[T]"]):
    """A :class:`concurrent.futures.Future` that is done: with a result, an exception, or cancelled. Its value is the future."""

    def __init__(self, future: Future[T]) -> None:
        self._future = future

    @property
    def what(self) -> str:
        return "a future to be done"

    def watch(self, context: Context) -> Watch:
        # add_done_callback cannot be undone, so a wait that timed out would stay behind in the future.
        future = self._future
        return _HookedWatch(context, (getattr(future, "_condition", None),), lambda: future if future.done() else None)


class ThreadEnded(Condition[threading.Thread]):
    """A :class:`threading.Thread` that has run and ended; its value is the thread. One not yet started has not ended."""

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread

    @property
    def what(self) -> str:
        return f"thread {self._thread.name!r} to end"

    def watch(self, context: Context) -> Watch:
        return _ThreadWatch(self._thread, context)


#: Between the last Python code of a thread and its end lie some microseconds for which there is no hook.
_SETTLING: Final = 50 * MICROSECOND


class _ThreadWatch(Watch):
    __slots__ = ("_context", "_ending", "_thread", "_token")

    def __init__(self, thread: threading.Thread, context: Context) -> None:
        self._thread = thread
        self._context = context
        self._ending: _ThreadEnding | None = None
        self._token: object = None

    def arm(self, wake: Wake) -> None:
        self._ending = _ThreadEnding.of(self._thread)
        if self._ending is not None:
            self._token = self._ending.signal.subscribe(wake)

    def look(self, now: Nanoseconds) -> Verdict:
        thread = self._thread
        ending = self._ending
        leaving = ending is not None and (ending.begun or threading._active.get(thread.ident) is not thread)  # type: ignore[attr-defined]
        if thread.ident is not None and not thread.is_alive():
            return Verdict(True, thread)
        if thread.ident is not None and leaving:
            return Verdict(False, None, now + _SETTLING)
        return Verdict(False, None, None if ending is not None else self._context.next_look(now))

    def close(self) -> None:
        if self._ending is not None:
            self._ending.signal.unsubscribe(self._token)

    def seen(self) -> str:
        return "still running" if self._thread.is_alive() else "not started" if self._thread.ident is None else ""


class _ThreadEnding:
    """Put in the place of a thread's ``_delete``, the last Python method a thread calls (3.11 to 3.14).

    Threads that were not started by ``threading`` (``_DummyThread``) never call it, and a ``Thread`` class without it
    cannot be hooked: those are looked at from time to time.
    """

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = weakref.ref(thread)
        self.begun = False
        self.signal = Signal()

    def __call__(self) -> None:
        thread = self._thread()
        try:
            if thread is not None:
                type(thread)._delete(thread)  # type: ignore[attr-defined]
        finally:
            self.begun = True
            self.signal.notify()

    @classmethod
    def of(cls, thread: threading.Thread) -> _ThreadEnding | None:
        """The hook of *thread*, one for all who wait for it; ``None`` where there can be none."""
        if not hasattr(type(thread), "_delete") or isinstance(thread, threading._DummyThread):
            return None
        hook = thread.__dict__.setdefault("_delete", cls(thread))  # atomic: two threads get the same one
        return hook if isinstance(hook, cls) else None


class _Notified(Condition[T]):
    def __init__(self, condition: threading.Condition, predicate: Callable[[], T]) -> None:
        self._condition = condition
        self._predicate = predicate
        self._probe = Probe(predicate)  # refuses what it must, and has the words when they are needed

    @property
    def what(self) -> str:
        return self._probe.what

    def watch(self, context: Context) -> Watch:
        return _HookedWatch(context, (self._condition,), self._predicate)


def notified(condition: threading.Condition, predicate: Callable[[], T]) -> Condition[T]:
    """Holds when *predicate* is true, and is looked at only when *condition* is notified.

    For code that has a ``threading.Condition`` already. The predicate is called in the waiting thread *without* the
    condition's lock; one that needs the lock takes it. Its wake-ups are taken from nobody: ``notify(1)`` still reaches a
    thread in ``condition.wait()``.

    Args:
        condition: notified by whoever changes what *predicate* looks at.
        predicate: as any callable given to :func:`waitkit.wait_for`.

    Raises:
        TypeError: *condition* is no ``threading.Condition``, or *predicate* is not a callable without arguments.
    """
    if not isinstance(condition, threading.Condition):
        raise TypeError(f"notified() takes a threading.Condition first, not {condition!r}")
    if not callable(predicate):
        raise TypeError(f"notified() takes a callable without arguments second, not {predicate!r}")
    return _Notified(condition, predicate)


def _named(thing: object) -> str:
    kind = type(thing)
    return f"{kind.__module__.removeprefix('_')}.{kind.__qualname__}"
