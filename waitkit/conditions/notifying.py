"""The standard library's own: events, queues, futures and conditions, woken by a hook on what they already do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from waitkit.conditions.condition import Condition
from waitkit.conditions.probes import Probe
from waitkit.conditions.sources import describe_value
from waitkit.engine.signals import ConditionHook, Wake
from waitkit.ground.durations import Nanoseconds
from waitkit.waits.watching import NOT_YET, Context, Verdict, Watch

if TYPE_CHECKING:
    import queue
    from concurrent.futures import Future

__all__ = ["EventSet", "FutureDone", "ItemQueued", "SharedEventSet", "notified"]

T = TypeVar("T")


#: A flag that is set: the look that most waits end with. It is made once, not between the wake-up and the return.
_SET: Final = Verdict(True, True)


class _HookedWatch(Watch):
    """A watch that is woken by the ``notify`` of one of *conditions*; subclasses judge.

    Where a condition cannot be hooked (a subclass with its own ``notify``, another implementation), the watch falls
    back to looking at growing gaps.
    """

    __slots__ = ("_conditions", "_context", "_hooks")

    def __init__(self, context: Context, conditions: tuple[object, ...]) -> None:
        self._context = context
        self._conditions = conditions
        self._hooks: Sequence[ConditionHook] = ()

    def arm(self, wake: Wake) -> None:
        hooks = [hook for condition in self._conditions if (hook := ConditionHook.of(condition)) is not None]
        if len(hooks) == len(self._conditions):
            self._hooks = hooks
            for hook in hooks:
                hook.subscribe(wake, self)

    def close(self) -> None:
        for hook in self._hooks:
            hook.unsubscribe(self)


class _LevelWatch(_HookedWatch):
    """Judges by *judge*, which has no effects and costs little; what it returns is the value, if true."""

    __slots__ = ("_judge", "_judged", "_unheard")

    def __init__(
        self,
        context: Context,
        conditions: tuple[object, ...],
        judge: Callable[[], object],
        *,
        falls_silently: bool = False,
    ) -> None:
        super().__init__(context, conditions)
        self._judge = judge
        self._judged: object = None
        #: it will stop holding without a notify, and somebody needs to know
        self._unheard = falls_silently and context.both_ways

    def look(self, now: Nanoseconds) -> Verdict:
        judged = self._judged = self._judge()
        if judged:
            if not self._context.both_ways or (self._hooks and not self._unheard):
                return _SET if judged is True else Verdict(True, judged)
        elif self._hooks:
            return NOT_YET
        return Verdict(bool(judged), judged, self._context.next_look(now))

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
        event = self.event
        hook = getattr(event, "_cond", None)
        # What is_set() of the standard library does, without the call of a Python function on the way of a wake-up.
        plain = type(event).is_set is threading.Event.is_set and hasattr(event, "_flag")
        judge = partial(getattr, event, "_flag") if plain else event.is_set
        return _LevelWatch(context, (hook,), judge, falls_silently=True)


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
        return _LevelWatch(context, (None,), self.event.is_set)


class ItemQueued(Condition[Any]):
    """A :class:`queue.Queue` (or Lifo-, Priority-, SimpleQueue) that has an item; its value is the queue.

    It says that an item is there, not that it stays: another thread may take it first. One that was shut down (3.13) counts, too:
    ``get()`` then raises at once, and nothing is left to wait for.
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
        return _LevelWatch(
            context, hooks, lambda: None if items.empty() and not getattr(items, "is_shutdown", False) else items
        )


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
        return _LevelWatch(context, (getattr(future, "_condition", None),), lambda: future if future.done() else None)


class _Notified(Condition[T]):
    def __init__(self, condition: threading.Condition, predicate: Callable[[], T]) -> None:
        self._condition = condition
        self._probe = Probe(predicate)  # refuses what it must, and has the words when they are needed

    @property
    def what(self) -> str:
        return self._probe.what

    def watch(self, context: Context) -> Watch:
        return _NotifiedWatch(context, self._condition, self._probe.watch(context))


class _NotifiedWatch(_HookedWatch):
    """Judges as the plain callable it is, but when notified."""

    __slots__ = ("_probe",)

    def __init__(self, context: Context, condition: threading.Condition, probe: Watch) -> None:
        super().__init__(context, (condition,))
        self._probe = probe

    def look(self, now: Nanoseconds) -> Verdict:
        verdict = self._probe.look(now)
        return verdict._replace(again=None) if self._hooks else verdict

    def seen(self) -> str:
        return self._probe.seen()

    def error(self) -> Exception | None:
        return self._probe.error()


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
