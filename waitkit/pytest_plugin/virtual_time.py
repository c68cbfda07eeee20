"""The virtual clock of a test, as its marker wants it."""

from __future__ import annotations

import inspect

import pytest

from waitkit.pytest_plugin.markers import refuse
from waitkit.virtual.block import virtual_clock

__all__ = ["clock_of"]


def clock_of(item: pytest.Item) -> virtual_clock:
    """The clock for the test *item*, not entered; with the options of the marker ``virtual_clock`` that is nearest to it."""
    marker = item.get_closest_marker("virtual_clock")
    if marker is None:
        return virtual_clock()
    if marker.args:
        refuse(marker, "give the options of waitkit.virtual_clock by their names, as in virtual_clock(auto=False)")
    options = inspect.signature(virtual_clock).parameters
    for name in marker.kwargs:
        if name not in options:
            refuse(marker, f"{name} is no option of virtual_clock: there are {', '.join(options)}")
    try:
        return virtual_clock(**marker.kwargs)
    except (TypeError, ValueError, ModuleNotFoundError) as error:
        refuse(marker, str(error))
