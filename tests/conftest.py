"""Every test begins with the defaults and leaves nothing changed behind."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from support import SCALE

from waitkit import virtual_clock
from waitkit.engine import clock
from waitkit.ground import records
from waitkit.ground import settings as defaults
from waitkit.ground.durations import MILLISECOND
from waitkit.virtual import outsiders

# Hypothesis measures each example in real time, which is the machine's business. Each run tries other examples than the last.
settings.register_profile("waitkit", deadline=None, max_examples=30)
settings.register_profile("thorough", deadline=None, max_examples=100)
settings.load_profile("waitkit")


def pytest_configure(config: pytest.Config) -> None:
    """The limit of pytest-timeout is stretched on slow machines as those of waitkit are."""
    if config.getoption("timeout", None) is None and SCALE != 1:
        config.option.timeout = float(config.getini("timeout")) * SCALE


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Iterator[object]:
    """What collecting the tests makes stays: the collector of garbage rests meanwhile, and no test has to look through it again."""
    gc.disable()
    try:
        _share_compilation(session.config)
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _share_compilation(config: pytest.Config) -> None:
    """Workers of pytest-xdist that find nothing compiled share that work: each begins with other files than the others.

    Else each would compile all of them, at the same time.
    """
    if config.args_source is not config.ArgsSource.TESTPATHS or not hasattr(config, "workerinput"):
        return
    worker, workers = int(config.workerinput["workerid"].removeprefix("gw")), config.workerinput["workercount"]
    names = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py"))
    first = len(names) * worker // workers
    for name in names[first:] + names[:first]:
        with contextlib.suppress(Exception):  # the collection meets it again, and tells it
            importlib.import_module(f"tests.{name}")  # as pytest names it, and finds it


@pytest.fixture(autouse=True)
def _as_new(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what is set for a whole process: defaults, subscribers, the clock."""
    monkeypatch.delenv("WAITKIT_TIMEOUT_SCALE", raising=False)
    before = clock.current_clock()
    yield
    clock.use_clock(before)
    defaults._process_wide = defaults.Settings()
    records._subscribers = ()


@pytest.fixture(autouse=True)
def _reader_of_xdist_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of pytest-xdist has a thread that reads a pipe: each deadlock in virtual time would give it half a second to move."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        monkeypatch.setattr(outsiders, "_PATIENCE", 100 * MILLISECOND)


@pytest.fixture
def virtual() -> Iterator[virtual_clock]:
    """Virtual time for the length of a test; ``waitkit.engine.clock.now()`` tells it to the nanosecond."""
    with virtual_clock() as virtual:
        yield virtual


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user may use; its short name leaves room for sockets in it."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests of a file, which is marked with what it needs."""
    from browser import chromium

    with chromium() as driver:
        yield driver
