"""A signal: the list of those who want to know that something may have changed."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias, TypeGuard

from waitkit.engine.forks import reset_in_child

__all__ = ["ConditionHook", "Signal", "Wake"]

#: What a signal calls: short, without arguments, safe in any thread and under any lock.
Wake: TypeAlias = Callable[[], None]


class Signal:
    """Calls all its subscribers.

    There is no lock: each step is one atomic operation on a dictionary, so a signal handler may notify while its
    own thread subscribes, and a fork cannot leave a lock behind that nobody will open.
    """

    __slots__ = ("_subscribers",)

    def __init__(self) -> None:
        self._subscribers: dict[object, Wake] = {}

    def subscribe(self, wake: Wake, owner: object = None) -> object:
        """Have *wake* called at every :meth:`notify` from now on.

        Args:
            wake: what to call.
            owner: what to unsubscribe with, one for each subscription. Who has it before it subscribes can always
                unsubscribe, even if Ctrl-C takes away what this method returns; left out, a token is made.

        Returns:
            What to unsubscribe with: the owner, or the token.
        """
        token = object() if owner is None else owner
        self._subscribers[token] = wake
        return token

    def unsubscribe(self, token: object) -> None:
        """End a subscription. Ending it again, or one that never began, does nothing."""
        self._subscribers.pop(token, None)

    def notify(self) -> None:
        """Call every subscriber, in the order they came.

        Ctrl-C can come before all are called, or before any is. Who changes something that others wait for calls this again then.
        """
        if self._subscribers:
            for wake in self._subscribers.copy().values():
                wake()

    def clear(self) -> None:
        """End all subscriptions."""
        self._subscribers.clear()

    def __len__(self) -> int:
        return len(self._subscribers)


class ConditionHook(Signal):
    """Hears each ``notify`` of a ``threading.Condition``, for all who subscribe, and spends none.

    The standard library has no public hook for this. ``notify_all`` calls ``self.notify``, and so does all that is built on a
    condition (3.11 to 3.14, and the free-threaded build): the hook stands in the place of that method, in the instance. There
    is one for a condition, however many listen, and it stays: without subscribers it passes the call on.
    """

    __slots__ = ("__weakref__", "_condition", "_lock", "_waiters")

    def __init__(self, condition: threading.Condition) -> None:
        super().__init__()
        # not the condition itself: it has a reference to us, and would be garbage of the kind that waits for a collection
        self._condition = weakref.ref(condition)
        self._lock: Any = condition._lock  # type: ignore[attr-defined]
        self._waiters: Any = condition._waiters  # type: ignore[attr-defined]
        reset_in_child(self, ConditionHook.clear)  # those who listen stay in the parent

    def __call__(self, n: int = 1) -> None:
        """``Condition.notify``."""
        condition = self._condition() or self._stand_in()
        try:
            type(condition).notify(condition, n)
            self.notify()
        except BaseException:
            self.notify()
            raise

    def _stand_in(self) -> threading.Condition:
        """For one that is gone, of which somebody has a copy: that has the same lock and waiters, and this hook."""
        condition = threading.Condition(self._lock)
        vars(condition)["_waiters"] = self._waiters
        return condition

    @classmethod
    def of(cls, condition: object) -> ConditionHook | None:
        """The hook of *condition*; ``None`` where it is not of the kind this was made for."""
        if not cls.works_on(condition):
            return None
        hook = condition.__dict__.get("notify")
        if hook is None:
            hook = condition.__dict__.setdefault("notify", cls(condition))  # atomic: two threads get the same one
        return hook if isinstance(hook, cls) else None

    @staticmethod
    def works_on(condition: object) -> TypeGuard[threading.Condition]:
        """Whether *condition* is of the kind this was made for."""
        return (
            isinstance(condition, threading.Condition)
            and getattr(type(condition), "notify", None) is threading.Condition.notify
            and type(condition).notify_all is threading.Condition.notify_all
            and hasattr(condition, "_waiters")
            and _notify_is_called()
        )


_is_called: bool | None = None


def _notify_is_called() -> bool:
    """Try once, on this interpreter, what :class:`ConditionHook` relies on."""
    global _is_called
    if _is_called is None:
        condition = threading.Condition()
        heard: list[int] = []
        try:
            condition.__dict__["notify"] = lambda n=1: heard.append(n)
            with condition:
                condition.notify_all()
                condition.notify()
            _is_called = heard == [0, 1]
        except (AttributeError, RuntimeError, TypeError):
            _is_called = False
    return _is_called
