"""A function that was decorated with ``@polls_every``: still callable, with pollers."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from waitkit.conditions.sources import describe_callable
from waitkit.decorators.wrapping import BoundWrapper, FunctionWrapper
from waitkit.engine.locks import ForkSafeLock
from waitkit.ground.durations import Duration
from waitkit.polls.plan import Plan
from waitkit.polls.poller import Poller

__all__ = ["Definition", "PolledFunction", "check_call"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class Definition:
    """What one ``@polls_every`` says, and the pollers it has running: one for a function, one for each instance of a class."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._lock = ForkSafeLock()  # guards _pollers
        # By id: instances need not be hashable. A poller that runs keeps its instance alive, so no other has its id.
        self._pollers: dict[int, Poller] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Definition, (self._plan,)  # what runs stays where it runs

    def make(self, call: Callable[..., Any], args: Any, kwargs: Any) -> Poller:
        """A poller of *call* with these arguments."""
        check_call(call, args, kwargs)
        bound = partial(call, *args, **kwargs) if args or kwargs else call
        return Poller(bound, call, self._plan)

    def start(self, call: Callable[..., Any], args: Any, kwargs: Any) -> Poller:
        """Start the one poller of *call*."""
        poller = self.make(call, args, kwargs)
        key = _key(call)
        with self._lock:
            running_one = self._pollers.get(key)
            if running_one is None or running_one.state == "stopped":
                running_one = self._pollers[key] = poller
        if running_one is not poller:
            raise RuntimeError(
                f"{poller} is running already: stop() it first, or make further ones with "
                "polling(), each of which is started and stopped by itself"
            )

        def forget() -> None:
            """Keep no instance alive for a poller that has ended, however that came."""
            if poller.state == "stopped":
                with self._lock:
                    if self._pollers.get(key) is poller:
                        del self._pollers[key]

        poller._machine.changed.subscribe(forget)
        try:
            return poller.start()
        except BaseException:
            with self._lock:
                if self._pollers.get(key) is poller:
                    del self._pollers[key]
            raise

    def running(self, call: Callable[..., Any]) -> Poller | None:
        """The poller of *call* that was started and has not stopped."""
        poller = self._pollers.get(_key(call))
        return None if poller is None or poller.state == "stopped" else poller


def check_call(call: Callable[..., Any], args: Any = (), kwargs: Any = MappingProxyType({})) -> None:
    """Raise ``TypeError`` where every run of *call* with these arguments would."""
    try:
        signature = inspect.signature(call)
    except ValueError:  # written in C, without a signature
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        hint = ""
        if sys.version_info >= (3, 13) and next(iter(signature.parameters), "") == "cls":
            hint = "; since Python 3.13 a classmethod hides itself from what it decorates: write @polls_every above @classmethod"
        raise TypeError(f"{describe_callable(call)} cannot be polled with these arguments: {error}{hint}") from None


def _key(call: Callable[..., Any]) -> int:
    return id(getattr(call, "__self__", None))


if TYPE_CHECKING:
    Q = ParamSpec("Q")
    C = TypeVar("C", bound=type[Any])

    class PolledFunction(Generic[P, R]):
        """A function with pollers."""

        _self_definition: Definition
        __wrapped__: Callable[P, R]
        __name__: str
        __qualname__: str

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

        # Checkers take @classmethod and @staticmethod off before they apply other decorators, above or below: we are given the
        # function alone, and what it is bound to must be read from its first parameter. It is bound to the instance where
        # that may be the first argument, else to the class where that may, else to nothing. ``self`` is written as a callable,
        # as mypy finds the type of a first parameter in no other way. What this cannot tell apart: a staticmethod whose first
        # parameter takes anything (``object``, ``Any``) looks like a method when it is got from an instance; get it from the
        # class. And mypy loses ``Self`` here, as it does the types of generic functions: name the class instead.
        @overload
        def __get__(  # type: ignore[misc]  # not every PolledFunction is one of these, which is the point
            self: Callable[Concatenate[object, Q], R], instance: None, owner: type | None = None
        ) -> PolledFunction[P, R]: ...
        @overload
        def __get__(self: Callable[Concatenate[C, Q], R], instance: None, owner: C) -> PolledFunction[Q, R]: ...
        @overload
        def __get__(self, instance: None, owner: type | None = None) -> PolledFunction[P, R]: ...
        @overload
        def __get__(
            self: Callable[Concatenate[S, Q], R], instance: S, owner: type | None = None
        ) -> PolledFunction[Q, R]: ...
        @overload
        def __get__(self: Callable[Concatenate[C, Q], R], instance: object, owner: C) -> PolledFunction[Q, R]: ...
        @overload
        def __get__(self, instance: object, owner: type | None = None) -> PolledFunction[P, R]: ...
        def __get__(self, instance: Any, owner: Any = None) -> Any: ...
        def start(self, *args: P.args, **kwargs: P.kwargs) -> Poller: ...
        def polling(self, *args: P.args, **kwargs: P.kwargs) -> Poller: ...
        def trigger(self) -> None: ...
        def stop(self, timeout: Duration | None = None, *, cancel: bool = False) -> None: ...
        async def stop_async(self, timeout: Duration | None = None, *, cancel: bool = False) -> None: ...
        @property
        def poller(self) -> Poller | None: ...

else:

    class _Pollers:
        """What a decorated function and a decorated method offer on top of being called."""

        def start(self, *args, **kwargs):
            """Start polling; see :meth:`Poller.start`. The arguments are those of every run.

            Raises:
                RuntimeError: it is running already (each instance has one poller by this name); or it is a coroutine function,
                    and no event loop is running here.
            """
            return self._definition.start(self.__wrapped__, args, kwargs)

        def polling(self, *args, **kwargs):
            """A poller that is not started yet, for a ``with`` block: any number of them, besides the one of ``start()``."""
            return self._definition.make(self.__wrapped__, args, kwargs)

        def trigger(self):
            """Have the poller that :meth:`start` started run now.

            Raises:
                RuntimeError: there is none.
            """
            poller = self.poller
            if poller is None:
                raise RuntimeError(f"{describe_callable(self.__wrapped__)} is not polled: start() it first")
            poller.trigger()

        def stop(self, timeout=None, *, cancel=False):
            """Stop what :meth:`start` started, as :meth:`Poller.stop` does; nothing happens where nothing runs."""
            poller = self.poller
            if poller is not None:
                poller.stop(timeout, cancel=cancel)

        async def stop_async(self, timeout=None, *, cancel=False):
            """As :meth:`stop`, without blocking the event loop."""
            poller = self.poller
            if poller is not None:
                await poller.stop_async(timeout, cancel=cancel)

        @property
        def poller(self):
            """The poller that :meth:`start` started, while it has not stopped; else ``None``."""
            return self._definition.running(self.__wrapped__)

    class _BoundPolledFunction(_Pollers, BoundWrapper):
        @property
        def _definition(self):
            return self._self_parent._self_definition

    class PolledFunction(_Pollers, FunctionWrapper):
        """A function with pollers: what :func:`waitkit.polls_every` makes of it."""

        __bound_function_wrapper__ = _BoundPolledFunction

        def __init__(self, function, wrapper, definition=None):
            super().__init__(function, wrapper)
            self._self_definition = definition

        def __reduce_ex__(self, protocol):
            reduced = super().__reduce_ex__(protocol)
            return reduced if isinstance(reduced, str) else (reduced[0], (*reduced[1], self._self_definition))

        @property
        def _definition(self):
            return self._self_definition


PolledFunction.__module__ = "waitkit"
