"""waitkit's own event and value: conditions made to be waited for, exact about every change."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from waitkit.conditions.condition import Condition
from waitkit.conditions.sources import describe_callable, describe_value
from waitkit.engine.signals import Signal, Wake
from waitkit.ground.durations import Nanoseconds
from waitkit.waits.watching import NOT_YET, Context, Verdict, Watch

__all__ = ["Event", "Value"]

T = TypeVar("T")

_HISTORY: Final = 1_000


class _SignalWatch(Watch):
    """A watch that a :class:`Signal` wakes."""

    __slots__ = ("_signal", "_token")

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._token: object = None

    def arm(self, wake: Wake) -> None:
        self._token = self._signal.subscribe(wake)

    def close(self) -> None:
        self._signal.unsubscribe(self._token)


class Event(Condition[bool]):
    """A flag that threads and tasks wait for: :class:`threading.Event` as a condition.

    It can be combined (``event | other``), tells of being cleared as well as of being set, and may be set from a
    signal handler. There is no ``wait`` method: ``wait_for(event)`` obeys scopes, ``event.wait`` could not.

    Args:
        name: what to call it in messages.
    """

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._set = False
        self._changes = 0
        self._signal = Signal()

    @property
    def what(self) -> str:
        return f"{self._name or 'an event'} to be set"

    def is_set(self) -> bool:
        """Whether it is set now."""
        return self._set

    def set(self) -> None:
        """Set it, and wake everyone who waits for that."""
        self._change(True)

    def clear(self) -> None:
        """Clear it, and wake everyone who waits for that (``~event``)."""
        self._change(False)

    def _change(self, to: bool) -> None:
        if self._set is not to:
            self._set = to
            self._changes += 1
            self._signal.notify()

    def watch(self, context: Context) -> Watch:
        return _EventWatch(self, self._signal)

    def __repr__(self) -> str:
        return f"<waitkit.Event {self._name or hex(id(self))}, {'set' if self._set else 'not set'}>"


class _EventWatch(_SignalWatch):
    __slots__ = ("_event",)

    def __init__(self, event: Event, signal: Signal) -> None:
        super().__init__(signal)
        self._event = event

    def look(self, now: Nanoseconds) -> Verdict:
        changes = self._event._changes  # before the flag: a change in between is then seen by the next look
        return Verdict(True, True, None, changes) if self._event.is_set() else NOT_YET


class Value(Generic[T]):
    """A value that threads and tasks wait for: ``wait_for(level.satisfies(lambda v: v > 3))``.

    Args:
        initial: the value at first.
        name: what to call it in messages.
    """

    def __init__(self, initial: T, name: str = "") -> None:
        self._name = name
        self._value = initial
        self._signal = Signal()

    def get(self) -> T:
        """The value now."""
        return self._value

    def set(self, value: T) -> None:
        """Replace the value, and wake everyone who waits for one, equal or not to the one before."""
        self._value = value
        self._signal.notify()

    def satisfies(self, predicate: Callable[[T], object]) -> Condition[T]:
        """Holds while *predicate* of the value is true; its value is that value.

        Args:
            predicate: called in the waiting thread with the current value.

        Raises:
            TypeError: *predicate* cannot be called.
        """
        if not callable(predicate):
            raise TypeError(
                f"satisfies() takes a function of the value, not {predicate!r}; for equality there is equals()"
            )
        return _Satisfies(self, self._signal, predicate, "")

    def equals(self, value: T) -> Condition[T]:
        """Holds while the value equals *value*."""
        return _Satisfies(self, self._signal, lambda current: current == value, f"to be {describe_value(value)}")

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self._name or "a value"

    def __repr__(self) -> str:
        return f"<waitkit.Value {self._name or hex(id(self))}: {describe_value(self._value)}>"


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
        return _SatisfiesWatch(self._holder, self._signal, self._predicate)


class _SatisfiesWatch(_SignalWatch):
    """Judges the current value; values that came and went in between only count as interruptions."""

    __slots__ = ("_epoch", "_holder", "_judged", "_passed", "_predicate")

    def __init__(self, holder: Value[T], signal: Signal, predicate: Callable[[T], object]) -> None:
        super().__init__(signal)
        self._holder = holder
        self._predicate = predicate
        self._passed: deque[T] = deque(maxlen=_HISTORY)
        self._epoch = 0
        self._judged: T = holder.get()

    @property
    def calls_user_code(self) -> bool:
        return True

    def arm(self, wake: Wake) -> None:
        holder, passed = self._holder, self._passed

        def note_and_wake() -> None:
            passed.append(holder.get())
            wake()

        super().arm(note_and_wake)

    def look(self, now: Nanoseconds) -> Verdict:
        passed = [self._passed.popleft() for _ in range(len(self._passed))]
        current = self._judged = self._holder.get()
        for value in passed[:-1]:
            if not self._predicate(value):
                self._epoch += 1
        return Verdict(bool(self._predicate(current)), current, None, self._epoch)

    def seen(self) -> str:
        return describe_value(self._judged)


Event.__module__ = Value.__module__ = "waitkit"
