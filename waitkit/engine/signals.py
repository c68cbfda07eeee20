"""A signal: the list of those who want to know that something may have changed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from operator import call
from typing import Any, Final, TypeAlias

from waitkit.engine import forks

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
        """Call every subscriber, in the order they came."""
        if self._subscribers:
            for wake in self._subscribers.copy().values():
                wake()

    def __len__(self) -> int:
        return len(self._subscribers)


#: Under this name a ``threading.Condition`` keeps the hook that serves all who listen to it.
_ATTRIBUTE: Final = "_waitkit_hook"


class ConditionHook(Signal):
    """Hears the ``notify`` of a ``threading.Condition`` without spending it, for all who subscribe.

    The standard library has no public hook for this. ``Condition.notify`` (3.11 to 3.14, and in the free-threaded
    build) calls ``release()`` of the entries of ``_waiters`` from the left, counts those that returned, drops each, and
    passes over an entry whose ``release()`` raises ``RuntimeError``: that is there for waiters which a signal had
    interrupted (gh-92530). There is one hook for a condition, however many listen, and one entry of it in ``_waiters``:

    - As long as a waiter stands there, the entry raises: ``notify(1)`` goes on to the waiter it was meant for, so
      listening takes nobody's wake-up.
    - Where there is none (and none can come, as waiters need the lock), it returns, and is counted. A ``notify`` under
      way therefore ends, however quickly those it wakes come back to listen. (With an entry for each of 1,000
      listeners, all of which raised, one ``notify`` made 20,000 calls.)

    No step waits for the condition's lock, which somebody may hold for as long as he likes. The entry is put in without it
    (``deque.append`` is atomic, and ``notify`` never iterates). Taking it out needs the lock, as ``notify`` looks at
    ``_waiters[0]`` after it found it not empty: where it cannot be had at once, the entry stays. It is the only one, the
    next listener finds it there, and the next ``notify`` drops it.
    """

    __slots__ = ("_entry", "_generation", "_leaving", "_lock", "_waiters")

    def __init__(self, condition: Any) -> None:
        super().__init__()
        # not the condition itself: it has a reference to us, and would be garbage of the kind that waits for a collection
        self._waiters: deque[Any] = condition._waiters
        self._lock: Any = condition._lock
        self._entry: _Entry | None = None
        self._leaving: dict[object, list[object]] = {}
        self._generation = forks.current

    @classmethod
    def of(cls, condition: object) -> ConditionHook | None:
        """The hook of *condition*; ``None`` where it is not of the kind this was made for."""
        if not cls.works_on(condition):
            return None
        kept: dict[str, Any] = condition.__dict__
        hook: ConditionHook | None = kept.get(_ATTRIBUTE)
        if hook is None:
            hook = kept.setdefault(_ATTRIBUTE, cls(condition))  # atomic: two threads get the same one
        elif hook._generation != forks.current:
            hook = kept[_ATTRIBUTE] = cls(condition)  # those who listened stayed in the parent
        return hook

    @staticmethod
    def works_on(condition: object) -> bool:
        """Whether *condition* is of the kind this was made for."""
        return (
            isinstance(condition, threading.Condition)
            and type(condition).notify is threading.Condition.notify
            and hasattr(getattr(condition, "_waiters", None), "append")
            and _passes_wakeups_on()
        )

    def arm(self) -> None:
        """See to it that the next ``notify`` is heard. It takes the entry out, so arm again *before* looking again."""
        entry = self._entry
        if entry is None or entry.spent:
            entry = _Entry(self)
            # In this order: an entry that is known, but stands nowhere, would be trusted in vain. Two threads that
            # come here at once leave two entries, and the next notify tells twice.
            self._waiters.append(entry)
            self._entry = entry

    def unsubscribe(self, token: object) -> None:
        """End a subscription. The last one to go takes the entry along, where that can be done at once."""
        self._subscribers.pop(token, None)
        if (self._waiters and not self._subscribers) or (self._leaving and token in self._leaving):
            self._take_out(token)

    def _take_out(self, token: object) -> None:
        owned = getattr(self._lock, "_is_owned", None)
        if owned is not None and owned() and token not in self._leaving:
            return  # a signal handler within a notify() of its own thread must not take out what that looks at
        # Taking the lock, and giving it back, is each one call from C that leaves its mark: Ctrl-C falls before or after
        # it, and the next call with this token goes on with the lock, or begins again without it.
        steps = self._leaving.setdefault(token, [])
        if len(steps) != 1:
            steps.clear()
            steps.extend(map(self._lock.acquire, (False,)))
        if steps == [True]:
            try:
                for entry in self._waiters.copy():
                    if isinstance(entry, _Entry):
                        self._waiters.remove(entry)
                if self._entry is not None:
                    self._entry.spent = True
                if self._subscribers:  # somebody has come meanwhile, and found the entry that was just taken out
                    self.arm()
            finally:
                steps.extend(map(call, (self._lock.release,)))
        del self._leaving[token]


class _Entry:
    """Stands among the waiters of a condition, until one ``notify``."""

    __slots__ = ("_hook", "spent")

    def __init__(self, hook: ConditionHook) -> None:
        self._hook = hook
        self.spent = False

    def release(self) -> None:
        """Called by ``notify``, under the condition's lock."""
        self.spent = True
        hook = self._hook
        for wake in hook._subscribers.copy().values():
            wake()
        if len(hook._waiters) > 1:
            for other in hook._waiters.copy():
                if type(other) is not _Entry:
                    raise RuntimeError("not a waiter: pass this wake-up on")


_passes_on: bool | None = None


def _passes_wakeups_on() -> bool:
    """Try once, on this interpreter, what :class:`ConditionHook` relies on."""
    global _passes_on
    if _passes_on is None:
        condition: Any = threading.Condition()
        heard: list[str] = []
        hook = ConditionHook(condition)
        hook.subscribe(lambda: heard.append("hook"))

        class Waiter:
            def release(self) -> None:
                heard.append("waiter")

        try:
            hook.arm()
            condition._waiters.append(Waiter())
            with condition:
                condition.notify()
            hook.arm()
            with condition:
                condition.notify()
            _passes_on = heard == ["hook", "waiter", "hook"] and not condition._waiters
        except (AttributeError, RuntimeError, TypeError):
            _passes_on = False
    return _passes_on
