"""What users write: the decorator ``@retry_backoff`` and the block form ``for attempt in retrying(...)``."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Literal, Self, TypedDict, TypeVar, Unpack

from waitkit.conditions.condition import as_condition
from waitkit.decorators.wrapping import refuse_unknown_options, wrap
from waitkit.engine.clock import now
from waitkit.ground.checks import check_bool, check_callables, check_count
from waitkit.ground.durations import Duration, to_nanoseconds, to_optional_nanoseconds
from waitkit.policies.backoff import Backoff, Jitter
from waitkit.policies.retrying import RetryOn, RetryPolicy, read_on
from waitkit.retry.budget import RetryBudget
from waitkit.retry.records import Mark, RetryHook, Running, current
from waitkit.retry.retrier import Course, Retrier
from waitkit.waits.drivers import Flow, drive, drive_in_loop

__all__ = ["BlockAttempt", "RetryOptions", "Retrying", "retry_backoff", "retrying"]

F = TypeVar("F", bound=Callable[..., Any])


class RetryOptions(TypedDict, total=False):
    """The options that the decorator and the block form share; see :func:`waitkit.retry_backoff`."""

    attempts: int | None
    timeout: Duration | None
    base: Duration
    factor: float
    max_delay: Duration
    jitter: Jitter
    max_retry_after: Duration | None
    ready: object
    budget: RetryBudget | None
    nested: bool
    on_retry: RetryHook | None
    on_give_up: RetryHook | None


#: What both forms take.
_OPTIONS: Final = ("on", *RetryOptions.__annotations__)


def _retrier(
    on: RetryOn,
    *,
    on_result: Callable[[Any], object] | None = None,
    attempts: int | None = 5,
    timeout: Duration | None = None,
    base: Duration = "100ms",
    factor: float = 2,
    max_delay: Duration = "10s",
    jitter: Jitter = "full",
    max_retry_after: Duration | Literal["max_delay"] | None = "max_delay",
    ready: object = None,
    budget: RetryBudget | None = None,
    nested: bool = False,
    on_retry: RetryHook | None = None,
    on_give_up: RetryHook | None = None,
) -> Retrier:
    if attempts is not None:
        check_count(attempts, "attempts", "; None means no limit, with a timeout")
    if attempts is None and timeout is None:
        raise ValueError("attempts=None and timeout=None would try for ever: give one of the two a limit")
    check_callables(on_result=on_result, on_retry=on_retry, on_give_up=on_give_up)
    if budget is not None and not isinstance(budget, RetryBudget):
        raise TypeError(f"budget={budget!r} is no RetryBudget")
    backoff = Backoff(base=base, factor=factor, max_delay=max_delay, jitter=jitter)
    longest = backoff.max_delay
    if max_retry_after is None:
        longest = 2**63
    elif max_retry_after != "max_delay":
        longest = to_nanoseconds(max_retry_after, "max_retry_after")
    policy = RetryPolicy(
        on=read_on(on),
        attempts=attempts,
        timeout=to_optional_nanoseconds(timeout, "timeout"),
        backoff=backoff,
        longest_asked=longest,
        may_end_early=ready is not None,
        nested=check_bool(nested, "nested"),
    )
    return Retrier(
        policy=policy,
        on_result=on_result,
        ready=None if ready is None else as_condition(ready, "ready"),
        budget=budget,
        on_retry=on_retry,
        on_give_up=on_give_up,
    )


def retry_backoff(
    *,
    on: RetryOn,
    on_result: Callable[[Any], object] | None = None,
    **options: Unpack[RetryOptions],
) -> Callable[[F], F]:
    """Try a function again when it fails, after delays that grow and are spread by chance (see :class:`Backoff`).

    ::

        @retry_backoff(on=ConnectionError, attempts=5, ready=port_listening(5432))
        def connect(): ...

    It decorates functions, coroutine functions, methods, class- and staticmethods; name, signature and type stay. Only
    exceptions of class :class:`Exception` are retried: never interrupts, exits or cancellations. Each delay is a wait: scopes
    end it at once, and no further attempt is made then.

    Args:
        on: which exceptions to retry: a type, a tuple of types, or a function of the exception that returns ``True``,
            ``False``, or a delay that the other side asked for (``Retry-After``): seconds, a
            ``timedelta`` or a string.
            :class:`WaitTimeout` is a ``TimeoutError``, so an ``OSError``: ``on=OSError`` retries waits that timed out, too.
        on_result: a function of the result; true means that the attempt has failed. When attempts run out, the last result is
            returned.
        options: all that follow.
        attempts: how many in all, the first included; 5 unless told otherwise. ``None``: no limit, which takes a *timeout*.
        timeout: how long attempts and delays may take together. No attempt starts, and no delay ends, after it; an attempt in
            progress is not interrupted. ``None``: no limit.
        base: the scale of the first delay; 100 ms.
        factor: by how much each delay is longer, at least 1; 2.
        max_delay: no delay is longer; 10 s.
        jitter: ``"full"`` (the default), ``"equal"``, ``"decorrelated"`` or ``"none"``.
        max_retry_after: the most that an exception may ask for; left out: *max_delay*. ``None``: whatever it asks. A shorter
            delay than it asked for may be refused again.
        ready: a condition that tells that the cause is gone; the delay then ends early (after a spread of at most *base*, so
            that all who wait for it do not come at once). One that holds right after the failure is not the cause, and
            shortens nothing; neither does one that raises, which is logged.
        budget: a :class:`RetryBudget` shared with other functions; without tokens no retry is made.
        nested: retry also what an inner retry has given up on. ``False`` keeps nested retries from multiplying.
        on_retry: called with a :class:`RetryRecord` before each delay.
        on_give_up: called with one when the call fails for good.

    Returns:
        The decorator. Its calls raise the last exception itself, with a note on attempts, time, and each attempt's error.

    Raises:
        TypeError, ValueError: an option cannot be what it should be, or (when decorating) a generator function is decorated.
    """
    refuse_unknown_options("retry_backoff", options, (*_OPTIONS, "on_result"))
    retrier = _retrier(on, on_result=on_result, **options)

    def decorate(function: F) -> F:
        return wrap(  # type: ignore[no-any-return]
            function,
            "retry_backoff",
            retrier.call,
            retrier.call_async,
            instead="Retry the whole iteration instead, with: for attempt in retrying(...): with attempt: ...",
        )

    return decorate


class BlockAttempt:
    """One attempt of a block: ``with attempt:``.

    Attributes:
        number: 1 for the first.
        previous: the exception of the attempt before, ``None`` for the first.
    """

    __slots__ = ("_retrying", "_running", "_token", "number", "previous")

    def __init__(self, retrying: Retrying, number: int, previous: Exception | None) -> None:
        self._retrying = retrying
        self._running: Running = (number, previous, [])
        self.number = number
        self.previous = previous

    def __enter__(self) -> Self:
        self._retrying._begun()
        self._token = current.set(self._running)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            current.reset(self._token)
        except ValueError:
            pass  # an async generator that is closed by another task: its context is not the one we were entered in
        return self._retrying._ended(self._running[2], error)


class Retrying:
    """The attempts of one block, for ``for`` and ``async for``; made by :func:`retrying`, and used once."""

    def __init__(self, retrier: Retrier) -> None:
        self._retrier = retrier
        self._course: Course | None = None
        #: what the last attempt has led to: whether another one follows, or the waits to make before that is known
        self._again: bool | Flow[bool] = True
        self._entered = True

    def __iter__(self) -> Retrying:
        return self._unused()

    def __aiter__(self) -> Retrying:
        return self._unused()

    def _unused(self) -> Retrying:
        if self._course is not None:
            raise RuntimeError("this retrying() was used before: call it anew for each loop")
        return self

    def __next__(self) -> BlockAttempt:
        again = self._again
        if not (again if isinstance(again, bool) else drive(again)):
            self._raise_failure()
            raise StopIteration
        return self._hand_out()

    async def __anext__(self) -> BlockAttempt:
        again = self._again
        if not (again if isinstance(again, bool) else await drive_in_loop(again)):
            self._raise_failure()
            raise StopAsyncIteration
        return self._hand_out()

    def _raise_failure(self) -> None:
        """Where the deadline has come in a delay: the exception of the last attempt, which its block has kept to itself."""
        failed, self._again = not isinstance(self._again, bool), False
        if failed and self._course is not None and self._course.failure is not None:
            raise self._course.failure

    def _hand_out(self) -> BlockAttempt:
        if not self._entered:
            raise RuntimeError("an attempt was not entered: write `with attempt:` inside the loop")
        self._entered = False
        if self._course is None:
            self._course = Course(self._retrier.policy, now(), None)
        return BlockAttempt(self, self._course.failures + 1, self._course.failure)

    def _begun(self) -> None:
        self._entered = True

    def _ended(self, attempt: Mark, error: BaseException | None) -> bool:
        """Take in how the block ended. True to keep its exception, as another attempt follows."""
        course = self._course
        assert course is not None
        self._again = False
        if error is None:
            self._retrier.accepts(None, first=course.failures == 0)
        elif isinstance(error, Exception):
            self._again = self._retrier.decide(course, attempt, error, None)
        return self._again is not False


def retrying(*, on: RetryOn, **options: Unpack[RetryOptions]) -> Retrying:
    """The block form of :func:`retry_backoff`, with the same options but ``on_result``.

    ::

        for attempt in retrying(on=ConnectionError, attempts=3):
            with attempt:
                connect()           # attempt.number is 1, then 2, then 3

    In coroutines write ``async for``; ``with attempt`` stays as it is. The loop ends after the first block that raises nothing.

    Args:
        on: as for :func:`retry_backoff`.
        options: likewise, all but ``on_result``.

    Raises:
        TypeError, ValueError: an option cannot be what it should be.
    """
    refuse_unknown_options("retrying", options, _OPTIONS)
    return Retrying(_retrier(on, **options))


BlockAttempt.__module__ = Retrying.__module__ = "waitkit"
