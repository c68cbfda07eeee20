"""A process that is ready, as a condition: what ``ready=`` says, about this process, with what it wrote in its errors."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from waitkit.conditions.combined import PassingWatch
from waitkit.conditions.condition import Condition, as_condition
from waitkit.conditions.sources import describe_callable
from waitkit.engine.background import CannotStart, start_thread
from waitkit.engine.clock import now as clock_now
from waitkit.engine.parking import Parker
from waitkit.engine.signals import Wake
from waitkit.ground.callables import kind_of, python_function
from waitkit.ground.durations import MILLISECOND, Nanoseconds, format_duration
from waitkit.ports.sockets import Socket
from waitkit.processes.notifications import Notifications, ready_notified
from waitkit.processes.output import Output
from waitkit.processes.ready_function import AsFunctionSays
from waitkit.processes.subjects import AboutProcess, Subject
from waitkit.waits.watching import NOT_YET, Context, Verdict, Watch

if TYPE_CHECKING:
    from waitkit.processes.managed import ManagedProcess

__all__ = ["About", "Ready", "ReadyWhen", "check_ready", "resolve", "wants_notifications"]

#: What ``ready=`` has become when it was checked.
ReadyWhen = Condition[Any] | Callable[["ManagedProcess"], object] | Literal["event"] | None


class About(Condition[Any]):
    """A condition whose ports, outputs and notifications are those of one process."""

    def __init__(self, inner: Condition[Any], subject: Subject) -> None:
        self._inner = inner
        self._subject = subject

    @property
    def what(self) -> str:
        return self._inner.what

    def watch(self, context: Context) -> Watch:
        return self._inner.watch(AboutProcess(context, self._subject))


class Ready(About):
    """A process that is ready; its errors have *facts* in them, and the end of its output."""

    def __init__(self, inner: Condition[Any], name: str, subject: Subject, facts: Callable[[], Sequence[str]]) -> None:
        super().__init__(inner, subject)
        self._name = name
        self._facts = facts

    @property
    def what(self) -> str:
        return f"{self._name} to be ready: {self._inner.what}"

    def watch(self, context: Context) -> Watch:
        watch = super().watch(context)
        if watch.may_block or watch.calls_user_code:
            watch = _Aside(watch)
        return _ReadyWatch(watch, self._facts)


class _ReadyWatch(PassingWatch):
    __slots__ = ("_facts",)
    outside = True

    def __init__(self, inner: Watch, facts: Callable[[], Sequence[str]]) -> None:
        super().__init__(inner)
        self._facts = facts

    def explain(self) -> Sequence[str]:
        return [*super().explain(), *self._facts()]


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
            start_thread(
                "ready", partial(contextvars.copy_context().run, self._run), otherwise=self._does_not_run_apart
            )
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
        began = self._began
        if began is None or (lasts := clock_now() - began) < 20 * MILLISECOND:
            return self._inner.seen()
        saw = self._inner.seen() if self._looks else ""
        return f"{saw}{', ' if saw else ''}a look has not come back for {format_duration(lasts)}"

    def error(self) -> Exception | None:
        return self._inner.error()

    def explain(self) -> Sequence[str]:
        return self._inner.explain()


def check_ready(ready: object, *, of_callable: bool) -> ReadyWhen:
    """What ``ready=`` says.

    Raises:
        TypeError, ValueError: it says nothing that makes sense.
    """
    if ready is None:
        return None
    if isinstance(ready, str):
        if ready == "notify":
            return ready_notified()
        if ready != "event":
            raise ValueError(
                f'ready={ready!r} is no condition: give one, or "notify", or "event" for a Python callable'
            )
        if not of_callable:
            raise ValueError(
                'ready="event" is for a Python callable; for a program give a condition, such as a port, or "notify"'
            )
        return "event"
    if not isinstance(ready, Condition) and callable(ready) and _takes_the_process(ready):
        kind = kind_of(ready)
        if kind != "plain":
            raise TypeError(
                f"ready={describe_callable(ready)} is a {kind} function: give a plain one that returns a condition"
            )
        return ready
    return as_condition(ready, "ready")


def _takes_the_process(function: Any) -> bool:
    """Whether it has exactly one argument to be given."""
    inner, bound = python_function(function)
    code = getattr(inner, "__code__", None)
    if code is None or bound is None or isinstance(function, type):
        return False
    required = code.co_argcount - len(getattr(inner, "__defaults__", None) or ()) - bound
    return bool(required == 1)


def resolve(ready: ReadyWhen, process: ManagedProcess) -> Condition[Any] | None:
    """The condition that *ready* stands for, now that the process has been started."""
    if not callable(ready):
        assert ready != "event"
        return ready
    return AsFunctionSays(ready, process)


class _Asker:
    """A subject without a process, to find out what a condition would ask it."""

    def __init__(self) -> None:
        self.asked = False

    def pids(self, *, all_of_tree: bool) -> list[int]:
        return []

    def output(self) -> Output | None:
        return None

    def notifications(self) -> Notifications | None:
        self.asked = True
        return None

    def is_to_use(self, port: int) -> None:
        pass

    def listens_at(self, found: Socket) -> None:
        pass


def wants_notifications(ready: ReadyWhen) -> bool:
    """Whether the process needs a socket to notify us by. One whose condition is not known yet may."""
    if ready is None or ready == "event":
        return False
    if callable(ready):
        return True
    asker = _Asker()
    About(ready, asker).watch(Context(clock_now(), None, (), MILLISECOND)).close()
    return asker.asked
