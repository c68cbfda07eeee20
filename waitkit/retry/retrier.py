"""Running the attempts: one driver for threads, one for tasks, over the same decisions."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import CancelledError
from types import CoroutineType
from typing import Any, Final, Literal, NamedTuple

import attrs

from waitkit.conditions.condition import Condition, any_of
from waitkit.conditions.timing import after
from waitkit.engine import clock
from waitkit.engine.clock import now
from waitkit.ground.durations import SECOND, Nanoseconds
from waitkit.ground.errors import WaitTimeout, add_note
from waitkit.policies.retrying import NOT_RETRIED, RetryPolicy, RetryState
from waitkit.retry.budget import RetryBudget
from waitkit.retry.records import (
    Mark,
    RetryHook,
    RetryRecord,
    current,
    current_attempt_mark,
    is_logged,
    name_of,
    tell,
    tell_broken,
)
from waitkit.waits.account import checkpoint
from waitkit.waits.drivers import Flow, drive, drive_in_loop
from waitkit.waits.scopes import current_scopes
from waitkit.waits.wait import Wait

__all__ = ["Override", "Retrier", "override"]


class Override(NamedTuple):
    """What a test session changes for all retries: see :func:`waitkit.testing.retries`."""

    attempts: int | None = None
    delays: bool = True


_override = Override()

_NO_DELAY: Final = after(0).described("the next attempt")


def override(new: Override) -> Override:
    """Put *new* in force for this process. Returns what was in force before."""
    global _override
    previous, _override = _override, new
    return previous


#: What a retry leaves on the exception it gives up on: whose attempt that was in.
_MARK: Final = "__waitkit_retried__"
_LONGEST_CHAIN: Final = 50


def already_retried(error: BaseException | None, attempt: Mark) -> bool:
    """Whether a retry inside of *attempt* has given up on *error*, on one of a group, or on what it was raised from."""
    errors = [error]
    for _ in range(_LONGEST_CHAIN):  # a chain of causes may be a circle
        if not errors:
            return False
        one = errors.pop()
        if one is None:
            continue
        # It may have been given up on before: by a call that this one falls back for, or as the same is raised again and again.
        if getattr(one, _MARK, None) is attempt:
            return True
        errors.append(one.__cause__ or (None if one.__suppress_context__ else one.__context__))
        if isinstance(one, BaseExceptionGroup):
            errors.extend(one.exceptions)
    return False


class Course(RetryState):
    """A call that has failed, in the course of its attempts: what the policy knows of it, and what its hooks are told."""

    __slots__ = ("failure", "function", "value")

    def __init__(self, policy: RetryPolicy, started: Nanoseconds, function: Callable[..., Any] | None) -> None:
        super().__init__(policy, started, *_override)
        self.function = function
        #: the exception of the last attempt; ``None`` where its result is to be retried
        self.failure: Exception | None = None
        #: the result to be retried
        self.value: object = None


@attrs.frozen(kw_only=True)
class Retrier:
    """A policy with what it needs to run. It holds nothing of a call, so any number of threads and tasks share it."""

    policy: RetryPolicy
    on_result: Callable[[Any], object] | None = None
    ready: Condition[Any] | None = None
    budget: RetryBudget | None = None
    on_retry: RetryHook | None = None
    on_give_up: RetryHook | None = None
    _takes_any_result: bool = attrs.field(init=False)

    @_takes_any_result.default
    def _find_whether_it_takes_any_result(self) -> bool:
        return self.on_result is None and self.budget is None

    # The first attempt costs what it must: next to nothing is made before something has failed. The decision is made inside
    # of "except": what goes wrong with it has the exception it was about as its context.

    def call(self, function: Callable[..., Any], instance: object, args: Any, kwargs: Any) -> Any:
        """The driver of plain functions, in the form ``wrapt`` calls it."""
        started = clock.current.now()
        course: Course | None = None
        number, previous = 1, None
        while True:
            attempt: Mark = []
            token = current.set((number, previous, attempt))
            try:
                try:
                    value = function(*args, **kwargs)
                finally:
                    current.reset(token)
            except Exception as error:
                # Without our frame, which raising it puts there anew; and which would hold the exception that holds it.
                failure = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
                course = course or Course(self.policy, started, function)
                again = self.decide(course, attempt, failure, None)
                if not (again if isinstance(again, bool) else drive(again)):
                    raise
                previous = failure
            else:
                if type(value) is CoroutineType:
                    raise not_awaited("retry_backoff", value)
                if self._takes_any_result or self.accepts(value, first=course is None):
                    return value
                course = course or Course(self.policy, started, function)
                again = self.decide(course, attempt, None, value)
                if not (again if isinstance(again, bool) else drive(again)):
                    return value
                previous = None
            number = course.failures + 1

    async def call_async(self, function: Callable[..., Any], instance: object, args: Any, kwargs: Any) -> Any:
        """The driver of coroutine functions: the one above with three awaits."""
        started = clock.current.now()
        course: Course | None = None
        number, previous = 1, None
        while True:
            attempt: Mark = []
            token = current.set((number, previous, attempt))
            try:
                try:
                    value = await function(*args, **kwargs)
                finally:
                    current.reset(token)
            except Exception as error:
                failure = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
                course = course or Course(self.policy, started, function)
                again = self.decide(course, attempt, failure, None)
                if not (again if isinstance(again, bool) else await drive_in_loop(again)):
                    raise
                previous = failure
            else:
                if self._takes_any_result or self.accepts(value, first=course is None):
                    return value
                course = course or Course(self.policy, started, function)
                again = self.decide(course, attempt, None, value)
                if not (again if isinstance(again, bool) else await drive_in_loop(again)):
                    return value
                previous = None
            number = course.failures + 1

    def accepts(self, value: object, *, first: bool) -> bool:
        """Whether an attempt that raised nothing has succeeded."""
        if self.on_result is not None and self.on_result(value):
            return False
        if self.budget is not None:
            self.budget.give_back(after_retry=not first)
        return True

    def decide(self, course: Course, attempt: Mark, failure: Exception | None, value: object) -> bool | Flow[bool]:
        """Take in a failed attempt.

        Returns:
            Whether another one follows, at once; or the waits to make before that is known.
        """
        if isinstance(failure, CancelledError):
            return False  # a cancellation, though of class Exception
        course.failure, course.value = failure, value
        instant = now()
        text = "a result to be retried" if failure is None else _short(failure)
        retried = bool(attempt) and already_retried(failure, attempt)
        answer = course.failed(failure, text, instant, random.random, retried)
        if isinstance(answer, str):
            return self._give_up(course, answer, instant)
        if self.budget is not None and not self.budget.take():
            return self._give_up(course, "the retry budget is spent", instant)
        if self.on_retry is not None or is_logged():
            tell(self.on_retry, _record(course, answer / SECOND, "", instant))
        if answer == 0 and course.deadline is None and not current_scopes():
            return True
        return self._serve(course, instant + answer)

    def _serve(self, course: Course, due: Nanoseconds) -> Flow[bool]:
        """Wait until *due*. False when the deadline has come meanwhile, so that no attempt may follow."""
        if due > now():  # what a hook has taken is part of the delay
            yield from self._delay(course, due)
        # A delay is a wait like any other: scopes end it, and no attempt follows in one that has ended.
        checkpoint(_NO_DELAY)
        instant = now()
        if course.deadline is None or instant <= course.deadline:
            return True
        return self._give_up(course, "the deadline has come", instant)

    def _delay(self, course: Course, due: Nanoseconds) -> Flow[None]:
        if self.ready is not None:
            try:
                if (yield from self._becomes_ready(self.ready, due)):
                    yield Wait(after(self._spread(due - now())), None)
                    return
            except Exception as error:  # noqa: BLE001 - the call is to end with its own, not with this one
                tell_broken(course.function, error)
        if due > now():
            yield Wait(_until(due), None)

    @staticmethod
    def _becomes_ready(ready: Condition[Any], due: Nanoseconds) -> Flow[bool]:
        """Whether the cause of a failure goes before *due*. What holds right after the failure is not what it came from."""
        try:
            yield Wait(ready, 0, explained=False)
        except WaitTimeout:
            held = yield Wait(any_of(ready, _until(due)), None)
            return held.position == 0  # type: ignore[no-any-return]
        return False

    def _spread(self, left: Nanoseconds) -> float:
        """All who waited for the same condition are released at once: a little chance keeps them from coming at once."""
        return random.random() * max(0, min(self.policy.backoff.base, left)) / SECOND  # noqa: S311 - nothing secret

    def _give_up(self, course: Course, why: str, instant: Nanoseconds) -> Literal[False]:
        """Tell that no attempt follows, and why; the answer to whether one does."""
        if self.on_give_up is not None or is_logged():
            tell(self.on_give_up, _record(course, None, why, instant))
        if course.failure is None or why == NOT_RETRIED:
            return False
        add_note(course.failure, course.note(why, instant))
        around = current_attempt_mark()
        if around is not None:
            around.append(None)
            course.failure.__dict__[_MARK] = around
        return False


def _record(course: Course, delay: float | None, why: str, instant: Nanoseconds) -> RetryRecord:
    elapsed = (instant - course.started) / SECOND
    return RetryRecord(name_of(course.function), course.failures, course.failure, course.value, delay, elapsed, why)


def not_awaited(decorator: str, coroutine: CoroutineType[Any, Any, Any]) -> TypeError:
    """The error for a plain callable that returned a coroutine: whatever goes wrong in that happens later, out of our reach."""
    coroutine.close()  # else Python warns, too, that nobody has awaited it
    return TypeError(
        f"@{decorator}: a plain function has returned a coroutine ({coroutine.__qualname__}), which has not run yet: decorate "
        "the coroutine function itself, or make this one `async def` and await it there"
    )


def _until(due: Nanoseconds) -> Condition[Any]:
    return after(max(0, due - now()) / SECOND)


def _short(error: Exception) -> str:
    message = str(error)
    if not message:
        return type(error).__name__
    text = f"{type(error).__name__}: {message}"
    if "\n" in text:
        text = text[: text.index("\n")]
    return text if len(text) <= 100 else f"{text[:97]}..."
