"""Runs of pytest with our plugin, each in a process and a folder of its own."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from importlib.metadata import entry_points

import pytest
from _pytest.config import default_plugins
from forked_runs import Zygote
from support import ROOT

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


def run_as_installed(pytester: pytest.Pytester, code: str) -> pytest.RunResult:
    """Run the tests in *code* with whatever pytest finds installed, our plugin among it, in a fresh interpreter."""
    pytester.makepyfile(test_inner=textwrap.dedent(code))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *_LOAD)


def _run(pytester: pytest.Pytester, *args: str, **env: str) -> pytest.RunResult:
    """Have pytest run as ``python -m pytest`` would, in the folder of *pytester*."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    for name in ("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST"):
        environment.pop(name, None)
    words = ["-p", "no:cacheprovider", f"--basetemp={pytester.path / 'runpytest'}", *args]
    begun = time.perf_counter()
    done = _pytest.run(words, environment, pytester.path)
    took = time.perf_counter() - begun
    print(done.stdout)  # for whom this test fails
    print(done.stderr, file=sys.stderr)
    return pytest.RunResult(done.returncode, done.stdout.splitlines(), done.stderr.splitlines(), took)


#: Nothing of waitkit is imported before the fork, as it is not when pytest begins; what it imports from elsewhere may be.
_pytest = Zygote(
    "pytest", [*(f"_pytest.{name}" for name in default_plugins), "asyncio", "attr", "psutil", "ssl", "wrapt"]
)
