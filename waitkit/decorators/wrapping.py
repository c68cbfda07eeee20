"""Wrapping callables: functions, methods, class- and staticmethods in either order, coroutines, partials, objects.

``wrapt`` keeps name, signature and binding right. On top of it come the choice between sync and async, made once, and
pickling, which wrapt refuses.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any, Self, TypeVar

import wrapt

from waitkit.conditions.sources import describe_callable
from waitkit.ground.callables import kind_of

__all__ = ["BoundWrapper", "FunctionWrapper", "refuse_unknown_options", "wrap"]

F = TypeVar("F", bound=Callable[..., Any])


def _by_name(module: str, qualified_name: str) -> Any:
    return operator.attrgetter(qualified_name)(sys.modules.get(module) or __import__(module, fromlist=["_"]))


class BoundWrapper(wrapt.BoundFunctionWrapper):  # type: ignore[type-arg]
    """A wrapped method, bound to its instance or class; it pickles where the plain bound method does."""

    def __reduce_ex__(self, protocol: object) -> Any:
        if self._self_instance is None:
            return _by_name, (self.__wrapped__.__module__, self.__wrapped__.__qualname__)
        return getattr, (self._self_instance, self._name())

    def _name(self) -> str:
        """What it is found by in its class, which may be another name than that of the function it wraps."""
        owner = self._self_instance if isinstance(self._self_instance, type) else type(self._self_instance)
        for known in owner.__mro__:
            for name, value in vars(known).items():
                # Not by ==, which looks through the wrapper.
                if value is self._self_parent or getattr(value, "__func__", None) is self._self_parent:
                    return name
        return str(self.__wrapped__.__name__)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if self._self_instance is None:
            return self
        return getattr(deepcopy(self._self_instance, memo), self._name())


class FunctionWrapper(wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """A wrapped function; its copies are itself, as those of functions.

    It pickles by name where it is found by its name, as a plain function does. Where it is not (a partial, an object, a function
    that was decorated under another name), what it wraps is pickled, and what the decorator was given.
    """

    __bound_function_wrapper__ = BoundWrapper

    def __reduce_ex__(self, protocol: object) -> Any:
        module, name = getattr(self.__wrapped__, "__module__", None), getattr(self.__wrapped__, "__qualname__", None)
        if isinstance(module, str) and isinstance(name, str):
            try:
                if _by_name(module, name) is self:
                    return name
            except (AttributeError, ImportError):
                pass  # a function inside of another one, say: pickle tells that of what is wrapped
        return type(self), (self.__wrapped__, self._self_wrapper)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def refuse_unknown_options(caller: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise ``TypeError`` where an option that was *given* to the public function *caller* is none of those that are *known*."""
    known = list(known)
    unknown = next((option for option in given if option not in known), None)
    if unknown is not None:
        raise TypeError(f"{caller}() takes no {unknown}=; its options are {'=, '.join(known)}=")


def _refuse_generators(function: Any, decorator: str, instead: str) -> None:
    """Refuse what cannot be wrapped.

    Raises:
        TypeError: *function* is a (possibly async) generator function, whose call does nothing yet, or no callable.
    """
    if not callable(function) and not isinstance(function, classmethod | staticmethod):
        raise TypeError(f"@{decorator} decorates a callable, not {function!r}")
    if isinstance(function, type):
        raise TypeError(f"@{decorator} does not decorate a class ({function.__qualname__}): decorate its methods")
    kind = kind_of(function)
    if "generator" in kind:
        raise TypeError(
            f"@{decorator} cannot decorate {describe_callable(function)}: calling {'an' if kind[0] == 'a' else 'a'} {kind} "
            f"function runs nothing of it yet. {instead}"
        )


def wrap(
    function: F,
    decorator: str,
    plain: Callable[..., Any],
    coroutine: Callable[..., Any],
    *,
    instead: str,
    wrapper_class: type[FunctionWrapper] = FunctionWrapper,
) -> Any:
    """Wrap *function*.

    Args:
        function: what is decorated.
        decorator: its name, for errors.
        plain: called as ``plain(wrapped, instance, args, kwargs)`` in the place of a plain function.
        coroutine: likewise, a coroutine function, in the place of one.
        instead: what to write instead of decorating a generator function.
        wrapper_class: what to wrap with.

    Raises:
        TypeError: *function* cannot be decorated.
    """
    _refuse_generators(function, decorator, instead)
    return wrapper_class(function, coroutine if kind_of(function) == "coroutine" else plain)
