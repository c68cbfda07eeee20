"""A function of the process as its readiness: it looks itself, or names the condition that tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from waitkit.conditions.condition import Condition, as_condition
from waitkit.conditions.sources import describe_callable, describe_value
from waitkit.engine.background import CannotStart
from waitkit.engine.clock import now as clock_now
from waitkit.engine.parking import Parker
from waitkit.engine.signals import Wake
from waitkit.ground.durations import MILLISECOND, Nanoseconds
from waitkit.processes.aside import aside_where_it_may_last, begin_aside, has_not_come_back
from waitkit.waits.watching import NOT_YET, Context, Verdict, Watch

if TYPE_CHECKING:
    from waitkit.processes.managed import ManagedProcess

__all__ = ["AsFunctionSays"]


class AsFunctionSays(Condition[Any]):
    """Holds when *function* of the process is true; where it returns a condition, when that does.

    It is first called in a look, as it may hang like any other check.
    """

    def __init__(self, function: Callable[[ManagedProcess], object], process: ManagedProcess) -> None:
        self._function = function
        self._process = process
        self._named: Condition[Any] | None = None

    @property
    def what(self) -> str:
        return f"{describe_callable(self._function)} to be true" if self._named is None else self._named.what

    def ask(self) -> object:
        """What the function returns."""
        return self._function(self._process)

    def named_by(self, answer: object) -> Condition[Any] | None:
        """The condition that *answer* is; ``None`` where the function looks at the process itself, and is to be asked again."""
        if answer is None or isinstance(answer, bool):
            return None
        try:
            self._named = as_condition(answer)
        except TypeError as error:
            raise TypeError(f"{describe_callable(self._function)} returned {describe_value(answer)}: {error}") from None
        return self._named

    def watch(self, context: Context) -> Watch:
        return _AsFunctionSaysWatch(self, context)


#: So long the first look waits for the answer, as most come at once; then the end of the process is looked at.
_AT_ONCE: Final = 10 * MILLISECOND


class _AsFunctionSaysWatch(Watch):
    """Has the function asked aside; then it looks as the answer says."""

    __slots__ = ("_answer", "_asked_at", "_condition", "_context", "_failed", "_inner", "_parker", "_wake")
    outside = True

    def __init__(self, condition: AsFunctionSays, context: Context) -> None:
        self._condition = condition
        self._context = context
        self._parker = Parker()
        self._wake: Wake | None = None
        self._asked_at: Nanoseconds | None = None
        self._answer: list[object] = []
        self._failed: BaseException | None = None
        self._inner: Watch | None = None

    def arm(self, wake: Wake) -> None:
        self._wake = wake
        if self._inner is not None:
            self._inner.arm(wake)

    def _begin_to_ask(self, now: Nanoseconds) -> None:
        self._asked_at = now
        try:
            begin_aside(self._ask)
        except CannotStart:  # the interpreter is going down
            self._ask()

    def _ask(self) -> None:
        try:
            self._answer.append(self._condition.ask())
        except BaseException as error:  # noqa: BLE001 - it is raised where the wait is
            self._failed = error
        finally:
            self._parker.unpark()
            wake = self._wake
            if wake is not None:
                wake()

    def look(self, now: Nanoseconds) -> Verdict:
        if self._inner is not None:
            return self._inner.look(now)
        if self._asked_at is None:
            self._begin_to_ask(now)
            self._parker.park(now + _AT_ONCE)
        if self._failed is not None:
            raise self._failed
        if not self._answer:
            return NOT_YET
        (answer,) = self._answer
        named = self._condition.named_by(answer)
        if named is None and answer:
            return Verdict(True, answer)
        condition = as_condition(self._condition.ask) if named is None else named
        self._inner = aside_where_it_may_last(condition.watch(self._context))
        if self._wake is not None:
            self._inner.arm(self._wake)
        return self._inner.look(clock_now())

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()

    def seen(self) -> str:
        if self._inner is not None:
            return self._inner.seen()
        return "" if self._answer else has_not_come_back(self._asked_at)

    def error(self) -> Exception | None:
        return None if self._inner is None else self._inner.error()

    def explain(self) -> Sequence[str]:
        return () if self._inner is None else self._inner.explain()
