"""A process that is ready, as a condition: what ``ready=`` says, about this process, with what it wrote in its errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from waitkit.conditions.combined import PassingWatch
from waitkit.conditions.condition import Condition, as_condition
from waitkit.conditions.sources import describe_callable
from waitkit.engine.clock import now as clock_now
from waitkit.ground.callables import kind_of, python_function
from waitkit.ground.durations import MILLISECOND
from waitkit.ports.sockets import Socket
from waitkit.processes.aside import aside_where_it_may_last
from waitkit.processes.notifications import Notifications, ready_notified
from waitkit.processes.output import Output
from waitkit.processes.ready_function import AsFunctionSays
from waitkit.processes.subjects import AboutProcess, Subject
from waitkit.waits.watching import Context, Watch

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
        return _ReadyWatch(aside_where_it_may_last(super().watch(context)), self._facts)


class _ReadyWatch(PassingWatch):
    __slots__ = ("_facts",)
    outside = True

    def __init__(self, inner: Watch, facts: Callable[[], Sequence[str]]) -> None:
        super().__init__(inner)
        self._facts = facts

    def explain(self) -> Sequence[str]:
        return [*super().explain(), *self._facts()]


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
