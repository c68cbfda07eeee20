"""When a periodic function runs next. Pure: instants and chance are handed in, no clock is read."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import attrs

from waitkit.ground.checks import check_bool
from waitkit.ground.durations import MILLISECOND, Duration, Nanoseconds, format_duration, to_nanoseconds
from waitkit.policies.backoff import Backoff, Chance

__all__ = ["Missed", "Schedule", "Tick", "Timing", "read_schedule"]

#: What the interval is counted from: the end of the run before, or a grid.
Timing: TypeAlias = Literal["fixed_delay", "fixed_rate"]
#: What becomes of the ticks of a grid that a run, or a process that was stopped, has missed: the names are those of Tokio.
Missed: TypeAlias = Literal["skip", "delay", "burst"]

# As in Tokio: who comes so little late has met its tick.
_TOLERANCE: Final = 5 * MILLISECOND
# The fractional part of the golden ratio: its multiples, modulo 1, are spread evenly, however many there are.
_GOLDEN: Final = 0.618_033_988_749_894_9


# Half the price of Tick(...), as it is made for each run of thousands of pollers.
_new: Final = tuple.__new__


class Tick(NamedTuple):
    """An instant at which a run is wanted.

    Attributes:
        at: the instant itself. Jitter is not in it, so it does not add up.
        due: when the run begins at the earliest: *at*, and the jitter.
        origin: the instant the grid is counted from.
        on_grid: whether *at* is an instant of the grid.
        backoff: the delay that led here, where a failed run did.
    """

    at: Nanoseconds
    due: Nanoseconds
    origin: Nanoseconds
    on_grid: bool
    backoff: Nanoseconds = 0


@attrs.frozen(kw_only=True)
class Schedule:
    """When runs follow one another. All durations are nanoseconds; :func:`read_schedule` makes one of what users write."""

    interval: Nanoseconds
    error_interval: Nanoseconds | Backoff | None = None
    first_delay: Nanoseconds = 0
    timing: Timing = "fixed_delay"
    missed: Missed = "skip"
    jitter: Nanoseconds = 0
    stagger: bool = False

    def first(self, start: Nanoseconds, chance: Chance, position: int = 0) -> Tick:
        """The first tick.

        Args:
            start: the instant of the start.
            chance: draws from [0, 1).
            position: how many were started before, for ``stagger``: each gets another phase of the interval.
        """
        at = start + self.first_delay
        if self.stagger:
            at += round(position * _GOLDEN % 1 * self.interval)
        return self._tick(at, at, True, chance)

    def after_run(
        self,
        tick: Tick,
        begun: Nanoseconds,
        ended: Nanoseconds,
        failures: int,
        chance: Chance,
        *,
        triggered: bool = False,
    ) -> Tick:
        """The tick that follows a run.

        Args:
            tick: the one that was pending when the run began.
            begun: when it began.
            ended: when it ended.
            failures: how many runs in a row have failed, this one included; 0 after a success.
            chance: draws from [0, 1).
            triggered: whether something else than *tick* has caused the run.
        """
        if failures and self.error_interval is not None:
            delay = self._error_delay(failures, tick.backoff, chance)
            return self._tick(ended + delay, tick.origin, False, chance, delay)
        if self.timing == "fixed_delay":
            at = ended + self.interval
            if self.jitter:
                return self._tick(at, tick.origin, False, chance)
            return _new(Tick, (at, at, tick.origin, False, 0))
        if triggered and tick.on_grid:
            return tick  # a run in between takes nothing from the grid
        origin = tick.origin
        if self.missed == "delay" and (not tick.on_grid or begun - tick.due > _TOLERANCE):
            origin = begun
            at = begun + self.interval
        elif tick.on_grid and self.missed != "skip":
            at = tick.at + self.interval
        else:
            at = self._next_on_grid(origin, begun)
        return self._tick(at, origin, True, chance)

    def _next_on_grid(self, origin: Nanoseconds, instant: Nanoseconds) -> Nanoseconds:
        return origin + max(0, (instant - origin) // self.interval + 1) * self.interval

    def _error_delay(self, failures: int, previous: Nanoseconds, chance: Chance) -> Nanoseconds:
        if isinstance(self.error_interval, Backoff):
            return self.error_interval.delay(failures, chance, previous)
        assert self.error_interval is not None
        return self.error_interval

    def _tick(
        self, at: Nanoseconds, origin: Nanoseconds, on_grid: bool, chance: Chance, backoff: Nanoseconds = 0
    ) -> Tick:
        due = at + round(chance() * self.jitter) if self.jitter else at
        return _new(Tick, (at, due, origin, on_grid, backoff))


def read_schedule(
    interval: Duration,
    *,
    error_interval: Duration | Backoff | None,
    first_delay: Duration | None,
    timing: Timing,
    missed: Missed,
    jitter: Duration | None,
    stagger: bool,
) -> Schedule:
    """Make a schedule of what a user has written; the meaning is that of :func:`waitkit.polls_every`.

    Raises:
        TypeError, ValueError: an argument cannot be what it should be.
    """
    every = to_nanoseconds(interval, "interval")
    if every == 0:
        raise ValueError(f"interval={interval!r} would leave no time between two runs: give more than 0")
    if timing not in get_args(Timing):
        raise ValueError(f"timing={timing!r} is neither 'fixed_delay' nor 'fixed_rate'")
    if missed not in get_args(Missed):
        raise ValueError(f"missed={missed!r} is none of {', '.join(map(repr, get_args(Missed)))}")
    if missed != "skip" and timing == "fixed_delay":
        raise ValueError(f"missed={missed!r} needs timing='fixed_rate': with a fixed delay no tick is ever missed")
    check_bool(stagger, "stagger")
    spread = 0 if jitter is None else to_nanoseconds(jitter, "jitter")
    if timing == "fixed_rate" and spread >= every:
        raise ValueError(
            f"jitter={jitter!r} reaches beyond the next tick: give less than the interval, {format_duration(every)}"
        )
    return Schedule(
        interval=every,
        error_interval=_read_error_interval(error_interval),
        first_delay=0 if first_delay is None else to_nanoseconds(first_delay, "first_delay"),
        timing=timing,
        missed=missed,
        jitter=spread,
        stagger=stagger,
    )


def _read_error_interval(error_interval: Duration | Backoff | None) -> Nanoseconds | Backoff | None:
    if error_interval is None or isinstance(error_interval, Backoff):
        return error_interval
    delay = to_nanoseconds(error_interval, "error_interval")
    if delay == 0:
        raise ValueError(
            f"error_interval={error_interval!r} would run what fails without a pause: give more than 0, or a Backoff"
        )
    return delay
