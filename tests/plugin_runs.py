"""Runs of pytest with our plugin, each in a process and a directory of its own."""

from __future__ import annotations

import textwrap
from importlib.metadata import entry_points

import pytest
from support import LIMIT, ROOT

# Where waitkit is installed, pytest finds the plugin by itself, and would refuse it a second time.
_LOAD = [] if entry_points(group="pytest11", name="waitkit") else ["-p", "waitkit.pytest_plugin"]


def run_tests(pytester: pytest.Pytester, code: str, *args: str, **env: str) -> pytest.RunResult:
    """Run the tests in *code* with the plugin."""
    pytester.makepyfile(test_inner=textwrap.dedent(code))
    return run_pytest(pytester, *args, **env)


def run_pytest(pytester: pytest.Pytester, *args: str, **env: str) -> pytest.RunResult:
    """Run pytest with the plugin on the files that are there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.delenv("PYTEST_ADDOPTS", raising=False)
        for name, value in env.items():
            patch.setenv(name, value)
        return pytester.runpytest_subprocess(*_LOAD, "-p", "no:cacheprovider", *args, timeout=2 * LIMIT)
