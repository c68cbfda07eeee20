"""The pytest plugin: fixtures, the sleep guard, the wait report, and what failed waits tell. It needs no configuration.

Nothing but pytest is imported here: what a run makes no use of is not loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from waitkit.processes.managed import ManagedProcess
    from waitkit.virtual.block import virtual_clock as virtual_clock_block

__all__ = ["no_leaks", "session_reserved_port"]


# Options.


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options; each has an ini twin."""
    group = parser.getgroup("waitkit", "waiting and sleeping (waitkit)")
    group.addoption(
        "--waitkit-sleeps",
        choices=("off", "report", "fail"),
        help="measure what the tests sleep and print where; fail: a test that sleeps more than its budget fails",
    )
    group.addoption(
        "--waitkit-sleep-budget", metavar="DURATION", help="what a test may sleep with --waitkit-sleeps=fail (100ms)"
    )
    group.addoption("--waitkit-report", metavar="DIR", help="write waits.json (for Perfetto) and waits.html there")
    parser.addini("waitkit_sleeps", "as --waitkit-sleeps", default="off")
    parser.addini("waitkit_sleep_budget", "as --waitkit-sleep-budget", default="100ms")
    parser.addini("waitkit_report", "as --waitkit-report", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Start what was asked for."""
    config.addinivalue_line(
        "markers", "waitkit_sleeps(budget): what this test may sleep where --waitkit-sleeps=fail, as in '2s'"
    )
    config.addinivalue_line(
        "markers", "virtual_clock(**options): this test runs in virtual time, with the options of waitkit.virtual_clock"
    )
    sleeps = _option(config, "waitkit_sleeps")
    if sleeps not in ("off", "report", "fail"):
        raise pytest.UsageError(f"waitkit_sleeps = {sleeps}: give off, report or fail")
    if sleeps != "off":
        from waitkit.pytest_plugin.sleeps import Sleeps

        config.pluginmanager.register(
            Sleeps(config, fail=sleeps == "fail", budget=_option(config, "waitkit_sleep_budget")), "waitkit-sleeps"
        )
    folder = _option(config, "waitkit_report")
    if folder:
        from waitkit.pytest_plugin.waits import Waits

        config.pluginmanager.register(Waits(config, folder), "waitkit-waits")


def _option(config: pytest.Config, name: str) -> str:
    given = config.getoption(name)
    return str(config.getini(name) if given is None else given)


# What a failed wait tells.


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Have waits note what they see while a test runs, so that one which fails can tell."""
    from waitkit.ground.records import note_tries

    notes = note_tries()
    try:
        return (yield)
    finally:
        notes.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Leave our frames out of the traceback of a failed test, and add what its wait knows."""
    # That of a unittest.TestCase comes into the call only when the report is made.
    if call.excinfo is None and not getattr(item, "_excinfo", None):
        return (yield)
    from waitkit.pytest_plugin.failures import hide_our_frames, sections

    hide_our_frames()
    report = yield
    if report.failed and call.excinfo is not None:
        report.sections += sections(call.excinfo.value, item)
    return report


_interrupt = pytest.StashKey[KeyboardInterrupt]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Ctrl-C ends a test: its fixtures end when the session does, and pytest does not tell them."""
    try:
        return (yield)
    except KeyboardInterrupt as error:
        item.stash[_interrupt] = error
        raise


# How much time a test has left.


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> None:
    """A hook of pytest-timeout: it starts its timer now. We only look at the clock."""
    from waitkit.pytest_plugin.remaining import remember_deadline

    remember_deadline(item, settings.timeout)


# Fixtures.


@pytest.fixture(name="wait_for")
def _wait_for(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """``waitkit.wait_for``, within the time that the test has left (pytest-timeout's), so that it can say what it waited for."""
    from waitkit.pytest_plugin.remaining import bound_to

    return bound_to(request.node)


@pytest.fixture(name="reserved_port")
def _reserved_port() -> Iterator[int]:
    """A TCP port that nobody else gets while the test runs."""
    from waitkit.ports.reserve import reserved_port

    with reserved_port() as port:
        yield port


@pytest.fixture(scope="session")
def session_reserved_port() -> Iterator[int]:
    """A TCP port that nobody else gets while the session runs."""
    from waitkit.ports.reserve import reserved_port

    with reserved_port() as port:
        yield port


@pytest.fixture(name="managed_process")
def _managed_process(request: pytest.FixtureRequest) -> Iterator[Callable[..., ManagedProcess]]:
    """Starts processes: takes what ``waitkit.managed_process`` takes, returns when ready; they end with the test."""
    from waitkit.pytest_plugin.processes import Processes

    processes = Processes(request.node)
    try:
        yield processes.start
    finally:
        processes.stop_all()


@pytest.fixture
def virtual_clock(request: pytest.FixtureRequest) -> Iterator[virtual_clock_block]:
    """The test runs in virtual time: ``waitkit.virtual_clock()``, entered, with the options of the marker of that name."""
    from waitkit.pytest_plugin.virtual_time import clock_of

    clock = clock_of(request.node)
    clock.__enter__()
    try:
        yield clock
    finally:
        # After Ctrl-C the threads of the test are left where they are, and that is no mistake of its.
        interrupt = request.node.stash.get(_interrupt, None)
        clock.__exit__(None if interrupt is None else type(interrupt), interrupt, None)


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fails the test when it leaves threads, processes, listening ports or open files behind."""
    from waitkit.pytest_plugin.leaks import fail_if_any, snapshot

    before = snapshot()
    yield
    fail_if_any(before)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Set up before a test's other fixtures what has to end after them.

    What begins in virtual time ends in it; no_leaks looks when all are done.
    """
    if not isinstance(item, pytest.Function):
        return
    names = item.fixturenames
    marked = "virtual_clock" not in names and item.get_closest_marker("virtual_clock") is not None
    first = ["virtual_clock"] * marked + ["no_leaks"] * ("no_leaks" in names)
    if first:
        from waitkit.pytest_plugin.fixture_order import put_first

        for name in first:
            put_first(item, name)
