"""A function of the process as its readiness: it looks itself, or names the condition that tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from waitkit.conditions.condition import Condition, as_condition
from waitkit.conditions.sources import describe_callable, describe_value
from waitkit.engine.clock import now as clock_now
from waitkit.engine.signals import Wake
from waitkit.ground.durations import Nanoseconds
from waitkit.waits.watching import Context, Verdict, Watch

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


class _AsFunctionSaysWatch(Watch):
    __slots__ = ("_condition", "_context", "_inner", "_wake")
    outside = True

    def __init__(self, condition: AsFunctionSays, context: Context) -> None:
        self._condition = condition
        self._context = context
        self._inner: Watch | None = None
        self._wake: Wake | None = None

    @property
    def calls_user_code(self) -> bool:
        return True

    def arm(self, wake: Wake) -> None:
        self._wake = wake
        if self._inner is not None:
            self._inner.arm(wake)

    def look(self, now: Nanoseconds) -> Verdict:
        if self._inner is not None:
            return self._inner.look(now)
        answer = self._condition.ask()
        named = self._condition.named_by(answer)
        self._inner = (as_condition(self._condition.ask) if named is None else named).watch(self._context)
        if self._wake is not None:
            self._inner.arm(self._wake)
        if named is not None:
            return self._inner.look(clock_now())
        after = clock_now()
        return Verdict(bool(answer), answer, self._context.next_look(after, after - now))

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()

    def seen(self) -> str:
        return "" if self._inner is None else self._inner.seen()

    def error(self) -> Exception | None:
        return None if self._inner is None else self._inner.error()

    def explain(self) -> tuple[str, ...]:
        return () if self._inner is None else tuple(self._inner.explain())
