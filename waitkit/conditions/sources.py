"""Words for messages: the source text of a lambda, the name of a callable, a value cut to a readable length."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import CodeType
from typing import TYPE_CHECKING, Any, Final

from waitkit.engine.locks import ForkSafeLock

if TYPE_CHECKING:
    import ast

__all__ = ["describe_callable", "describe_error", "describe_value"]

_LONGEST: Final = 200
_TRIES: Final = 3
# So that our own threads do not disturb each other's parsing; those of others still may.
_parsing: Final = ForkSafeLock()


def describe_value(value: object) -> str:
    """``repr(value)``, cut to 200 characters. A ``repr`` that raises is named, not raised: this runs while failing."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - whatever it raises, the message goes on
        return f"<{type(value).__name__}, whose repr() raised {type(error).__name__}>"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def describe_callable(function: Callable[..., Any]) -> str:
    """A callable as its reader knows it: the source of a lambda, the qualified name of anything else, with ``()``."""
    inner = getattr(function, "func", function)  # functools.partial
    code = getattr(inner, "__code__", None)
    name = getattr(inner, "__qualname__", None)
    if name is None:
        return describe_value(function)
    if code is not None and code.co_name == "<lambda>":
        source = _lambda_source(code)
        if source is not None:
            return source
    return f"{name.replace('<locals>.', '')}()"


def describe_error(error: BaseException) -> str:
    """``"ValueError: its message"``; a message that cannot be had is named as such, as with :func:`describe_value`."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as broken:  # noqa: BLE001 - as above
        return f"{type(error).__name__}, whose message raised {type(broken).__name__}"


@lru_cache(maxsize=256)  # a file is parsed for it: milliseconds, and many objects may come from one line
def _lambda_source(code: CodeType) -> str | None:
    """The text of just this lambda, found by the positions of its instructions: a line may hold several."""
    import ast  # only when a message is written
    import linecache

    text = "".join(linecache.getlines(code.co_filename))
    tree = _parsed(text)
    if tree is None:
        return None
    positions = [
        (line, column)
        for line, _, column, end in code.co_positions()
        if line is not None and column is not None and end  # (line, 0, 0) marks no text
    ]
    candidates = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Lambda)
        and node.lineno == code.co_firstlineno
        and all(_starts(node.body) <= position < _ends(node.body) for position in positions)
    ]
    # Where the body is a constant, 3.12 keeps no position: of several lambdas in a line it could then be any.
    if not candidates or (not positions and len(candidates) > 1):
        return None
    innermost = max(candidates, key=lambda node: (node.lineno, node.col_offset))
    segment = ast.get_source_segment(text, innermost)
    return None if segment is None else " ".join(segment.split())


@lru_cache(maxsize=4)  # one file has many lambdas
def _parsed(text: str) -> ast.Module | None:
    """The tree of a source text. Whatever keeps Python from making it, there are other words: no wait may end by it."""
    import ast

    for _ in range(_TRIES):
        try:
            with _parsing:
                return ast.parse(text)
        except SystemError:
            continue  # 3.11 counts the depth of nodes for all threads at once, and finds that another one's is not its own
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
    return None


def _starts(node: Any) -> tuple[int, int]:
    return (node.lineno, node.col_offset)


def _ends(node: Any) -> tuple[int, int]:
    return (node.end_lineno, node.end_col_offset)
