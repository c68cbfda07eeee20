"""The condition, and the algebra on it: ``|``, ``&``, ``~``, ``any_of``, ``all_of``, ``held_for``, ``described``."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

from waitkit.conditions.adaptors import ACCEPTED_FORMS, adaptor_for
from waitkit.engine.signals import Wake
from waitkit.ground.callers import calling_line
from waitkit.ground.durations import MILLISECOND, Duration, Nanoseconds, format_duration, to_nanoseconds
from waitkit.ground.settings import DEFAULT
from waitkit.waits.drivers import wait_in_loop
from waitkit.waits.wait import Wait, earliest
from waitkit.waits.watching import Context, Verdict, Watch

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


def as_condition(thing: object) -> Condition[Any]:
    """Make a condition of anything sensible.

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
        raise TypeError(f"{thing!r} is not a condition: {ACCEPTED_FORMS}{hint}")
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


class _Combined(Watch):
    """What a watch over other watches does for each of them alike."""

    __slots__ = ("_watches",)

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches

    @property
    def may_block(self) -> bool:
        return any(watch.may_block for watch in self._watches)

    @property
    def calls_user_code(self) -> bool:
        return any(watch.calls_user_code for watch in self._watches)

    def arm(self, wake: Wake) -> None:
        for watch in self._watches:
            watch.arm(wake)

    def close(self) -> None:
        for watch in self._watches:
            watch.close()

    def seen(self) -> str:
        return self._watches[0].seen()

    def error(self) -> Exception | None:
        return next((error for watch in self._watches if (error := watch.error()) is not None), None)

    def explain(self) -> Sequence[str]:
        return [note for watch in self._watches for note in watch.explain()]


class _Not(Condition[bool]):
    def __init__(self, inner: Condition[Any]) -> None:
        self._inner = inner

    @property
    def what(self) -> str:
        return f"not ({self._inner.what})"

    def watch(self, context: Context) -> Watch:
        return _NotWatch([self._inner.watch(context)])

    def __invert__(self) -> Condition[Any]:
        return self._inner


class _NotWatch(_Combined):
    __slots__ = ()

    def look(self, now: Nanoseconds) -> Verdict:
        inner = self._watches[0].look(now)
        return Verdict(not inner.holds, inner.value if inner.holds else True, inner.again, inner.epoch)


class _AnyOf(Condition[AnyHeld]):
    def __init__(self, members: tuple[Condition[Any], ...]) -> None:
        self._members = members

    @property
    def what(self) -> str:
        return " or ".join(_bracketed(member.what) for member in self._members)

    def __or__(self, other: object) -> Condition[AnyHeld]:
        return _AnyOf((*self._members, as_condition(other)))

    def watch(self, context: Context) -> Watch:
        return _AnyOfWatch(self._members, context)


class _AnyOfWatch(_Combined):
    __slots__ = ("_members",)

    def __init__(self, members: tuple[Condition[Any], ...], context: Context) -> None:
        super().__init__([member.watch(context) for member in members])
        self._members = members

    def look(self, now: Nanoseconds) -> Verdict:
        again = None
        for index, watch in enumerate(self._watches):
            verdict = watch.look(now)
            if verdict.holds:
                # Another member that takes over counts as an interruption: nobody knows what was between the two.
                epoch = verdict.epoch * len(self._watches) + index
                return Verdict(True, AnyHeld(index, self._members[index], verdict.value), verdict.again, epoch)
            again = earliest(again, verdict.again)
        return Verdict(False, None, again)

    def seen(self) -> str:
        return _each_seen(self._members, self._watches)


class _AllOf(Condition[tuple[Any, ...]]):
    def __init__(self, members: tuple[Condition[Any], ...]) -> None:
        self._members = members

    @property
    def what(self) -> str:
        return " and ".join(_bracketed(member.what) for member in self._members)

    def __and__(self, other: object) -> Condition[tuple[Any, ...]]:
        return _AllOf((*self._members, as_condition(other)))

    def watch(self, context: Context) -> Watch:
        return _AllOfWatch(self._members, context)


class _AllOfWatch(_Combined):
    __slots__ = ("_members", "_missing")

    def __init__(self, members: tuple[Condition[Any], ...], context: Context) -> None:
        super().__init__([member.watch(context) for member in members])
        self._members = members
        self._missing: list[int] = []

    def look(self, now: Nanoseconds) -> Verdict:
        verdicts = [watch.look(now) for watch in self._watches]
        self._missing = [index for index, verdict in enumerate(verdicts) if not verdict.holds]
        again = None
        for verdict in verdicts:
            again = earliest(again, verdict.again)
        values = tuple(verdict.value for verdict in verdicts)
        return Verdict(not self._missing, values, again, sum(verdict.epoch for verdict in verdicts))

    def seen(self) -> str:
        missing = [(self._members[index], self._watches[index]) for index in self._missing]
        if not missing:
            return ""
        return "missing: " + _each_seen([member for member, _ in missing], [watch for _, watch in missing])


class _HeldFor(Condition[T]):
    def __init__(self, inner: Condition[T], duration: Nanoseconds) -> None:
        self._inner = inner
        self._duration = duration

    @property
    def what(self) -> str:
        return f"{_bracketed(self._inner.what)} for {format_duration(self._duration)}"

    def watch(self, context: Context) -> Watch:
        return _HeldForWatch(self._inner.watch(context), self._duration)


class HeldThroughout(_HeldFor[T]):
    """As ``inner.held_for(duration)``, but it must hold from the first look on: an interruption fails the wait."""

    def __init__(self, inner: Condition[T], duration: Duration) -> None:
        super().__init__(inner, to_nanoseconds(duration, "duration"))

    def watch(self, context: Context) -> Watch:
        return _HeldForWatch(self._inner.watch(context), self._duration, throughout=True)


class _HeldForWatch(_Combined):
    __slots__ = ("_duration", "_epoch", "_gap", "_interruptions", "_since", "_throughout")

    def __init__(self, watch: Watch, duration: Nanoseconds, *, throughout: bool = False) -> None:
        super().__init__([watch])
        self._duration = duration
        self._gap = max(MILLISECOND, duration // 20)
        self._throughout = throughout
        self._since: Nanoseconds | None = None
        self._epoch = 0
        self._interruptions = 0

    def look(self, now: Nanoseconds) -> Verdict:
        inner = self._watches[0].look(now)
        if not inner.holds:
            self._interruptions += self._since is not None
            self._since = None
            return Verdict(False, inner.value, inner.again, stopped=self._throughout)
        if self._since is None:
            self._since = now
        elif inner.epoch != self._epoch:
            self._interruptions += 1
            self._since = now
        self._epoch = inner.epoch
        complete = self._since + self._duration
        if now >= complete:
            return inner
        # The wait may have lasted long before this began to hold: its gaps are then too wide for this duration.
        again = complete if inner.again is None else min(complete, inner.again, now + self._gap)
        return Verdict(False, inner.value, again, stopped=self._throughout and self._interruptions > 0)

    def seen(self) -> str:
        saw = self._watches[0].seen()
        if not self._interruptions:
            return saw
        times = "once" if self._interruptions == 1 else f"{self._interruptions} times"
        return f"{saw}{', ' if saw else ''}held and was interrupted {times}"


def _bracketed(what: str) -> str:
    return f"({what})" if " or " in what or " and " in what else what


def _each_seen(members: Sequence[Condition[Any]], watches: Sequence[Watch]) -> str:
    seen = ((member.what, watch.seen()) for member, watch in zip(members, watches, strict=True))
    return "; ".join(f"{what}{f' ({saw})' if saw else ''}" for what, saw in seen)
