"""``@waits_for``: a call begins when a condition holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from waitkit.conditions.condition import Condition, as_condition
from waitkit.decorators.wrapping import wrap
from waitkit.ground.callers import without_our_frames
from waitkit.ground.durations import Duration, Nanoseconds, to_optional_nanoseconds
from waitkit.ground.settings import DEFAULT, DefaultTimeout
from waitkit.waits.drivers import block, wait_in_loop
from waitkit.waits.wait import Wait

__all__ = ["waits_for"]

F = TypeVar("F", bound=Callable[..., Any])


class _Gate(NamedTuple):
    """What each call waits for."""

    condition: Condition[Any]
    limit: Nanoseconds | DefaultTimeout | None

    def call(self, function: Callable[..., Any], _instance: object, args: Any, kwargs: Any) -> Any:
        try:
            block(Wait(self.condition, self.limit))
        except BaseException as error:
            error.with_traceback(without_our_frames(error))
            raise
        return function(*args, **kwargs)

    async def call_async(self, function: Callable[..., Any], _instance: object, args: Any, kwargs: Any) -> Any:
        try:
            await wait_in_loop(Wait(self.condition, self.limit))
        except BaseException as error:
            error.with_traceback(without_our_frames(error))
            raise
        return await function(*args, **kwargs)


def waits_for(condition: object, *, timeout: Duration | DefaultTimeout | None = DEFAULT) -> Callable[[F], F]:
    """Have each call of a function wait until *condition* holds.

    It decorates functions, coroutine functions, methods, class- and staticmethods; name, signature and type stay.

    Args:
        condition: anything that adapts to a condition, as for :func:`wait_for`.
        timeout: how long a call may wait, as for :func:`wait_for`.

    Returns:
        The decorator. Its calls raise what :func:`wait_for` raises, and then the function has not been called.

    Raises:
        TypeError, ValueError: an argument cannot be what it should be, or (when decorating) a generator function is decorated.
    """
    gate = _Gate(
        as_condition(condition), DEFAULT if timeout is DEFAULT else to_optional_nanoseconds(timeout, "timeout")
    )

    def decorate(function: F) -> F:
        return wrap(  # type: ignore[no-any-return]
            function, "waits_for", gate.call, gate.call_async, instead="Write wait_for(...) as its first line instead."
        )

    return decorate
