"""Defaults: the timeout where none is given, and how often a probed condition is looked at."""

from __future__ import annotations

import asyncio
import threading

import pytest
from support import Running

from waitkit import CancelScope, WaitTimeout, defaults, fail_after, set_defaults, wait_for
from waitkit.engine.clock import now


def limit_of_a_wait(**arguments):
    """The limit, in seconds, that a wait which never holds got."""
    with pytest.raises(WaitTimeout) as caught:
        wait_for(lambda: False, **arguments)
    return caught.value.facts.limit


def test_ten_seconds_unless_told_otherwise(virtual):
    """A wait that gives no timeout has ten seconds."""
    assert limit_of_a_wait() == 10


def test_set_defaults_holds_for_the_process(virtual):
    """A process-wide default holds in every thread, and what is left out stays."""
    set_defaults(timeout="3s")
    set_defaults(probe_cap="1s")
    assert limit_of_a_wait() == 3
    assert Running(limit_of_a_wait).result() == 3


def test_defaults_hold_inside_their_block_only(virtual):
    """The innermost block counts; leaving it, by an exception too, restores the one before."""
    with defaults(timeout="4s"):
        with pytest.raises(ZeroDivisionError), defaults(timeout="2s"):
            assert limit_of_a_wait() == 2
            raise ZeroDivisionError
        assert limit_of_a_wait() == 4
        assert limit_of_a_wait(timeout="1s") == 1
        assert Running(limit_of_a_wait).result() == 10
    assert limit_of_a_wait() == 10


def test_defaults_of_a_task_are_its_own(virtual):
    """Two tasks that interleave do not see each other's defaults."""

    async def task(timeout, mine, other):
        with defaults(timeout=timeout):
            mine.set()
            await other.wait()
            return limit_of_a_wait()

    async def main():
        one, two = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(task(1, one, two), task(2, two, one))

    assert asyncio.run(main()) == [1, 2]


def test_the_default_gives_way_to_a_scope_with_a_deadline(virtual):
    """Inside a scope with a deadline the default does not apply; inside one without, it does."""
    with pytest.raises(WaitTimeout) as caught, fail_after("30s"):
        wait_for(lambda: False)
    assert caught.value.facts.limit == 30
    with CancelScope():
        assert limit_of_a_wait() == 10


@pytest.mark.parametrize(("scale", "limit"), [("2.5", 25), ("0.5", 5), ("", 10), ("1e2", 1000), (" 3 ", 30)])
def test_scale_stretches_the_default(virtual, monkeypatch, scale, limit):
    """WAITKIT_TIMEOUT_SCALE multiplies the default, and never what is given explicitly."""
    monkeypatch.setenv("WAITKIT_TIMEOUT_SCALE", scale)
    assert limit_of_a_wait() == limit
    assert limit_of_a_wait(timeout=7) == 7
    with pytest.raises(WaitTimeout) as caught, fail_after("8s"):
        wait_for(lambda: False)
    assert caught.value.facts.limit == 8


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "inf", "1e999", "fast", "1,5", " "])
def test_a_bad_scale_is_refused_by_name(monkeypatch, scale):
    """A scale that is no number above 0 is refused by the first wait that would use it, with variable and value."""
    monkeypatch.setenv("WAITKIT_TIMEOUT_SCALE", scale)
    with pytest.raises(ValueError, match="WAITKIT_TIMEOUT_SCALE=.* is not a number above 0") as caught:
        wait_for(lambda: True)
    assert repr(scale) in str(caught.value)
    assert wait_for(lambda: 5, 1) == 5


def test_a_scale_beyond_reason_is_refused_by_name(monkeypatch):
    """A scale that takes the default beyond every number is refused like any other."""
    monkeypatch.setenv("WAITKIT_TIMEOUT_SCALE", "1e300")
    with pytest.raises(ValueError, match="WAITKIT_TIMEOUT_SCALE"):
        wait_for(lambda: True)


def test_no_default_means_no_limit():
    """With a default of None a wait has no limit; only its condition ends it."""
    ready = threading.Event()
    records = []

    def waits():
        with defaults(timeout=None):
            wait_for(lambda: records.append(1) or ready.is_set())

    waiting = Running(waits)
    wait_for(lambda: len(records) > 20)
    assert waiting.thread.is_alive()
    ready.set()
    waiting.result()


def test_probe_cap_is_the_longest_gap(virtual):
    """However long a wait goes on, no gap is longer than the cap in force."""
    for cap, expected in (("20ms", 20_000_000), ("2s", 2_000_000_000), (None, 250_000_000)):
        looks = []
        with defaults(**({} if cap is None else {"probe_cap": cap})), pytest.raises(WaitTimeout):
            wait_for(lambda looks=looks: looks.append(now()), "5m")
        assert max(b - a for a, b in zip(looks, looks[1:], strict=False)) == expected


def test_a_cap_below_a_millisecond_is_refused():
    """A gap that would be a busy loop is refused, with its value."""
    with pytest.raises(ValueError, match="probe_cap='999us' is below 1 ms"):
        set_defaults(probe_cap="999us")
    with pytest.raises(ValueError, match="probe_cap=0 "), defaults(probe_cap=0):
        pass
