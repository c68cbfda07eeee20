"""The end of a thread as a condition, by a hook in the place of the last Python method that a thread calls."""

from __future__ import annotations

import threading
import weakref
from typing import Final

from waitkit.conditions.condition import Condition
from waitkit.engine.signals import Signal, Wake
from waitkit.ground.durations import MICROSECOND, Nanoseconds
from waitkit.waits.watching import Context, Verdict, Watch

__all__ = ["ThreadEnded", "ThreadEnding"]


class ThreadEnded(Condition[threading.Thread]):
    """A :class:`threading.Thread` that has run and ended; its value is the thread. One not yet started has not ended."""

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread

    @property
    def what(self) -> str:
        return f"thread {self._thread.name!r} to end"

    def watch(self, context: Context) -> Watch:
        return _ThreadWatch(self._thread, context)


#: Between the last Python code of a thread and its end lie some microseconds for which there is no hook.
_SETTLING: Final = 50 * MICROSECOND


class _ThreadWatch(Watch):
    __slots__ = ("_context", "_ending", "_leaving_since", "_thread")

    def __init__(self, thread: threading.Thread, context: Context) -> None:
        self._thread = thread
        self._context = context
        self._ending: ThreadEnding | None = None
        self._leaving_since: Nanoseconds | None = None

    def arm(self, wake: Wake) -> None:
        self._ending = ThreadEnding.of(self._thread)
        if self._ending is not None:
            self._ending.signal.subscribe(wake, self)

    def look(self, now: Nanoseconds) -> Verdict:
        thread = self._thread
        ending = self._ending
        leaving = ending is not None and (ending.begun or threading._active.get(thread.ident) is not thread)  # type: ignore[attr-defined]
        if thread.ident is not None and not thread.is_alive():
            return Verdict(True, thread)
        if thread.ident is not None and leaving:
            if self._leaving_since is None:
                self._leaving_since = now
            # Some microseconds as a rule. The main thread may leave for long: its executors are joined first.
            return Verdict(False, None, now + max(_SETTLING, (now - self._leaving_since) // 20))
        return Verdict(False, None, None if ending is not None else self._context.next_look(now))

    def close(self) -> None:
        if self._ending is not None:
            self._ending.signal.unsubscribe(self)

    def seen(self) -> str:
        return "still running" if self._thread.is_alive() else "not started" if self._thread.ident is None else ""


class ThreadEnding:
    """Put in the place of a thread's ``_delete``, the last Python method a thread calls (3.11 to 3.14).

    The main thread never calls it; what ``threading`` itself calls before it declares the main thread ended is used there.
    Threads that were not started by ``threading`` (``_DummyThread``) call neither, and a ``Thread`` class without these
    cannot be hooked: those are looked at from time to time.
    """

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = weakref.ref(thread)
        self.begun = False
        self.signal = Signal()

    def __call__(self) -> None:
        thread = self._thread()
        try:
            if thread is not None:
                type(thread)._delete(thread)  # type: ignore[attr-defined]
        finally:
            self.begin()

    def begin(self) -> None:
        """The thread has nothing left to do but to end."""
        self.begun = True
        self.signal.notify()

    @classmethod
    def begins_in(cls, thread: threading.Thread) -> None:
        """Tell those who wait for *thread* now that it ends; they are told again where it ends by itself."""
        hook = thread.__dict__.get("_delete")
        if isinstance(hook, cls):
            hook.begin()

    @classmethod
    def of(cls, thread: threading.Thread) -> ThreadEnding | None:
        """The hook of *thread*, one for all who wait for it; ``None`` where there can be none."""
        if thread is threading.main_thread():
            return cls._of_main(thread)
        if not hasattr(type(thread), "_delete") or isinstance(thread, threading._DummyThread):
            return None
        hook = thread.__dict__.setdefault("_delete", cls(thread))  # atomic: two threads get the same one
        return hook if isinstance(hook, cls) else None

    @classmethod
    def _of_main(cls, thread: threading.Thread) -> ThreadEnding | None:
        known: ThreadEnding | None = thread.__dict__.get(_MAIN_ENDING)
        if known is not None:
            return known
        ending = cls(thread)
        try:
            threading._register_atexit(ending.begin)  # type: ignore[attr-defined]
        except AttributeError:
            return None
        except RuntimeError:  # it is leaving already
            ending.begun = True
        # Of two threads that come here at once, both are registered, and one is used.
        hook: ThreadEnding = thread.__dict__.setdefault(_MAIN_ENDING, ending)
        return hook


#: Under this name the main thread keeps its hook.
_MAIN_ENDING: Final = "_waitkit_ending"
