"""Times of a report: real time is one axis, and each virtual clock has its own, with a begin of its own."""

from __future__ import annotations

import json

import freezegun
from plugin_runs import run_tests
from report_rows import mixed, row

from waitkit import after, recording, virtual_clock, wait_for
from waitkit.ground.durations import SECOND
from waitkit.report.axes import axes_of
from waitkit.report.trace import read_trace, trace_of, write_trace
from waitkit.report.tracks import tracks_of


def test_each_virtual_clock_has_an_axis_of_its_own():
    """Real time comes first, of all processes together; a clock is named after its test, and tracks do not cross axes."""
    rows = mixed()
    axes, axis_of = axes_of(rows)
    assert [axis.name for axis in axes] == [
        "", "virtual time of t.py::test_b", "virtual time of t.py::test_a", "virtual time",
    ]  # fmt: skip
    assert axis_of == [0, 1, 0, 2, 2, 3]
    assert [axis.begin for axis in axes] == [rows[position]["start"] for position in (0, 1, 3, 5)]
    tracks, places = tracks_of(rows, axis_of)
    assert [tracks[place].axis for place in places] == axis_of
    assert [track.axis for track in tracks] == [0, 0, 1, 2, 3]


def test_two_clocks_of_one_test_are_told_apart():
    """A test that enters virtual time twice has two axes, the second with a number after its name."""
    axes, _ = axes_of([row(10, 20, clock=1), row(5, 6, clock=2), row(7, 8, clock=2)])
    assert [axis.name for axis in axes] == [
        "virtual time of tests/test_sea.py::test_tide", "virtual time of tests/test_sea.py::test_tide (2)",
    ]  # fmt: skip
    assert axes_of([]) == ([], [])


def test_in_a_trace_each_virtual_clock_is_a_process(tmp_path):
    """Its waits begin at 0 and lie near it, and reading the trace finds the real process, the clock and the times again."""
    rows, path = mixed(), tmp_path / "waits.json"
    write_trace(rows, path)
    events = json.loads(path.read_text())["traceEvents"]
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert sorted(names.values()) == [
        "gw1", "main", "virtual time of t.py::test_a", "virtual time of t.py::test_b", "virtual time, in gw1",
    ]  # fmt: skip
    waits = {event["name"]: event for event in events if event["ph"] == "X"}
    assert {name: event["ts"] for name, event in waits.items()} == {
        "a real thing": 0, "another real thing": 500_000, "an hour": 0, "a minute": 0, "half a minute": 60_000_000,
        "a moment": 0,
    }  # fmt: skip
    assert names[waits["an hour"]["pid"]] == "virtual time of t.py::test_b"
    assert (waits["an hour"]["args"]["virtual"], waits["an hour"]["args"]["clock"]) == (True, 2)
    assert "virtual" not in waits["a real thing"]["args"]
    read, _ = read_trace(path)
    begins = [axes_of(rows)[0][axis].begin for axis in axes_of(rows)[1]]
    for each, begin in zip(rows, begins, strict=True):
        each["start"] -= begin
        each["end"] -= begin
    assert read == rows
    assert trace_of(read) == trace_of(rows)


def test_a_recording_knows_the_clock_of_each_wait(tmp_path):
    """Waits on one virtual clock after another, and in real time between them, come to their own axes."""
    path = tmp_path / "waits.json"
    with recording(path):
        wait_for(after("1ms"))
        for seed in (1, 1, 2):
            with virtual_clock(seed=seed):
                wait_for(after("1h"), None)
                wait_for(after("1m"), None)
        wait_for(after("1ms"))
    rows, _ = read_trace(path)
    assert [each["clock"] for each in rows] == [0, 1, 1, 2, 2, 3, 3, 0]
    assert [each["end"] for each in rows if each["clock"]] == [3600 * SECOND, 3660 * SECOND] * 3
    assert rows[-1]["end"] < 3600 * SECOND


def test_time_that_others_freeze_is_not_virtual(tmp_path):
    """Within freezegun's block waits take real time, and lie beside those outside of it."""
    path = tmp_path / "waits.json"
    with recording(path):
        wait_for(after("1ms"))
        with freezegun.freeze_time("2020-01-01"):
            wait_for(after("1ms"))
        with virtual_clock(drive="freezegun"):
            wait_for(after("1h"), None)
    assert [each["clock"] for each in read_trace(path)[0]] == [0, 0, 1]


def test_a_run_of_several_virtual_tests(pytester):
    """The report of a test run has an axis for each virtual test, and tells how many waits there were."""
    code = """
        from waitkit import after, wait_for

        def test_one(virtual_clock):
            wait_for(after("1h"), None)
        """
    result = run_tests(pytester, code, "--waitkit-report=out")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["1 wait: *waits.html and waits.json beside it"])
    rows, _ = read_trace(pytester.path / "out" / "waits.json")
    assert [axis.name for axis in axes_of(rows)[0]] == ["virtual time of test_inner.py::test_one"]
