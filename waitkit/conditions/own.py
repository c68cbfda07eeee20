"""waitkit's own event and value: conditions made to be waited for, exact about every change."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from waitkit.conditions.condition import Condition
from waitkit.conditions.probes import refuse_always_true, refuse_kind
from waitkit.conditions.sources import describe_callable, describe_value
from waitkit.engine.signals import Signal, Wake
from waitkit.ground.checks import check_text
from waitkit.ground.durations import Nanoseconds
from waitkit.waits.watching import Context, Verdict, Watch

__all__ = ["Event", "Value"]

T = TypeVar("T")

#: Makes a Verdict without the Python function that a named tuple has for that. On the way of a wake-up each Python function
#: costs about 3 us, as the processor has slept and finds nothing in its caches (measured; 0.1 us in a loop).
_new: Final = tuple.__new__

#: How many values a watch remembers between two looks. Each set wakes it, but who sets as quickly as he can sets some 3,000 in a
#: row before the interpreter lets another thread run, and a look of another condition may take its time.
_HISTORY: Final = 100_000


class _SignalWatch(Watch):
    """A watch that a :class:`Signal` wakes."""

    __slots__ = ("_signal",)

    def __init__(self, signal: Signal) -> None:
        self._signal = signal

    def arm(self, wake: Wake) -> None:
        self._signal.subscribe(wake, self)

    def close(self) -> None:
        self._signal.unsubscribe(self)


class Event(Condition[bool]):
    """A flag that threads and tasks wait for: :class:`threading.Event` as a condition.

    It can be combined (``event | other``), tells of being cleared as well as of being set, and may be set from a
    signal handler. There is no ``wait`` method: ``wait_for(event)`` obeys scopes, ``event.wait`` could not.

    Args:
        name: what to call it in messages.

    Raises:
        TypeError: *name* is no text.
    """

    def __init__(self, name: str = "") -> None:
        self._name = check_text(name, "name")
        self._changes = itertools.count(1)
        # All there is to know in one object, which a change replaces as a whole. No two are of one epoch: whoever finds the
        # epoch he knows can be sure that nothing was in between, however many threads set and clear.
        self._now = Verdict(False)
        self._signal = Signal()
        #: notified when it is set and was not; never when it is cleared
        self.becomes_set = Signal()

    @property
    def what(self) -> str:
        return f"{self._name or 'an event'} to be set"

    def is_set(self) -> bool:
        """Whether it is set now."""
        return self._now.holds

    def set(self) -> None:
        """Set it, and wake everyone who waits for that."""
        if not self._now.holds:
            try:
                self._now = _new(Verdict, (True, True, None, next(self._changes), False))
                self._signal.notify()
                self.becomes_set.notify()
            except BaseException:  # Ctrl-C: it may be set, and setting it again would tell nobody
                self._signal.notify()
                self.becomes_set.notify()
                raise

    def clear(self) -> None:
        """Clear it, and wake everyone who waits for that (``~event``)."""
        if self._now.holds:
            try:
                self._now = _new(Verdict, (False, None, None, next(self._changes), False))
                self._signal.notify()
            except BaseException:
                self._signal.notify()
                raise

    def watch(self, context: Context) -> Watch:
        return _EventWatch(self, self._signal)

    def __repr__(self) -> str:
        return f"<waitkit.Event {self._name or hex(id(self))}, {'set' if self.is_set() else 'not set'}>"


class _EventWatch(_SignalWatch):
    __slots__ = ("_event",)

    def __init__(self, event: Event, signal: Signal) -> None:
        super().__init__(signal)
        self._event = event

    def look(self, now: Nanoseconds) -> Verdict:
        return self._event._now


class Value(Generic[T]):
    """A value that threads and tasks wait for: ``wait_for(level.satisfies(lambda v: v > 3))``.

    Args:
        initial: the value at first.
        name: what to call it in messages.
    """

    def __init__(self, initial: T, name: str = "") -> None:
        self._name = name
        self._sets = itertools.count(1)
        self._now: tuple[T, int] = (initial, 0)  # the value, and which set() it is of: replaced as a whole
        self._passed: dict[object, deque[tuple[T, int]]] = {}  # what each watch has yet to judge
        self._signal = Signal()

    def get(self) -> T:
        """The value now."""
        return self._now[0]

    def set(self, value: T) -> None:
        """Replace the value, and wake everyone who waits for one, equal or not to the one before."""
        try:
            self._now = now = (value, next(self._sets))
            # After the value, not before: a watch that begins in between sees it by itself.
            for passed in self._passed.copy().values():
                passed.append(now)
            self._signal.notify()
        except BaseException:
            self._signal.notify()
            raise

    def satisfies(self, predicate: Callable[[T], object]) -> Condition[T]:
        """Holds while *predicate* of the value is true; its value is that value.

        Args:
            predicate: called in the waiting thread with the current value.

        Raises:
            TypeError: *predicate* cannot be called, or gives something that is always true (a coroutine, a generator).
        """
        if not callable(predicate):
            raise TypeError(
                f"satisfies() takes a function of the value, not {predicate!r}; for equality there is equals()"
            )
        refuse_kind(predicate)
        return _Satisfies(self, self._signal, predicate, "")

    def equals(self, value: T) -> Condition[T]:
        """Holds while the value equals *value*."""
        return _Satisfies(self, self._signal, lambda current: current == value, f"to be {describe_value(value)}")

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self._name or "a value"

    def __repr__(self) -> str:
        return f"<waitkit.Value {self._name or hex(id(self))}: {describe_value(self.get())}>"


class _Satisfies(Condition[T]):
    def __init__(self, holder: Value[T], signal: Signal, predicate: Callable[[T], object], words: str) -> None:
        self._holder = holder
        self._signal = signal
        self._predicate = predicate
        self._words = words

    @property
    def what(self) -> str:
        return f"{self._holder.name} {self._words or f'to satisfy {describe_callable(self._predicate)}'}"

    def watch(self, context: Context) -> Watch:
        return _SatisfiesWatch(self._holder, self._signal, self._predicate, keeps_history=context.both_ways)


class _SatisfiesWatch(_SignalWatch):
    """Judges the current value. Of values that came and went in between it counts whether one was judged otherwise."""

    __slots__ = ("_epoch", "_first", "_forgotten", "_holder", "_judged", "_keeps_history", "_passed", "_predicate")

    def __init__(
        self, holder: Value[Any], signal: Signal, predicate: Callable[[Any], object], *, keeps_history: bool
    ) -> None:
        super().__init__(signal)
        self._holder = holder
        self._predicate = predicate
        #: somebody needs to know of interruptions
        self._keeps_history = keeps_history
        self._passed: deque[tuple[Any, int]] = deque(maxlen=_HISTORY)
        self._epoch = 0
        self._forgotten = False
        self._judged = holder._now
        self._first: int | None = None

    @property
    def calls_user_code(self) -> bool:
        return True

    def look(self, now: Nanoseconds) -> Verdict:
        if self._first is None and self._keeps_history:
            self._holder._passed[self] = self._passed  # before the first value is judged, so that none is missed
        passed = [self._passed.popleft() for _ in range(len(self._passed))]
        self._judged = value, number = self._holder._now
        holds = self._judge(value)
        if self._first is None:
            self._first = number
        self._forgotten = len(passed) == _HISTORY  # any may have been among them
        if self._forgotten or any(
            self._judge(other) is not holds for other, when in passed if self._first < when != number
        ):
            self._epoch += 1
        return Verdict(holds, value, None, self._epoch)

    def _judge(self, value: Any) -> bool:
        judged = self._predicate(value)
        refuse_always_true(judged, self._predicate)
        return bool(judged)

    def close(self) -> None:
        self._holder._passed.pop(self, None)
        super().close()

    def seen(self) -> str:
        return describe_value(self._judged[0])

    def explain(self) -> Sequence[str]:
        return (
            (f"more than {_HISTORY:,} values were set between two looks, too many to judge each",)
            if self._forgotten
            else ()
        )


Event.__module__ = Value.__module__ = "waitkit"
