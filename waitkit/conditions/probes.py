"""Probed conditions: a callable is called again and again, in the waiting thread, until it returns something true."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, Final, TypeVar

from waitkit.conditions.condition import Condition
from waitkit.conditions.sources import describe_callable, describe_error, describe_value
from waitkit.engine.clock import current_clock
from waitkit.ground.callables import kind_of, python_function
from waitkit.ground.durations import Nanoseconds
from waitkit.waits.watching import Context, Verdict, Watch

__all__ = ["Probe", "refuse_always_true", "refuse_kind"]

T = TypeVar("T")

#: Makes a Verdict without the Python function that a named tuple has for that; why, is told in own.py.
_new: Final = tuple.__new__

_ALWAYS_TRUE: Final = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)


class Probe(Condition[T]):
    """Holds when *function* returns something true; that is its value.

    Raises:
        TypeError: *function* would always be true (a class, a coroutine function, a generator function), or takes
            arguments.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        _refuse_as_condition(function)
        self._function = function

    @property
    def what(self) -> str:
        return f"{describe_callable(self._function)} to be true"

    def watch(self, context: Context) -> Watch:
        return _ProbeWatch(self._function, context)


class _ProbeWatch(Watch):
    __slots__ = ("_clock_now", "_context", "_error", "_function", "_looked", "_value")

    def __init__(self, function: Callable[[], T], context: Context) -> None:
        self._function = function
        self._context = context
        self._clock_now = current_clock().now
        self._value: T | None = None
        self._error: Exception | None = None
        self._looked = False

    @property
    def calls_user_code(self) -> bool:
        return True

    def look(self, now: Nanoseconds) -> Verdict:
        self._looked = True
        try:
            value = self._function()
        except self._context.ignore as error:
            self._error, self._value = error, None
            value = None
        else:
            self._error, self._value = None, value
        holds = bool(value)
        if holds:
            refuse_always_true(value, self._function)
        after = self._clock_now()
        return _new(Verdict, (holds, value, self._context.next_look(after, after - now), 0, False))

    def seen(self) -> str:
        if self._error is not None:
            return describe_error(self._error)
        return describe_value(self._value) if self._looked else ""

    def error(self) -> Exception | None:
        return self._error


def refuse_always_true(value: object, function: Callable[..., Any]) -> None:
    """Refuse what *function* returned where it would be judged true whatever it stands for."""
    if isinstance(value, _ALWAYS_TRUE):
        if isinstance(value, types.CoroutineType):
            value.close()
        raise TypeError(
            f"{describe_callable(function)} returned a {type(value).__name__}, which is always true: "
            "return what it would give, from a plain function"
        )


def refuse_kind(function: Callable[..., Any]) -> None:
    """Refuse a function of which it is plain before it is called that it returns something always true."""
    kind = kind_of(function)
    if kind != "plain":
        raise TypeError(
            f"{describe_callable(function)} is {'an' if kind[0] == 'a' else 'a'} {kind} function: calling it gives an object "
            "that is always true. Give a plain function that returns what is to be judged"
        )


def _refuse_as_condition(function: Callable[[], Any]) -> None:
    if isinstance(function, type):
        raise TypeError(
            f"{function.__qualname__} is a class, and its instances would always be true: give an instance, or a "
            "function that looks at one"
        )
    refuse_kind(function)
    inner, bound = python_function(function)
    code = getattr(inner, "__code__", None)
    if code is None or bound is None:
        return
    first_with_default = code.co_argcount - len(getattr(inner, "__defaults__", None) or ())
    keywords = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    missing = [
        *code.co_varnames[bound:first_with_default],
        *(f"{name}=" for name in keywords if name not in (getattr(inner, "__kwdefaults__", None) or ())),
    ]
    if missing:
        raise TypeError(
            f"{describe_callable(function)} needs arguments ({', '.join(missing)}): a condition is called without any"
        )
