"""``--waitkit-report``: all waits of a run, in one trace and one page."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest

from waitkit.ground.records import Subscriber, subscribers
from waitkit.report.page import write_page
from waitkit.report.recording import Recorder
from waitkit.report.rows import MAIN, Row
from waitkit.report.trace import write_trace

__all__ = ["Waits"]

# Under this name a test's waits travel with the report of its teardown, from a pytest-xdist worker too.
_NAME: Final = "waitkit_waits"


class Waits:
    """The recorder of a run.

    Args:
        config: of the run.
        folder: where the report goes; it is made where it does not exist.
    """

    def __init__(self, config: pytest.Config, folder: str) -> None:
        self._config = config
        self._folder = config.invocation_params.dir / folder
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise pytest.UsageError(f"--waitkit-report={folder}: {error}") from error
        worker = getattr(config, "workerinput", None)
        self._recorder = Recorder(MAIN if worker is None else worker["workerid"])
        self._is_worker = worker is not None
        self._subscription: Subscriber | None = None
        self._rows: list[Row] = []
        self._dropped = 0
        self._listen()

    def _listen(self) -> None:
        """Subscribe, unless that still holds: a test may end all subscriptions."""
        if self._subscription is None or self._subscription not in subscribers():
            self._subscription = self._recorder.subscribe()

    def pytest_unconfigure(self) -> None:
        """Leave everything as it was."""
        if self._subscription is not None:
            self._subscription.close()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """A test begins, and ends."""
        self._listen()
        self._recorder.test = item.nodeid
        try:
            return (yield)
        finally:
            self._recorder.test = ""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """The last phase of a test has ended: its waits travel with the report."""
        report = yield
        if call.when == "teardown":
            setattr(report, _NAME, self._recorder.take())
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A report has come, perhaps from a worker."""
        if not self._is_worker and hasattr(report, _NAME):
            self._rows += getattr(report, _NAME)
            delattr(report, _NAME)  # pytest keeps all reports to the end

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """The session ends: the report is written, also where what ends with it, such as a fixture, fails."""
        try:
            return (yield)
        finally:
            self._finish()

    def _finish(self) -> None:
        """Write the report; a worker hands the waits outside of its tests to the controller instead."""
        rest = self._recorder.take()
        if self._is_worker:
            output: dict[str, Any] = getattr(self._config, "workeroutput")  # noqa: B009 - pytest-xdist puts it there
            output[_NAME] = rest
            output[f"{_NAME}_dropped"] = self._recorder.dropped
            return
        self._rows += rest
        self._dropped += self._recorder.dropped
        write_trace(self._rows, self._folder / "waits.json", dropped=self._dropped)
        write_page(self._rows, self._folder / "waits.html", title="Waits of a test run", dropped=self._dropped)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker of pytest-xdist has ended; one that crashed leaves no output, but its tests' reports came."""
        output = getattr(node, "workeroutput", {})
        self._rows += output.get(_NAME, [])
        self._dropped += output.get(f"{_NAME}_dropped", 0)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell where the report is."""
        page: Path = self._folder / "waits.html"
        count = len(self._rows)
        waits = "1 wait" if count == 1 else f"{count} waits"
        terminalreporter.write_line(f"{waits}: {page} and waits.json beside it")
