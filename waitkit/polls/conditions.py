"""What can be awaited of a poller: that it has stopped, that it has run so many times."""

from __future__ import annotations

from typing import Protocol

from waitkit.conditions.condition import Condition
from waitkit.engine.signals import Signal, Wake
from waitkit.ground.durations import Nanoseconds
from waitkit.polls.history import History
from waitkit.polls.records import PollerState, PollerStatus
from waitkit.waits.watching import NOT_YET, Context, Verdict, Watch

__all__ = ["Ended", "HasRun", "Observable", "Stopped"]


class Observable(Protocol):
    """What these conditions ask of a poller."""

    history: History

    @property
    def changed(self) -> Signal: ...
    @property
    def name(self) -> str: ...
    @property
    def state(self) -> PollerState: ...
    @property
    def ended(self) -> bool: ...
    def status(self) -> PollerStatus: ...
    def what_it_does(self) -> str: ...


class _OfPoller(Condition[PollerStatus]):
    def __init__(self, machine: Observable) -> None:
        self.machine = machine

    def holds(self) -> bool:
        raise NotImplementedError

    def watch(self, context: Context) -> Watch:
        return _PollerWatch(self)


class Stopped(_OfPoller):
    """A poller that has stopped."""

    @property
    def what(self) -> str:
        return f"the poller {self.machine.name} to stop"

    def holds(self) -> bool:
        return self.machine.state == "stopped"


class Ended(Stopped):
    """A poller that has stopped and put away all it had."""

    def holds(self) -> bool:
        return self.machine.ended


class HasRun(_OfPoller):
    """A poller that has completed so many runs."""

    def __init__(self, machine: Observable, times: int) -> None:
        super().__init__(machine)
        self.times = times

    @property
    def what(self) -> str:
        return f"the poller {self.machine.name} to have run {'once' if self.times == 1 else f'{self.times} times'}"

    def holds(self) -> bool:
        return self.machine.history.runs >= self.times


class _PollerWatch(Watch):
    __slots__ = ("_condition", "_token")

    def __init__(self, condition: _OfPoller) -> None:
        self._condition = condition
        self._token: object = None

    def arm(self, wake: Wake) -> None:
        self._token = self._condition.machine.changed.subscribe(wake)

    def look(self, now: Nanoseconds) -> Verdict:
        return Verdict(True, self._condition.machine.status()) if self._condition.holds() else NOT_YET

    def close(self) -> None:
        self._condition.machine.changed.unsubscribe(self._token)

    def seen(self) -> str:
        return self._condition.machine.what_it_does()
