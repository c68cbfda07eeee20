"""The condition, and the algebra on it: ``|``, ``&``, ``~``, ``any_of``, ``all_of``, ``held_for``, ``described``."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

from waitkit.conditions.adaptors import ACCEPTED_FORMS, adaptor_for
from waitkit.conditions.combined import AllOfWatch, AnyOfWatch, HeldForWatch, NotWatch
from waitkit.ground.callers import calling_line
from waitkit.ground.durations import Duration, Nanoseconds, format_duration, to_nanoseconds
from waitkit.ground.settings import DEFAULT
from waitkit.waits.drivers import wait_in_loop
from waitkit.waits.wait import Wait
from waitkit.waits.watching import Context, Watch

__all__ = ["AnyHeld", "Condition", "HeldThroughout", "all_of", "any_of", "as_condition"]

T = TypeVar("T")


class Condition(Generic[T]):
    """Something that can hold, and that can be waited for; ``T`` is the type of the value it holds with.

    Conditions are descriptions: they can be kept, combined, and waited for by many threads and tasks at once. Wait with
    :func:`waitkit.wait_for`, or in a coroutine with ``await condition`` (which takes the default timeout).
    """

    @property
    def what(self) -> str:
        """What is awaited, in words that go after "waiting for": ``"port 5432 to listen"``."""
        raise NotImplementedError

    def watch(self, context: Context) -> Watch:
        """Begin one wait's view of this condition."""
        raise NotImplementedError

    def __or__(self, other: object) -> Condition[AnyHeld]:
        return any_of(self, other)

    def __ror__(self, other: object) -> Condition[AnyHeld]:
        return any_of(other, self)

    def __and__(self, other: object) -> Condition[tuple[Any, ...]]:
        return all_of(self, other)

    def __rand__(self, other: object) -> Condition[tuple[Any, ...]]:
        return all_of(other, self)

    def __invert__(self) -> Condition[bool]:
        return _Not(self)

    def held_for(self, duration: Duration) -> Condition[T]:
        """This condition, holding without interruption for *duration*.

        A signalled condition that counts its interruptions (:class:`waitkit.Event`, :class:`waitkit.Value`) is judged
        exactly; any other is looked at again and again, so an interruption shorter than the gap between two looks (1 ms or
        5 % of the duration) can be missed.

        Args:
            duration: how long it must hold.

        Raises:
            TypeError, ValueError: *duration* is no duration.
        """
        return _HeldFor(self, to_nanoseconds(duration, "duration"))

    def described(self, what: str) -> Condition[T]:
        """This condition under another name in messages: ``"the cache to be warm"``."""
        if not isinstance(what, str) or not what:
            raise TypeError(f"described() takes what is awaited in words, such as 'the cache to be warm', not {what!r}")
        return _Described(self, what)

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"a condition is neither true nor false ({self.what}): wait for it with wait_for(condition), look once with "
            f"wait_for(condition, timeout=0), and combine conditions with |, & and ~ instead of or, and, not"
        )

    def __await__(self) -> Generator[Any, Any, T]:
        return wait_in_loop(Wait(self, DEFAULT, caller=calling_line())).__await__()

    def __repr__(self) -> str:
        return f"<condition: {self.what}>"


Condition.__module__ = "waitkit"


class AnyHeld(NamedTuple):
    """Which of several conditions held.

    Attributes:
        position: its place among the arguments, from 0.
        condition: the condition itself.
        value: what it held with.
    """

    position: int
    condition: Condition[Any]
    value: Any


AnyHeld.__module__ = "waitkit"


def as_condition(thing: object, name: str = "") -> Condition[Any]:
    """Make a condition of anything sensible; *name* is that of the argument it was given as.

    Raises:
        TypeError: *thing* is nothing that can hold, or would always be true (a coroutine function, a generator, a class).
    """
    if isinstance(thing, Condition):
        return thing
    adaptor = adaptor_for(thing)
    if adaptor is None:
        hint = ""
        if type(thing).__name__ in ("coroutine", "generator", "async_generator"):
            hint = f"; a {type(thing).__name__} object is always true"
        elif isinstance(thing, int) and not isinstance(thing, bool):
            hint = f"; for a number write readable({thing}), port_listening({thing}) or process_exited({thing})"
        elif type(thing).__module__.startswith("asyncio"):
            hint = "; what belongs to an event loop is awaited there"
        given = f"{name}={thing!r}" if name else repr(thing)
        raise TypeError(f"{given} is not a condition: {ACCEPTED_FORMS}{hint}")
    condition: Condition[Any] = adaptor(thing)
    return condition


