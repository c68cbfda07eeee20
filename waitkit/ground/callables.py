"""What kind of function a callable is, read from its code flags: ``inspect`` would cost 20 ms to import."""

from __future__ import annotations

import sys
import types
from functools import partial
from typing import Any, Final, Literal, TypeAlias

__all__ = ["CallableKind", "kind_of", "python_function"]

CallableKind: TypeAlias = Literal["plain", "coroutine", "generator", "async generator"]

_FLAGS: Final[tuple[tuple[int, CallableKind], ...]] = (
    (0x80, "coroutine"),
    (0x20, "generator"),
    (0x200, "async generator"),
)


def python_function(function: Any) -> tuple[Any, int | None]:
    """The function that runs when *function* is called, and how many of its arguments are bound already.

    It looks through partials, bound methods, ``classmethod``, ``staticmethod``, wrappers with ``__wrapped__`` and objects with
    ``__call__``. The number is ``None`` where it would be a guess.
    """
    if isinstance(function, partial):
        return python_function(function.func)[0], None
    if isinstance(function, types.FunctionType):
        return function, 0
    if isinstance(function, types.MethodType):
        return python_function(function.__func__)[0], 1
    if isinstance(function, classmethod | staticmethod):
        return python_function(function.__func__)[0], None
    if hasattr(type(function), "__wrapped__") or "__wrapped__" in getattr(function, "__dict__", ()):
        return python_function(function.__wrapped__)[0], None
    method = getattr(type(function), "__call__", None)  # noqa: B004 - which one, not whether
    return (method, 1) if isinstance(method, types.FunctionType) else (function, None)


def kind_of(function: Any) -> CallableKind:
    """Whether a call gives a value, a coroutine, a generator or an async generator."""
    inner = python_function(function)[0]
    if _is_marked(function) or _is_marked(inner):
        return "coroutine"
    code = getattr(inner, "__code__", None)
    if code is not None:
        for flag, kind in _FLAGS:
            if code.co_flags & flag:
                return kind
    return "plain"


#: Where who marks a plain callable as a coroutine function has the mark from: ``inspect.markcoroutinefunction`` (3.12), and the
#: mocks of the standard library. Nobody has marked any where the module was not imported.
_MARKS: Final = (
    ("inspect", "_is_coroutine_mark", "_is_coroutine_marker"),
    ("inspect", "_is_coroutine_marker", "_is_coroutine_marker"),  # early releases of 3.12
    ("asyncio.coroutines", "_is_coroutine", "_is_coroutine"),
)


def _is_marked(function: Any) -> bool:
    for module, name, attribute in _MARKS:
        mark = getattr(sys.modules.get(module), name, None)
        if mark is not None and getattr(function, attribute, None) is mark:
            return True
    return False
