"""Checks that may hang: looked at in a thread of their own, so that the end of the process and the deadline overtake them."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from functools import partial

from waitkit.engine.background import CannotStart, start_thread
from waitkit.engine.clock import now as clock_now
from waitkit.engine.parking import Parker
from waitkit.engine.signals import Wake
from waitkit.ground.durations import MILLISECOND, Nanoseconds, format_duration
from waitkit.waits.watching import NOT_YET, Verdict, Watch

__all__ = ["aside_where_it_may_last", "begin_aside", "has_not_come_back"]


def aside_where_it_may_last(watch: Watch) -> Watch:
    """*watch*, looked at aside where a look may take its time."""
    return _Aside(watch) if watch.may_block or watch.calls_user_code else watch


def begin_aside(check: Callable[[], None], otherwise: Callable[[], None] = lambda: None) -> None:
    """Run *check* in a thread of its own, a daemon, with the caller's context. :class:`CannotStart` where there can be none."""
    start_thread("ready", partial(contextvars.copy_context().run, check), otherwise=otherwise)


def has_not_come_back(began: Nanoseconds | None) -> str:
    """That a look which began then lasts, in words; empty where it is not worth telling."""
    if began is None or (lasts := clock_now() - began) < 20 * MILLISECOND:
        return ""
    return f"a look has not come back for {format_duration(lasts)}"


class _Aside(Watch):
    """Looks in a thread of its own, where a look may take its time: the end of the process and the deadline overtake it.

    A look that never comes back is left to itself; the thread is a daemon, and ends with the look.
    """

    __slots__ = ("_began", "_closed", "_failed", "_inner", "_looks", "_parker", "_runs_apart", "_verdict", "_wake")
    outside = True

    def __init__(self, inner: Watch) -> None:
        self._inner = inner
        self._parker = Parker()
        self._runs_apart = False
        self._wake: Wake | None = None
        self._began: Nanoseconds | None = None
        self._verdict = NOT_YET
        self._failed: BaseException | None = None
        self._looks = 0
        self._closed = False

    def arm(self, wake: Wake) -> None:
        self._wake = wake
        self._runs_apart = True
        try:
            begin_aside(self._run, self._does_not_run_apart)
        except CannotStart:
            self._inner.arm(wake)

    def _does_not_run_apart(self) -> None:
        self._runs_apart = False

    def look(self, now: Nanoseconds) -> Verdict:
        if self._wake is None:
            return NOT_YET
        if not self._runs_apart:
            return self._inner.look(now)
        if self._failed is not None:
            raise self._failed
        return self._verdict._replace(again=None)

    def _run(self) -> None:
        assert self._wake is not None
        try:
            self._inner.arm(self._parker.unpark)
            while not self._closed:
                self._began = clock_now()
                verdict = self._inner.look(self._began)
                self._began = None
                self._looks += 1
                if verdict.holds or verdict.stopped:
                    self._verdict = verdict
                    return
                self._parker.park(verdict.again)
        except BaseException as error:  # noqa: BLE001 - it is raised where the wait is
            self._failed = error
        finally:
            self._inner.close()
            self._wake()

    def close(self) -> None:
        self._closed = True
        if self._runs_apart:
            self._parker.unpark()
        else:
            self._inner.close()

    def seen(self) -> str:
        lasts = has_not_come_back(self._began)
        if not lasts:
            return self._inner.seen()
        saw = self._inner.seen() if self._looks else ""
        return f"{saw}{', ' if saw else ''}{lasts}"

    def error(self) -> Exception | None:
        return self._inner.error()

    def explain(self) -> Sequence[str]:
        return self._inner.explain()
