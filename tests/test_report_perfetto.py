"""The trace of the wait report, in Perfetto's own viewer in a real browser."""

from __future__ import annotations

import asyncio

import pytest
from browser import NEEDS_BROWSER, ask_perfetto, perfetto
from report_rows import ROWS, mixed
from support import until

from waitkit import after, recording, wait_for, wait_for_async
from waitkit.ground.durations import SECOND
from waitkit.report.trace import write_trace

pytestmark = [*NEEDS_BROWSER, pytest.mark.slow]

SLICES = """
    select s.name, s.ts, s.dur, t.name, extract_arg(s.arg_set_id, 'args.outcome'), extract_arg(s.arg_set_id, 'args.looks')
    from slice s join thread_track on s.track_id = thread_track.id join thread t using(utid)
    order by s.ts, s.name, t.name
"""


def opened_by_perfetto(driver, path, sql=SLICES):
    """What Perfetto tells of a trace, its slices by default, after it has complained of nothing."""
    with perfetto(path) as address:
        driver.get(address)
        until(lambda: driver.execute_script("return !!(globalThis.app && app.trace && app.trace.engine)"), "Perfetto")
        assert ask_perfetto(driver, "select name, value from stats where severity != 'info' and value > 0") == []
        found = ask_perfetto(driver, sql)
        driver.get("about:blank")
    return found


def test_perfetto_opens_the_trace(browser, tmp_path):
    """Perfetto's own viewer shows each wait, with its times to the microsecond, its thread, and what else was noted."""
    path = tmp_path / "waits.json"
    write_trace(ROWS, path)
    zero = min(one["start"] for one in ROWS)
    expected = [
        [one["what"], one["start"] - zero, one["end"] - one["start"], one["thread"], one["outcome"], one["looks"]]
        for one in ROWS
    ]
    assert opened_by_perfetto(browser, path) == sorted(expected, key=lambda one: (one[1], one[0], one[3]))


def test_perfetto_opens_a_recording(browser, tmp_path):
    """So it does with what a program has recorded, waits at the same time among them."""
    path = tmp_path / "recorded.json"

    async def several():
        await asyncio.gather(*(wait_for_async(after(f"{n}ms"), message=f"{n} ms") for n in (2, 3, 4)))

    with recording(path):
        wait_for(after("1ms"), message="alone")
        asyncio.run(several())
    found = opened_by_perfetto(browser, path)
    assert sorted(name for name, *_ in found) == ["2 ms", "3 ms", "4 ms", "alone"]
    assert all(duration >= 1_000_000 for _, _, duration, *_ in found)


def test_perfetto_shows_virtual_clocks_as_processes(browser, tmp_path):
    """Perfetto's own viewer has a process for each clock, with its waits from 0."""
    write_trace(mixed(), tmp_path / "waits.json")
    sql = """
        select process.name, s.name, s.ts, s.dur from slice s join thread_track on s.track_id = thread_track.id
        join thread using(utid) join process using(upid) order by process.name, s.ts
    """
    assert opened_by_perfetto(browser, tmp_path / "waits.json", sql) == [
        ["gw1", "another real thing", SECOND // 2, SECOND // 10],
        ["main", "a real thing", 0, SECOND * 4 // 10],
        ["virtual time of t.py::test_a", "a minute", 0, 60 * SECOND],
        ["virtual time of t.py::test_a", "half a minute", 60 * SECOND, 30 * SECOND],
        ["virtual time of t.py::test_b", "an hour", 0, 3600 * SECOND],
        ["virtual time, in gw1", "a moment", 0, SECOND // 1000],
    ]
