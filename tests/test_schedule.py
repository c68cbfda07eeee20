"""When a periodic function runs next: the policy alone, with instants and chance handed in."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitkit import Backoff
from waitkit.policies.schedule import Schedule, Tick, read_schedule

S = 1_000_000_000
MS = 1_000_000

#: How long after its due time a run begins, and how long it takes.
RUNS = st.lists(st.tuples(st.integers(0, 3 * S), st.integers(0, 5 * S)), min_size=1, max_size=30)
INTERVALS = st.integers(1, 2 * S)


def schedule(**options: object) -> Schedule:
    """A schedule of what a user writes, the rest left out."""
    defaults = {"error_interval": None, "first_delay": None, "timing": "fixed_delay", "missed": "skip"}
    return read_schedule(**{"interval": 1, **defaults, "jitter": None, "stagger": False, **options})


def played(plan: Schedule, runs: list[tuple[int, int]], seed: int = 0) -> list[tuple[Tick, int, int]]:
    """The ticks of a script, each with the beginning and the end of its run."""
    chance = random.Random(seed).random
    tick, free, found = plan.first(0, chance), 0, []
    for late, long in runs:
        begun = max(tick.due, free) + late
        free = begun + long
        found.append((tick, begun, free))
        tick = plan.after_run(tick, begun, free, 0, chance)
    return [*found, (tick, 0, 0)]


@given(runs=RUNS, interval=INTERVALS)
def test_fixed_delay(runs, interval):
    """With a fixed delay each tick is one interval after the end of the run before."""
    history = played(Schedule(interval=interval), runs)
    for (_, _, ended), (following, _, _) in zip(history, history[1:], strict=False):
        assert following.due == ended + interval


@given(runs=RUNS, interval=INTERVALS)
def test_skip_stays_on_the_grid(runs, interval):
    """At a fixed rate with "skip" every tick lies on the grid, and is the first one after the beginning of the run before."""
    history = played(Schedule(interval=interval, timing="fixed_rate"), runs)
    for (_, begun, _), (following, _, _) in zip(history, history[1:], strict=False):
        assert following.at % interval == 0
        assert begun < following.at <= begun + interval


@given(runs=RUNS, interval=INTERVALS)
def test_burst_misses_none(runs, interval):
    """At a fixed rate with "burst" the ticks are all those of the grid, in order, however late the runs are."""
    history = played(Schedule(interval=interval, timing="fixed_rate", missed="burst"), runs)
    assert [tick.at for tick, _, _ in history] == [number * interval for number in range(len(history))]


@given(runs=RUNS, interval=st.integers(6 * MS, 2 * S))
def test_delay_keeps_the_distance(runs, interval):
    """At a fixed rate with "delay" two runs never begin closer than an interval, less the 5 ms that are no lateness."""
    history = played(Schedule(interval=interval, timing="fixed_rate", missed="delay"), runs)
    begins = [begun for _, begun, _ in history[:-1]]
    assert all(later - earlier >= interval - 5 * MS for earlier, later in zip(begins, begins[1:], strict=False))


@given(runs=RUNS, interval=INTERVALS, share=st.floats(0, 0.99), seed=st.integers(0, 9))
def test_jitter_does_not_add_up(runs, interval, share, seed):
    """At a fixed rate jitter moves each run by less than itself, and the grid not at all."""
    jitter = round(interval * share)
    history = played(Schedule(interval=interval, timing="fixed_rate", jitter=jitter), runs, seed)
    for tick, _, _ in history:
        assert 0 <= tick.due - tick.at <= jitter
        assert tick.at % interval == 0


@pytest.mark.slow
def test_no_drift_over_a_million_ticks():
    """At a fixed rate of a third of a second a million ticks on time end exactly a million intervals later."""
    plan = schedule(interval="333333333ns", timing="fixed_rate")
    tick = plan.first(0, random.random)
    for _ in range(1_000_000):
        tick = plan.after_run(tick, tick.due, tick.due + MS, 0, random.random)
    assert tick.at == 333_333_333 * 1_000_000


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("skip", [10, 11, 12]),
        ("burst", [2, 3, 4]),
        ("delay", [10.5, 11.5, 12.5]),
    ],
)
def test_after_a_suspend(missed, expected):
    """A machine that slept from 1 to 9.5 makes one run at once; then each policy goes on in its way."""
    plan = schedule(timing="fixed_rate", missed=missed)
    tick = Tick(1 * S, 1 * S, 0, True)
    begun, found = round(9.5 * S), []
    for _ in range(3):
        tick = plan.after_run(tick, begun, begun, 0, random.random)
        found.append(tick.at / S)
        begun = max(begun, tick.due)
    assert found == expected


def test_errors_have_their_own_interval():
    """After a failed run the next is due an error interval after its end; after a success the grid is taken up again."""
    plan = schedule(interval=10, error_interval=3, timing="fixed_rate")
    first = plan.first(0, random.random)
    failed = plan.after_run(first, 0, 1 * S, 1, random.random)
    assert failed.due == 4 * S
    assert plan.after_run(failed, 4 * S, 5 * S, 0, random.random).due == 10 * S


def test_error_intervals_grow():
    """With a Backoff the error interval grows with the failures in a row."""
    plan = schedule(interval=1, error_interval=Backoff(base=2, factor=2, max_delay=60, jitter="none"))
    tick, delays = plan.first(0, random.random), []
    for failures in range(1, 8):
        tick = plan.after_run(tick, 0, 0, failures, random.random)
        delays.append(tick.due // S)
    assert delays == [2, 4, 8, 16, 32, 60, 60]


def test_decorrelated_error_intervals_know_the_one_before():
    """A decorrelated Backoff draws from up to three times the delay before."""
    plan = schedule(error_interval=Backoff(base=1, max_delay=100, jitter="decorrelated"))
    tick = plan.first(0, random.random)
    tick = plan.after_run(tick, 0, 0, 1, lambda: 0.999)
    assert plan.after_run(tick, 0, 0, 2, lambda: 0.999).due > 2 * tick.due


@pytest.mark.parametrize("missed", ["skip", "burst", "delay"])
def test_a_triggered_run_takes_nothing_from_the_grid(missed):
    """At a fixed rate a run that was triggered in between leaves the pending tick where it is."""
    plan = schedule(timing="fixed_rate", missed=missed)
    pending = Tick(5 * S, 5 * S, 0, True)
    assert plan.after_run(pending, 4 * S, 4 * S + MS, 0, random.random, triggered=True) == pending


def test_stagger_spreads_evenly():
    """A hundred staggered pollers begin in all parts of the interval: no gap is wider than three of a hundred equal ones."""
    plan = schedule(interval=1, stagger=True)
    firsts = sorted(plan.first(0, random.random, position).due for position in range(100))
    gaps = [later - earlier for earlier, later in zip(firsts, [*firsts[1:], firsts[0] + S], strict=True)]
    assert max(gaps) <= 3 * S // 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interval": 0}, "interval=0 would leave no time"),
        ({"interval": "1 fortnight"}, "interval='1 fortnight'"),
        ({"timing": "cron"}, "timing='cron' is neither"),
        ({"missed": "all"}, "missed='all' is none of"),
        ({"missed": "burst"}, "needs timing='fixed_rate'"),
        ({"jitter": 2, "timing": "fixed_rate"}, "jitter=2 reaches beyond"),
        ({"jitter": -1}, "jitter=-1"),
        ({"first_delay": "soon"}, "first_delay='soon'"),
        ({"error_interval": 0}, "error_interval=0 would run"),
        ({"error_interval": []}, r"error_interval=\[\]"),
        ({"stagger": 1}, "stagger=1"),
    ],
)
def test_bad_options(options, message):
    """What no schedule can be made of is refused, with the value."""
    with pytest.raises((TypeError, ValueError), match=message):
        schedule(**options)
