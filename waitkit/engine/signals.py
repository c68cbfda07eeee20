"""A signal: the list of those who want to know that something may have changed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

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

    def subscribe(self, wake: Wake) -> object:
        """Have *wake* called at every :meth:`notify` from now on. Returns the token to unsubscribe with."""
        token = object()
        self._subscribers[token] = wake
        return token

    def unsubscribe(self, token: object) -> None:
        """End a subscription. Ending it again does nothing."""
        self._subscribers.pop(token, None)

    def notify(self) -> None:
        """Call every subscriber, in the order they came."""
        if self._subscribers:
            for wake in self._subscribers.copy().values():
                wake()

    def __len__(self) -> int:
        return len(self._subscribers)


class ConditionHook:
    """Stands among the waiters of a ``threading.Condition`` and hears its ``notify`` without spending it.

    The standard library has no public hook for this. ``Condition.notify`` (3.11 to 3.14, and in the free-threaded
    build) calls ``release()`` of the entries of ``_waiters`` from the left, counts those that returned, drops each, and
    passes over an entry whose ``release()`` raises ``RuntimeError``: that is there for waiters which a signal had
    interrupted (gh-92530). So this entry raises it *always*. ``notify(1)`` then goes on to the waiter it was meant for:
    listening takes nobody's wake-up.

    The first time, the entry is put in without the condition's lock (``deque.append`` is atomic, ``notify`` never
    iterates). After a notify it is put in under the lock: ``notify`` does not count it, and would otherwise go on for as
    long as the waiters it wakes come back (1,000 of them: 20,000 calls for one ``notify``). It is taken out under the
    lock, as ``notify`` looks at ``_waiters[0]`` after it found it not empty.
    """

    __slots__ = ("_condition", "_notified", "_wake", "armed")

    def __init__(self, condition: threading.Condition, wake: Wake) -> None:
        self._condition = condition
        self._wake = wake
        self._notified = False
        self.armed = False

    def arm(self) -> None:
        """Hear the next notify. A notify takes the hook out, so arm again *before* looking again."""
        if self.armed:
            return
        self.armed = True
        if self._notified:
            with self._condition:
                self._condition._waiters.append(self)  # type: ignore[attr-defined]
        else:
            self._condition._waiters.append(self)  # type: ignore[attr-defined]

    def release(self) -> None:
        """Called by ``notify``, under the condition's lock."""
        self.armed = False
        self._notified = True
        self._wake()
        raise RuntimeError("not a waiter: pass this wake-up on")

    def close(self) -> None:
        """Hear nothing any more."""
        if not self.armed:
            return
        with self._condition:
            try:
                self._condition._waiters.remove(self)  # type: ignore[attr-defined]
            except ValueError:  # a notify took it out in between
                pass
        self.armed = False

    @staticmethod
    def works_on(condition: object) -> bool:
        """Whether *condition* is of the kind this hook was made for."""
        return (
            isinstance(condition, threading.Condition)
            and type(condition).notify is threading.Condition.notify
            and hasattr(getattr(condition, "_waiters", None), "append")
            and _passes_wakeups_on()
        )


_passes_on: bool | None = None


def _passes_wakeups_on() -> bool:
    """Try once, on this interpreter, what :class:`ConditionHook` relies on."""
    global _passes_on
    if _passes_on is None:
        condition = threading.Condition()
        heard: list[str] = []
        hook = ConditionHook(condition, lambda: heard.append("hook"))

        class Waiter:
            def release(self) -> None:
                heard.append("waiter")

        try:
            hook.arm()
            condition._waiters.append(Waiter())  # type: ignore[attr-defined]
            with condition:
                condition.notify()
            _passes_on = heard == ["hook", "waiter"] and not condition._waiters  # type: ignore[attr-defined]
        except (AttributeError, RuntimeError, TypeError):
            _passes_on = False
    return _passes_on
