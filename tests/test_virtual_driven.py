"""The clocks of the standard library, moved along by time-machine and freezegun: what the code under test sees."""

from __future__ import annotations

import datetime as dt
import re
import threading
import time

import pytest
from plugin_runs import run_tests
from support import LIMIT, python

from waitkit import polling, retry_backoff, virtual_clock, wait_for


@pytest.fixture(params=["time-machine", "freezegun"])
def clock(request):
    with virtual_clock(drive=request.param) as clock:
        yield clock


def test_what_waitkit_calls_sees_the_moved_time(clock):
    """Retried functions, runs of pollers, conditions and the first function of a thread see the same time as all others."""
    begun, seen = time.time(), []

    def note() -> None:
        seen.append((clock.elapsed, round(time.time() - begun)))

    @retry_backoff(on=ConnectionError, attempts=4, base="1m", jitter="none", max_delay="1h")
    def connect() -> None:
        note()
        if len(seen) < 3:
            raise ConnectionError

    connect()
    with polling(note, "1h", timing="fixed_rate") as poller:
        wait_for(poller.has_run(2), None)
    end = time.time() + 30
    wait_for(lambda: time.time() >= end, "40s")
    thread = threading.Thread(target=note)
    thread.start()
    thread.join()
    assert [shown for _, shown in seen] == [round(passed) for passed, _ in seen]
    assert [passed for passed, _ in seen[:5]] == [0, 60, 180, 180, 3780]


@pytest.mark.parametrize("library", ["time-machine", "freezegun"])
def test_local_time_stays_local(library):
    """Naive and aware times of day do not jump when the block is entered, in any zone."""
    zones = ("Asia/Tokyo", "America/Bogota", "UTC")
    done = python(
        f"""
        import os, time
        from datetime import datetime, timedelta, timezone
        from waitkit import after, virtual_clock, wait_for

        known = [None, timezone.utc, timezone(timedelta(hours=5))]

        def looks():
            return [*map(datetime.now, known), datetime.fromtimestamp(time.time()), datetime.now().timestamp(), time.localtime().tm_hour]

        def differ(before, after):
            pairs = [(old, new) for old, new in zip(before[:4], after[:4])]
            return [round((new - old) / timedelta(seconds=60)) for old, new in pairs] + [round((after[4] - before[4]) / 60)]

        for zone in {zones}:
            os.environ["TZ"] = zone
            time.tzset()
            before = looks()
            with virtual_clock(drive={library!r}):
                print(differ(before, looks()))
                wait_for(after("1d"), None)
                print(differ(before, looks()), looks()[5] - before[5])
            print(differ(before, looks()), isinstance(datetime.now(), datetime))
        """
    )
    day = [1440] * 5
    assert done.stdout == f"{[0] * 5}\n{day} 0\n{[0] * 5} True\n" * len(zones), done.stderr


def test_the_libraries_are_left_as_they_were():
    """What is changed in freezegun for the time of the block is as before afterwards."""
    api = pytest.importorskip("freezegun.api")
    before = (api.call_stack_inspection_limit, vars(api.FakeDatetime)["now"], dt.datetime)
    with virtual_clock(drive="freezegun"):
        assert api.call_stack_inspection_limit != before[0]
    assert (api.call_stack_inspection_limit, vars(api.FakeDatetime)["now"], dt.datetime) == before


@pytest.mark.parametrize("library", ["time-machine", "freezegun"])
def test_pytest_goes_on_measuring_real_time(pytester, library):
    """What pytest says of how long its tests take is not moved along, neither for the fixture nor for the test."""
    pytest.importorskip(library.replace("-", "_"))
    code = f"""
        import pytest
        from waitkit import after, wait_for

        @pytest.mark.virtual_clock(drive={library!r})
        def test_it(virtual_clock):
            wait_for(after("1d"), None)
    """
    lines = run_tests(pytester, code, "--durations=0", "--durations-min=0").outlines
    took = [float(line.partition("s ")[0]) for line in lines if re.match(r"[-\d.]+s (setup|call|teardown) ", line)]
    assert len(took) == 3 and all(0 <= seconds < LIMIT for seconds in took), lines


@pytest.mark.parametrize("library", ["time-machine", "freezegun"])
def test_sleep_takes_what_it_takes(library):
    """The virtual ``time.sleep`` takes and refuses what the real one does, with errors of the same kind."""
    pytest.importorskip(library.replace("-", "_"))
    taken = [0, 1, True, 0.5, type("Index", (), {"__index__": lambda self: 2})()]
    refused = [-1, -0.5, float("nan"), float("inf"), "1s", None, dt.timedelta(seconds=1)]
    errors = []
    for value in refused:
        with pytest.raises((TypeError, ValueError, OverflowError)) as caught:
            time.sleep(value)
        errors.append(caught.type)
    with virtual_clock(drive=library) as clock:
        for value in taken:
            time.sleep(value)
        assert clock.elapsed == 4.5
        for value, kind in zip(refused, errors, strict=True):
            with pytest.raises(kind):
                time.sleep(value)
