"""When a process that has died is started again. Pure: instants and chance are handed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import attrs

from waitkit.conditions.processes import ProcessExit
from waitkit.ground.checks import check_callables
from waitkit.ground.durations import Nanoseconds
from waitkit.policies.backoff import Backoff, Chance
from waitkit.policies.gcra import Rate

if TYPE_CHECKING:
    from waitkit.processes.managed import ManagedProcess

__all__ = ["RestartPolicy"]


def _limit(value: str | Rate | None) -> Rate | None:
    if value is None or isinstance(value, Rate):
        return value
    if not isinstance(value, str):
        raise TypeError(f'limit={value!r} is no limit: give "5/min", a Rate, or None')
    try:
        return Rate(value)
    except ValueError as error:
        raise ValueError(f'limit={value!r} is no limit: give "5/min", a Rate, or None ({error})') from None


@attrs.frozen(kw_only=True)
class RestartPolicy:
    """Which deaths of a process are answered by starting it again, after how long, and how often.

    Args:
        when: ``"on_failure"``: where it ended by a signal or with another code than 0, or was not ready after a restart, however
            that ended. ``"always"``: however it ended by itself. What :meth:`ManagedProcess.stop` ends is never started again.
        backoff: the delay before each restart, by the number of restarts within the period of *limit*. A server that has found
            its port in ``TIME_WAIT``, because it does not set ``SO_REUSEADDR``, would find it so again: the restarts after
            that wait until the port is free, for a minute at most, and no longer than that period or the maximum of the backoff.
        limit: at most so many restarts in any such period, such as ``"5/min"``; the next death is the last. ``None``: no limit.
        on_restart: called with the process and how it had ended, a :class:`ProcessExit`, when it is ready again.
        on_give_up: called with the process and how it ended last, when it is not started again though it failed: too many
            restarts, or something that no restart mends, such as a port that is not given up.

    Callbacks are called in the thread that supervises all processes, so they should be quick. What they raise is logged.

    Raises:
        TypeError, ValueError: an argument cannot be what it should be.
    """

    when: Literal["on_failure", "always"] = "on_failure"
    backoff: Backoff = attrs.field(factory=Backoff)
    limit: Rate | None = attrs.field(default="5/min", converter=_limit)  # type: ignore[assignment]
    on_restart: Callable[[ManagedProcess, ProcessExit], Any] | None = None
    on_give_up: Callable[[ManagedProcess, ProcessExit], Any] | None = None

    def __attrs_post_init__(self) -> None:
        if self.when not in ("on_failure", "always"):
            raise ValueError(f'when={self.when!r} is none: give "on_failure" or "always"')
        if not isinstance(self.backoff, Backoff):
            raise TypeError(f"backoff={self.backoff!r} is none: give Backoff(...)")
        hint = ": give a function of the process and its ProcessExit"
        check_callables(hint, on_restart=self.on_restart, on_give_up=self.on_give_up)

    def answers(self, code: int | None) -> bool:
        """Whether an end with this exit code is answered by a restart."""
        return self.when == "always" or code != 0

    def recent(self, restarts: Sequence[Nanoseconds], now: Nanoseconds) -> list[Nanoseconds]:
        """Those of the instants of earlier restarts that count now."""
        if self.limit is None:
            return list(restarts[-1_000:])
        return [instant for instant in restarts if instant > now - self.limit.period]

    def delay(self, recent: Sequence[Nanoseconds], chance: Chance, previous: Nanoseconds) -> Nanoseconds | None:
        """How long to wait before the next restart; ``None`` where there were too many."""
        if self.limit is not None and len(recent) >= self.limit.count:
            return None
        return self.backoff.delay(len(recent) + 1, chance, previous)

    @property
    def patience(self) -> Nanoseconds:
        """How long to put off a restart that is sure to fail until then: so long that it is not given up meanwhile."""
        return max(self.backoff.max_delay, 0 if self.limit is None else self.limit.period)


RestartPolicy.__module__ = "waitkit"
