"""Running the attempts: one driver for threads, one for tasks, over the same decisions."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, Final, NamedTuple

import attrs

from waitkit.conditions.condition import Condition, any_of
from waitkit.conditions.timing import after
from waitkit.engine.clock import now
from waitkit.ground.durations import SECOND, Nanoseconds
from waitkit.ground.errors import WaitTimeout
from waitkit.policies.retrying import NOT_RETRIED, RetryPolicy, RetryState
from waitkit.retry.budget import RetryBudget
from waitkit.retry.records import FIRST, Attempt, RetryHook, RetryRecord, current, is_logged, tell
from waitkit.waits.drivers import Flow, drive, drive_in_loop
from waitkit.waits.scopes import current_scopes
from waitkit.waits.wait import Wait, checkpoint

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


#: The mark that a retry leaves on the exception it gives up on, for one around it.
_MARK: Final = "__waitkit_retried__"
_LONGEST_CHAIN: Final = 50


def already_retried(error: BaseException | None) -> bool:
    """Whether a retry inside has given up on *error*, or on what it was raised from."""
    for _ in range(_LONGEST_CHAIN):  # a chain of causes may be a circle
        if error is None:
            return False
        if hasattr(error, _MARK):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


@attrs.frozen(kw_only=True)
class Retrier:
    """A policy with what it needs to run. It holds nothing of a call, so any number of threads and tasks share it."""

    policy: RetryPolicy
    on_result: Callable[[Any], object] | None = None
    ready: Condition[Any] | None = None
    budget: RetryBudget | None = None
    on_retry: RetryHook | None = None
    on_give_up: RetryHook | None = None

    # The first attempt costs what it must: no object is made before something has failed.

    def call(self, function: Callable[..., Any], instance: object, args: Any, kwargs: Any) -> Any:
        """The driver of plain functions, in the form ``wrapt`` calls it."""
        started = now()
        state: RetryState | None = None
        attempt = FIRST
        while True:
            failure = value = None
            token = current.set(attempt)
            try:
                value = function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - the policy decides, and it is raised again
                failure = error
            finally:
                current.reset(token)
            if failure is None and self.accepts(value, first=state is None):
                return value
            if state is None:
                state = RetryState(self.policy, started)
            try:
                delay = self.decide(state, failure, value, function)
                if delay is None or not (self.at_once(state, delay) or drive(self.serve(state, delay, failure))):
                    if failure is None:
                        return value
                    raise failure.with_traceback(_from_the_callee(failure))
                attempt = Attempt(state.failures + 1, failure)
            finally:
                del failure  # else exception -> traceback -> this frame -> exception

    async def call_async(self, function: Callable[..., Any], instance: object, args: Any, kwargs: Any) -> Any:
        """The driver of coroutine functions: the one above with two awaits."""
        started = now()
        state: RetryState | None = None
        attempt = FIRST
        while True:
            failure = value = None
            token = current.set(attempt)
            try:
                value = await function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - the policy decides, and it is raised again
                failure = error
            finally:
                current.reset(token)
            if failure is None and self.accepts(value, first=state is None):
                return value
            if state is None:
                state = RetryState(self.policy, started)
            try:
                delay = self.decide(state, failure, value, function)
                if delay is None or not (
                    self.at_once(state, delay) or await drive_in_loop(self.serve(state, delay, failure))
                ):
                    if failure is None:
                        return value
                    raise failure.with_traceback(_from_the_callee(failure))
                attempt = Attempt(state.failures + 1, failure)
            finally:
                del failure

    def accepts(self, value: object, *, first: bool) -> bool:
        """Whether an attempt that raised nothing has succeeded."""
        if self.on_result is not None and self.on_result(value):
            return False
        if self.budget is not None:
            self.budget.give_back(after_retry=not first)
        return True

    def at_once(self, state: RetryState, delay: Nanoseconds) -> bool:
        """Whether the next attempt may begin without another thought: no delay, no deadline, no scope."""
        return delay == 0 and state.deadline is None and not current_scopes()

    def serve(self, state: RetryState, delay: Nanoseconds, failure: Exception | None) -> Flow[bool]:
        """Wait before the next attempt. False when the deadline has come meanwhile, so that none may follow."""
        if delay:
            yield from self._delay(delay)
        # A delay is a wait like any other: scopes end it, and no attempt follows in one that has ended.
        checkpoint(_NO_DELAY)
        if state.deadline is None or now() <= state.deadline:
            return True
        if failure is not None:
            self._mark(state, failure, "the deadline has come", now())
        return False

    def decide(
        self, state: RetryState, failure: Exception | None, value: object, function: Callable[..., Any] | None
    ) -> Nanoseconds | None:
        """Take in a failed attempt. Returns the delay before the next one, or ``None`` to give up."""
        if isinstance(failure, CancelledError):
            return None  # a cancellation, though of class Exception
        instant = now()
        text = "a result to be retried" if failure is None else _short(failure)
        retried = failure is not None and already_retried(failure)
        answer = state.failed(failure, text, instant, random.random, retried, _override.attempts, _override.delays)
        if not isinstance(answer, str) and self.budget is not None and not self.budget.take():
            answer = "the retry budget is spent"
        delay, why = (None, answer) if isinstance(answer, str) else (answer, "")
        hook = self.on_give_up if delay is None else self.on_retry
        if hook is not None or is_logged():
            name = getattr(function, "__qualname__", None) or ("block" if function is None else repr(function))
            seconds = None if delay is None else delay / SECOND
            elapsed = (instant - state.started) / SECOND
            tell(hook, RetryRecord(name, state.failures, failure, value, seconds, elapsed, why))
        if failure is not None and why and why != NOT_RETRIED:
            self._mark(state, failure, why, instant)
        return delay

    def _mark(self, state: RetryState, failure: Exception, why: str, instant: Nanoseconds) -> None:
        failure.add_note(state.note(why, instant))
        setattr(failure, _MARK, True)

    def _delay(self, delay: Nanoseconds) -> Flow[None]:
        over = now() + delay
        passed = after(delay / SECOND)
        if self.ready is not None:
            try:
                yield Wait(self.ready, 0, explained=False)
                # What holds right after the failure is not what the failure came from: the delay is served in full.
            except WaitTimeout:
                held = yield Wait(any_of(self.ready, passed), None)
                if held.position == 0:
                    yield Wait(after(self._spread(over - now())), None)
                return
        yield Wait(passed, None)

    def _spread(self, left: Nanoseconds) -> float:
        """All who waited for the same condition are released at once: a little chance keeps them from coming at once."""
        return random.random() * max(0, min(self.policy.backoff.base, left)) / SECOND  # noqa: S311 - nothing secret


def _short(error: Exception) -> str:
    message = str(error)
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    if "\n" in text:
        text = text[: text.index("\n")]
    return text if len(text) <= 100 else f"{text[:97]}..."


def _from_the_callee(error: Exception) -> Any:
    """The traceback of *error* without our frame, which raising it again puts there anew."""
    trace = error.__traceback__
    return trace.tb_next if trace is not None and trace.tb_next is not None else trace
