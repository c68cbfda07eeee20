"""What users call: ``wait_for``, ``wait_for_async``, ``consistently``, ``consistently_async``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload

from waitkit.conditions.condition import Condition, HeldThroughout, as_condition
from waitkit.ground.callers import Caller, calling_line
from waitkit.ground.durations import Duration, to_nanoseconds, to_optional_nanoseconds
from waitkit.ground.settings import DEFAULT, DefaultTimeout
from waitkit.waits.account import Message
from waitkit.waits.drivers import block, wait_in_loop
from waitkit.waits.wait import Wait

if TYPE_CHECKING:
    import multiprocessing.process
    import multiprocessing.synchronize
    import queue
    import subprocess
    import threading
    from concurrent.futures import Future

    import psutil

    from waitkit.conditions.descriptors import HasFileno
    from waitkit.conditions.processes import ProcessExit

    AnEvent: TypeAlias = threading.Event | multiprocessing.synchronize.Event
    AProcess: TypeAlias = subprocess.Popen[Any] | multiprocessing.process.BaseProcess | psutil.Process
    Thing = TypeVar(
        "Thing", bound=threading.Thread | Future[Any] | queue.Queue[Any] | queue.SimpleQueue[Any] | HasFileno
    )

__all__ = ["consistently", "consistently_async", "wait_for", "wait_for_async"]

T = TypeVar("T")

Ignore: TypeAlias = type[Exception] | tuple[type[Exception], ...]


@overload
def wait_for(
    condition: Condition[T],
    timeout: Duration | DefaultTimeout | None = ...,
    *,
    message: Message | None = ...,
    ignore: Ignore = ...,
    unless: object = ...,
) -> T: ...
@overload
def wait_for(
    condition: AnEvent,
    timeout: Duration | DefaultTimeout | None = ...,
    *,
    message: Message | None = ...,
    ignore: Ignore = ...,
    unless: object = ...,
) -> Literal[True]: ...
@overload
def wait_for(
    condition: AProcess,
    timeout: Duration | DefaultTimeout | None = ...,
    *,
    message: Message | None = ...,
    ignore: Ignore = ...,
    unless: object = ...,
) -> ProcessExit: ...
@overload
def wait_for(
    condition: Thing,
    timeout: Duration | DefaultTimeout | None = ...,
    *,
    message: Message | None = ...,
    ignore: Ignore = ...,
    unless: object = ...,
) -> Thing: ...
@overload
def wait_for(
    condition: Callable[[], T | None],
    timeout: Duration | DefaultTimeout | None = ...,
    *,
    message: Message | None = ...,
    ignore: Ignore = ...,
    unless: object = ...,
) -> T: ...
def wait_for(
    condition: Any,
    timeout: Duration | DefaultTimeout | None = DEFAULT,
    *,
    message: Message | None = None,
    ignore: Ignore = (),
    unless: object = None,
) -> Any:
    """Wait until *condition* holds.

    Args:
        condition: a :class:`Condition`, a callable without arguments (probed: called at growing gaps, in this
            thread), or a thing of the standard library: an event, thread, future, queue, process, connection, socket.
        timeout: how long to wait. Left out: 10 s (see :func:`set_defaults`), unless a scope around has a deadline.
            ``None``: no limit of its own. ``0``: one look. The last look is made at the deadline itself.
        message: what is awaited, in words, for errors and records; or a function that is called when the wait fails,
            with the last value judged, and returns these words.
        ignore: exceptions of plain callables that mean "not yet"; others end the wait and come through.
        unless: anything that adapts to a condition; when it holds and *condition*, looked at once more, does not, the wait
            fails at once.

    Returns:
        What the condition holds with: the true value of a callable, the value of a :class:`Condition`, ``True`` for an
        event, a :class:`ProcessExit` for a process, and the thread, future, queue or connection itself.

    Raises:
        WaitTimeout: the deadline came first. Where the last look ended in an exception that is ignored, that is its
            ``__cause__``.
        WaitFailed: the *unless* condition came true.
        Cancelled: a scope around was cancelled, or its deadline came.
        TypeError, ValueError: an argument cannot be what it should be; a condition that would always be true counts.
    """
    return block(_checked(condition, timeout, message, ignore, unless)())


@overload
def wait_for_async(
    condition: Condition[T],
    timeout: Duration | DefaultTimeout | None = ...,
    *,
    message: Message | None = ...,
    ignore: Ignore = ...,
    unless: object = ...,
) -> Coroutine[Any, Any, T]: ...
@overload
def wait_for_async(
    condition: AnEvent,
    timeout: Duration | DefaultTimeout | None = ...,
    *,
    message: Message | None = ...,
    ignore: Ignore = ...,
    unless: object = ...,
) -> Coroutine[Any, Any, Literal[True]]: ...
@overload
def wait_for_async(
    condition: AProcess,
    timeout: Duration | DefaultTimeout | None = ...,
    *,
    message: Message | None = ...,
    ignore: Ignore = ...,
    unless: object = ...,
) -> Coroutine[Any, Any, ProcessExit]: ...
@overload
def wait_for_async(
    condition: Thing,
    timeout: Duration | DefaultTimeout | None = ...,
    *,
    message: Message | None = ...,
    ignore: Ignore = ...,
    unless: object = ...,
) -> Coroutine[Any, Any, Thing]: ...
@overload
def wait_for_async(
    condition: Callable[[], T | None],
    timeout: Duration | DefaultTimeout | None = ...,
    *,
    message: Message | None = ...,
    ignore: Ignore = ...,
    unless: object = ...,
) -> Coroutine[Any, Any, T]: ...
def wait_for_async(
    condition: Any,
    timeout: Duration | DefaultTimeout | None = DEFAULT,
    *,
    message: Message | None = None,
    ignore: Ignore = (),
    unless: object = None,
) -> Coroutine[Any, Any, Any]:
    """Wait until *condition* holds, without blocking the event loop.

    The wait begins when it is awaited: its time begins then, and the scopes around that count. Bad input is told at the call.

    Args:
        condition: a :class:`Condition`, a callable without arguments (probed: called at growing gaps, in this
            loop; combined with one that may block, as :func:`http_ok`, in a thread of waitkit's own), or a thing of the standard
            library: an event, thread, future, queue, process, connection, socket.
        timeout: how long to wait. Left out: 10 s (see :func:`set_defaults`), unless a scope around has a deadline.
            ``None``: no limit of its own. ``0``: one look. The last look is made at the deadline itself.
        message: what is awaited, in words, for errors and records; or a function that is called when the wait fails,
            with the last value judged, and returns these words.
        ignore: exceptions of plain callables that mean "not yet"; others end the wait and come through.
        unless: anything that adapts to a condition; when it holds and *condition*, looked at once more, does not, the wait
            fails at once.

    Returns:
        What the condition holds with: the true value of a callable, the value of a :class:`Condition`, ``True`` for an
        event, a :class:`ProcessExit` for a process, and the thread, future, queue or connection itself.

    Raises:
        WaitTimeout: the deadline came first. Where the last look ended in an exception that is ignored, that is its
            ``__cause__``.
        WaitFailed: the *unless* condition came true.
        Cancelled: a scope around was cancelled, or its deadline came.
        TypeError, ValueError: an argument cannot be what it should be; a condition that would always be true counts.
    """
    return _awaited(_checked(condition, timeout, message, ignore, unless, calling_line()))


async def _awaited(begin: Callable[[], Wait]) -> Any:
    """Wait from now on, within the scopes of the task that awaits: the call may have been made long before, elsewhere."""
    return await wait_in_loop(begin())


def _checked(
    condition: object,
    timeout: Duration | DefaultTimeout | None,
    message: Message | None,
    ignore: Ignore,
    unless: object,
    caller: Caller | None = None,
) -> Callable[[], Wait]:
    """What begins the wait; what is wrong with its arguments is told now."""
    _check_message(message)
    return partial(
        Wait,
        as_condition(condition),
        DEFAULT if timeout is DEFAULT else to_optional_nanoseconds(timeout, "timeout"),
        unless=None if unless is None else as_condition(unless, "unless"),
        ignore=_exceptions(ignore),
        message=message,
        caller=caller,
    )


def _check_message(message: Message | None) -> None:
    if message is not None and not isinstance(message, str) and not callable(message):
        raise TypeError(f"message={message!r} is neither a text nor a function of the last value that returns one")
    if message == "":
        raise ValueError("message='' says nothing: leave it out, or say what is awaited")


def _exceptions(ignore: Ignore) -> tuple[type[Exception], ...]:
    kinds = ignore if isinstance(ignore, tuple) else (ignore,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise TypeError(
                f"ignore={ignore!r}: give an exception type or a tuple of them, each a subclass of Exception "
                "(KeyboardInterrupt, SystemExit and Cancelled are never ignored)"
            )
    return kinds


def consistently(condition: object, for_: Duration, *, message: Message | None = None, ignore: Ignore = ()) -> Any:
    """Assert that *condition* holds now and goes on holding for a while: the honest form of "sleep, then check".

    Args:
        condition: anything that adapts to a condition. One that tells when it stops holding (:class:`waitkit.Event`,
            :class:`waitkit.Value`, a process, a queue) fails at once then, however short that is. Any other (a callable, a
            port; of a ``threading.Event`` nobody is told that it was cleared) is looked at every 6 % of the time passed, at
            most 250 ms apart.
        for_: how long it must hold.
        message: what must hold, in words, or a function of the last value that returns them.
        ignore: exceptions of plain callables that mean "does not hold".

    Returns:
        What the condition held with at the end.

    Raises:
        StoppedHolding: it did not hold at some look. This is an :class:`AssertionError` too.
        Cancelled: a scope around was cancelled, or its deadline came.
        TypeError, ValueError: an argument cannot be what it should be.
    """
    return block(_checked_to_hold(condition, for_, message, ignore)())


def consistently_async(
    condition: object, for_: Duration, *, message: Message | None = None, ignore: Ignore = ()
) -> Coroutine[Any, Any, Any]:
    """As :func:`consistently`, without blocking the event loop."""
    return _awaited(_checked_to_hold(condition, for_, message, ignore, calling_line()))


def _checked_to_hold(
    condition: object, for_: Duration, message: Message | None, ignore: Ignore, caller: Caller | None = None
) -> Callable[[], Wait]:
    to_nanoseconds(for_, "for_")
    return _checked(HeldThroughout(as_condition(condition), for_), None, message, ignore, None, caller)
