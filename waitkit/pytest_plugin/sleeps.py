"""``--waitkit-sleeps``: what each test sleeps, the summary at the end, and the budget."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, Final

import pytest

from waitkit.ground.durations import Nanoseconds, format_duration, to_nanoseconds
from waitkit.guard.guard import SleepGuard
from waitkit.guard.ledger import Slept, SleptAt
from waitkit.guard.summary import Summary, site_line
from waitkit.pytest_plugin.markers import refuse

__all__ = ["Sleeps"]

_SLEPT: Final = pytest.StashKey[list[Slept]]()
_BEGAN: Final = pytest.StashKey[int]()
_JUDGED: Final = pytest.StashKey[bool]()
_BUDGET: Final = pytest.StashKey[Nanoseconds]()
# Under this name a test's sleeps travel with the report of its teardown, from a pytest-xdist worker too.
_NAME: Final = "waitkit_sleeps"
_MOST_SITES: Final = 5


class Sleeps:
    """The sleep guard of a run.

    Args:
        config: of the run.
        fail: whether a test that sleeps more than its budget fails.
        budget: what a test may sleep, as a duration.
    """

    def __init__(self, config: pytest.Config, *, fail: bool, budget: str) -> None:
        self._config = config
        self._fail = fail
        try:
            self._budget = _nanoseconds(budget, "the sleep budget")
        except (TypeError, ValueError) as error:
            raise pytest.UsageError(str(error)) from error
        self._summary = Summary()
        self._guard = SleepGuard()
        # Kept here, where libraries that freeze time by exchanging the functions of modules do not look.
        self._clock = time.perf_counter_ns
        self._guard.install()

    def pytest_unconfigure(self) -> None:
        """Leave everything as it was."""
        self._guard.remove()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """A test begins: what was slept since the last one is nobody's."""
        self._summary.add(self._guard.take())
        item.stash[_SLEPT] = []
        item.stash[_BEGAN] = self._clock()
        item.stash[_JUDGED] = False
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """A bad marker is an error of its test: here, as what is raised while a report is made ends the session."""
        marker = item.get_closest_marker("waitkit_sleeps")
        item.stash[_BUDGET] = self._budget if marker is None else _marked_budget(marker)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A phase of a test has ended."""
        report = yield
        phases = item.stash[_SLEPT]
        phases.append(self._guard.take())
        if report.outcome != "passed":
            item.stash[_JUDGED] = True  # it has failed, been skipped, or failed as expected: that is enough
        elif self._fail and call.when != "setup" and not item.stash[_JUDGED]:
            self._judge(item, report, phases)
        if call.when == "teardown":
            setattr(report, _NAME, _packed(_together(phases), self._clock() - item.stash[_BEGAN]))
        return report

    def _judge(self, item: pytest.Item, report: pytest.TestReport, phases: list[Slept]) -> None:
        """Fail the phase in which the test went over its budget."""
        slept, budget = _together(phases), item.stash[_BUDGET]
        over = slept.guessed - budget
        if over <= 0:
            return
        item.stash[_JUDGED] = True
        sites = [site for site in slept.sites if not site.elsewhere][:_MOST_SITES]
        report.outcome = "failed"
        told = f"the test slept {format_duration(over)} more than the {format_duration(budget)} it may"
        report.longrepr = "\n".join((f"{told} (--waitkit-sleeps=fail):", *map(site_line, sites)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A report has come, perhaps from a worker."""
        packed = getattr(report, _NAME, None)
        if packed is not None:
            self._summary.add(*_unpacked(packed))

    def pytest_sessionfinish(self) -> None:
        """What was slept outside of tests goes to the controller, if this is a worker."""
        outside = self._guard.take()
        output = getattr(self._config, "workeroutput", None)
        if output is None:
            self._summary.add(outside)
        else:
            output[_NAME] = _packed(outside, 0)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker of pytest-xdist has ended; one that crashed leaves no output."""
        packed = getattr(node, "workeroutput", {}).get(_NAME)
        if packed is not None:
            self._summary.add(*_unpacked(packed))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell where the time went."""
        terminalreporter.section("sleeps (waitkit)")
        for line in self._summary.lines():
            terminalreporter.write_line(line)


def _nanoseconds(given: Any, name: str) -> Nanoseconds:
    """*given* as nanoseconds; on a command line a number of seconds is a text, too."""
    return to_nanoseconds(float(given) if isinstance(given, str) and _is_number(given) else given, name)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _marked_budget(marker: pytest.Mark) -> Nanoseconds:
    """The budget that *marker* gives; one that gives none fails the test."""
    given = {**dict(zip(("budget",), marker.args, strict=False)), **marker.kwargs}
    if len(marker.args) > 1 or set(given) != {"budget"}:
        refuse(marker, "give one duration, as in waitkit_sleeps('2s')")
    try:
        return _nanoseconds(given["budget"], "budget")
    except (TypeError, ValueError) as error:
        refuse(marker, str(error))


def _together(phases: list[Slept]) -> Slept:
    """The phases of one test as one."""
    summary = Summary()
    for phase in phases:
        summary.add(phase)
    return Slept(summary.guessed, summary.sites())


def _packed(slept: Slept, duration: Nanoseconds) -> dict[str, object]:
    """As plain data, which travels between processes."""
    return {"guessed": slept.guessed, "sites": [list(site) for site in slept.sites], "duration": duration}


def _unpacked(packed: dict[str, Any]) -> tuple[Slept, Nanoseconds]:
    return Slept(packed["guessed"], [SleptAt(*site) for site in packed["sites"]]), packed["duration"]
