"""Runs of pytest with our plugin, each in a process and a directory of its own."""

from __future__ import annotations

import textwrap
from importlib.metadata import entry_points

import pytest
from support import LIMIT, ROOT

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
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.delenv("PYTEST_ADDOPTS", raising=False)
        for name, value in env.items():
            patch.setenv(name, value)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *args, timeout=2 * LIMIT)