def any_of(*conditions: object) -> Condition[AnyHeld]:
    """Holds when any of *conditions* holds; the first in order, where several do.

    Args:
        conditions: one or more of anything that adapts to a condition.

    Returns:
        A condition whose value, an :class:`AnyHeld`, says which one held and with what.

    Raises:
        TypeError: there are none, or one does not adapt.
    """
    return _AnyOf(_members("any_of", conditions))


def all_of(*conditions: object) -> Condition[tuple[Any, ...]]:
    """Holds when all *conditions* hold in one and the same look; none is remembered from an earlier one.

    Args:
        conditions: one or more of anything that adapts to a condition.

    Returns:
        A condition whose value is the tuple of their values. While it does not hold, messages name what is missing.

    Raises:
        TypeError: there are none, or one does not adapt.
    """
    return _AllOf(_members("all_of", conditions))


def _members(name: str, conditions: Sequence[object]) -> tuple[Condition[Any], ...]:
    if not conditions:
        raise TypeError(f"{name}() needs at least one condition")
    return tuple(as_condition(condition) for condition in conditions)


class _Described(Condition[T]):
    def __init__(self, inner: Condition[T], what: str) -> None:
        self._inner = inner
        self._what = what

    @property
    def what(self) -> str:
        return self._what

    def watch(self, context: Context) -> Watch:
        return self._inner.watch(context)


class _Not(Condition[bool]):
    def __init__(self, inner: Condition[Any]) -> None:
        self._inner = inner

    @property
    def what(self) -> str:
        return f"not ({self._inner.what})"

    def watch(self, context: Context) -> Watch:
        return NotWatch([self._inner.watch(context.for_both_ways())])

    def __invert__(self) -> Condition[Any]:
        return self._inner


class _AnyOf(Condition[AnyHeld]):
    def __init__(self, members: tuple[Condition[Any], ...]) -> None:
        self._members = members

    @property
    def what(self) -> str:
        return " or ".join(_bracketed(member.what) for member in self._members)

    def __or__(self, other: object) -> Condition[AnyHeld]:
        return _AnyOf((*self._members, as_condition(other)))

    def watch(self, context: Context) -> Watch:
        return AnyOfWatch(self._members, context, AnyHeld)


class _AllOf(Condition[tuple[Any, ...]]):
    def __init__(self, members: tuple[Condition[Any], ...]) -> None:
        self._members = members

    @property
    def what(self) -> str:
        return " and ".join(_bracketed(member.what) for member in self._members)

    def __and__(self, other: object) -> Condition[tuple[Any, ...]]:
        return _AllOf((*self._members, as_condition(other)))

    def watch(self, context: Context) -> Watch:
        return AllOfWatch(self._members, context)


class _HeldFor(Condition[T]):
    def __init__(self, inner: Condition[T], duration: Nanoseconds) -> None:
        self._inner = inner
        self._duration = duration

    @property
    def what(self) -> str:
        return f"{_bracketed(self._inner.what)} for {format_duration(self._duration)}"

    def watch(self, context: Context) -> Watch:
        return HeldForWatch(self._inner.watch(context.for_both_ways()), self._duration)


class HeldThroughout(_HeldFor[T]):
    """As ``inner.held_for(duration)``, but it must hold from the first look on: an interruption fails the wait."""

    def __init__(self, inner: Condition[T], duration: Duration) -> None:
        super().__init__(inner, to_nanoseconds(duration, "duration"))

    def watch(self, context: Context) -> Watch:
        return HeldForWatch(self._inner.watch(context.for_both_ways()), self._duration, throughout=True)


def _bracketed(what: str) -> str:
    return f"({what})" if " or " in what or " and " in what else what
