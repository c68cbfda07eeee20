"""Runs of pytest with our plugin, each in a process and a folder of its own."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from support import LIMIT, ROOT

from waitkit import readable, wait_for

# Where waitkit is installed, pytest finds the plugin by itself, and would refuse it a second time.
_LOAD = [] if entry_points(group="pytest11", name="waitkit") else ["-p", "waitkit.pytest_plugin"]


def run_tests(
    pytester: pytest.Pytester, code: str, *args: str, plugins: tuple[str, ...] = (), **env: str
) -> pytest.RunResult:
    """Run the tests in *code* with our plugin and with these *plugins*."""
    pytester.makepyfile(test_inner=textwrap.dedent(code))
    return run_pytest(pytester, *args, plugins=plugins, **env)


def run_pytest(pytester: pytest.Pytester, *args: str, plugins: tuple[str, ...] = (), **env: str) -> pytest.RunResult:
    """Run pytest on the files that are there, with our plugin and with these *plugins*, and without any other.

    To import all that are installed takes five times as long as such a run.
    """
    load = [word for name in ("waitkit.pytest_plugin", *plugins) for word in ("-p", name)]
    return _run(pytester, *load, *args, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **env)


def run_as_installed(pytester: pytest.Pytester, code: str, *args: str) -> pytest.RunResult:
    """Run the tests in *code* with whatever pytest finds installed, our plugin among it."""
    pytester.makepyfile(test_inner=textwrap.dedent(code))
    return _run(pytester, *_LOAD, *args)


def _run(pytester: pytest.Pytester, *args: str, **env: str) -> pytest.RunResult:
    """Have pytest run as ``python -m pytest`` would, in the folder of *pytester*."""
    streams = {name: pytester.path / name for name in ("stdout", "stderr")}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    for name in ("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST"):
        environment.pop(name, None)
    request = {
        "folder": str(pytester.path),
        "args": ["-p", "no:cacheprovider", f"--basetemp={pytester.path / 'runpytest'}", *args],
        "environment": environment,
        **{name: str(path) for name, path in streams.items()},
    }
    begun = time.perf_counter()
    code = _zygote().run(request)
    lines = {name: path.read_text().splitlines() for name, path in streams.items()}
    print("\n".join(lines["stdout"]))  # for whom this test fails
    print("\n".join(lines["stderr"]), file=sys.stderr)
    return pytest.RunResult(code, lines["stdout"], lines["stderr"], time.perf_counter() - begun)


class _Zygote:
    """The process that forks for our runs: see :mod:`pytest_zygote`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", Path(__file__).with_name("pytest_zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        )
        atexit.register(self._end)

    def run(self, request: dict[str, object]) -> int:
        """Have pytest run; its exit code."""
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        asked.write(json.dumps(request) + "\n")
        try:
            wait_for(readable(answers), 2 * LIMIT, message="a run of pytest")
        except BaseException:
            os.killpg(self._process.pid, signal.SIGKILL)
            _zygote.cache_clear()
            raise
        return int(answers.readline())

    def _end(self) -> None:
        with self._process:
            pass  # it ends when there is nothing to read for it any more


_zygote = cache(_Zygote)
