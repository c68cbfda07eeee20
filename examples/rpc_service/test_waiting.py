"""The waiting edition, under pytest: ``pytest examples/rpc_service``, or ``pytest --pyargs waitkit.demo``."""

from __future__ import annotations

from typing import Any

import psutil
import pytest

from .edition import Edition
from .lifecycle import LIFECYCLE, LifecycleTest
from .run import run
from .sleeping import SLEEPS
from .waiting import Waiting


@pytest.mark.parametrize("test", LIFECYCLE, ids=lambda test: test.__name__)
def test_lifecycle(test: LifecycleTest) -> None:
    """Each test of the life of a service holds when its steps wait for conditions."""
    with Waiting() as edition:
        test(edition)
    assert edition.slept == 0


def test_there_are_26_of_them() -> None:
    """The number that is compared is the number of tests, each of which says what it states."""
    assert len({test.__name__ for test in LIFECYCLE}) == len(LIFECYCLE) == 26
    assert all(test.__doc__ for test in LIFECYCLE)


def test_every_step_has_its_sleep() -> None:
    """The table of sleeps names the steps of an edition, all of them and no others."""
    steps = {name for name, method in vars(Waiting).items() if hasattr(method, "__wrapped__")}
    assert steps == set(SLEEPS)


def test_a_failing_test_is_an_outcome() -> None:
    """A test that fails is told of, with its reason and the steps it took, and leaves no process behind."""
    pids: list[int] = []

    def fails(edition: Edition[Any]) -> None:
        pids.append(edition.start().pid)
        raise AssertionError("no such luck")

    (outcome,) = run("waiting", [fails])
    assert outcome.error == "AssertionError: no such luck"
    assert outcome.would_sleep == SLEEPS["start"]
    assert not psutil.pid_exists(pids[0])
