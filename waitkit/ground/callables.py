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
    code = getattr(inner, "__code__", None)
    if code is not None:
        for flag, kind in _FLAGS:
            if code.co_flags & flag:
                return kind
    if _is_marked(function) or (inner is not function and _is_marked(inner)):
        return "coroutine"
    return "plain"


#: By which attribute a plain callable is marked as a coroutine function, and where the mark is that has to be its value: by
#: ``inspect.markcoroutinefunction`` (3.12; early releases named it otherwise), and by the mocks of the standard library.
_MARKS: Final = (
    ("_is_coroutine_marker", (("inspect", "_is_coroutine_mark"), ("inspect", "_is_coroutine_marker"))),
    ("_is_coroutine", (("asyncio.coroutines", "_is_coroutine"),)),
)


def _is_marked(function: Any) -> bool:
    for attribute, homes in _MARKS:
        mark = getattr(function, attribute, None)
        # A mock has every attribute: only the mark itself counts.
        if mark is not None and any(mark is getattr(sys.modules.get(module), name, None) for module, name in homes):
            return True
    return False
