"""The plugin's markers: what they ask for, and that a bad one is an error of its own test alone."""

from __future__ import annotations

import pytest
from plugin_runs import run_tests


def test_a_marker_gives_the_virtual_clock_its_options(pytester):
    """The fixture is what waitkit.virtual_clock() makes of the options of the nearest marker, and the next test's is not."""
    result = run_tests(
        pytester,
        """
        import datetime as dt, threading, time
        import pytest
        from waitkit import VirtualClockError, VirtualDeadlock, after, wait_for

        @pytest.mark.virtual_clock(auto=False)
        class TestByHand:
            def test_of_the_class(self, virtual_clock):
                with pytest.raises(VirtualDeadlock):
                    wait_for(after("1h"), None)

            @pytest.mark.virtual_clock(seed=1)
            def test_nearest(self, virtual_clock):
                wait_for(after("1h"), None)
                assert virtual_clock.elapsed == 3600

        @pytest.mark.virtual_clock(drive="time-machine", real_things=False)
        def test_driven(virtual_clock):
            before = dt.datetime.now()
            wait_for(after("1d"), None)
            assert dt.datetime.now() - before == dt.timedelta(days=1)

        def test_plain(virtual_clock):
            wait_for(after("1h"), None)
        """,
        "--strict-markers",
    )
    result.assert_outcomes(passed=4)


def test_a_marked_test_runs_in_virtual_time(pytester):
    """The marker alone is enough, of a test, of one of its parameters, or of a file; other fixtures of the test are inside."""
    result = run_tests(
        pytester,
        """
        import pytest
        from waitkit import after, wait_for, virtual_clock
        from waitkit.engine.clock import SystemClock, current_clock

        def is_real():
            return isinstance(current_clock(), SystemClock)

        @pytest.fixture(scope="session")
        def lasting():
            assert is_real()

        @pytest.fixture
        def own():
            assert not is_real()
            yield
            assert not is_real()

        @pytest.mark.virtual_clock
        def test_marked(lasting, own, no_leaks):
            wait_for(after("1h"), None)

        @pytest.mark.parametrize("real", [True, pytest.param(False, marks=pytest.mark.virtual_clock(seed=3))])
        def test_one_of_two(real):
            assert is_real() == real

        def test_unmarked():
            assert is_real()
        """,
    )
    result.assert_outcomes(passed=4)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("False", "give the options of waitkit.virtual_clock by their names"),
        ("auto=0", "auto=0 is neither True nor False"),
        ("grace='soon'", "'soon' is not a duration"),
        ("drive='sundial'", "drive='sundial' is neither 'time-machine' nor 'freezegun'"),
        ("speed=2", "speed is no option of virtual_clock: there are auto, grace,"),
    ],
)
def test_bad_options_of_a_clock_are_an_error_of_their_test(pytester, options, why):
    """What virtual_clock() would refuse is told with the marker, and the other tests run."""
    code = f"""
        import pytest

        @pytest.mark.virtual_clock({options})
        def test_bad(virtual_clock):
            pass

        def test_next():
            pass
        """
    result = run_tests(pytester, code)
    result.assert_outcomes(passed=1, errors=1)
    [told] = [line for line in result.outlines if line.startswith("@pytest.mark.virtual_clock(")]
    assert told.startswith(f"@pytest.mark.virtual_clock({options}): ")
    assert why in told


@pytest.mark.parametrize("marker", ["()", "(1, 2)", "('much')", "(limit=3)", "(None)"])
def test_a_bad_budget_is_an_error_of_its_test(pytester, marker):
    """A marker that gives no duration is told, and the other tests run."""
    code = f"""
        import pytest

        @pytest.mark.waitkit_sleeps{marker}
        def test_bad():
            pass

        def test_next():
            pass
        """
    result = run_tests(pytester, code, "--waitkit-sleeps=fail")
    result.assert_outcomes(passed=1, errors=1)
    [told] = [line for line in result.outlines if line.startswith("@pytest.mark.waitkit_sleeps(")]
    assert "duration" in told


def test_limits_of_real_time_do_not_bind_waits_in_virtual_time(pytester):
    """Of hours that cost nothing, pytest-timeout takes nothing away; real waits of the same test are bound as ever."""
    result = run_tests(
        pytester,
        """
        import pytest
        from waitkit import WaitTimeout, after, virtual_clock

        @pytest.mark.timeout(20)
        @pytest.mark.parametrize("timeout", ["2h", None])
        def test_virtual(virtual_clock, wait_for, timeout):
            wait_for(after("1h"), timeout)
            assert virtual_clock.elapsed == 3600
            with pytest.raises(WaitTimeout) as caught:
                wait_for(after("1h"))
            assert caught.value.facts.limit == 10

        @pytest.mark.timeout(2)
        def test_real(wait_for):
            with virtual_clock():
                wait_for(after("1h"), None)
            with pytest.raises(WaitTimeout) as caught:
                wait_for(after("1h"), "2h")
            assert 0.3 < caught.value.facts.limit < 2
        """,
        plugins=("pytest_timeout",),
    )
    result.assert_outcomes(passed=3)
