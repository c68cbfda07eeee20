"""The public names: each has a home, and tells what it is, takes and raises."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from importlib import import_module

import pytest

import waitkit

PUBLIC = sorted(waitkit.__all__)


def test_homes_are_true() -> None:
    """Each public name is defined in the module that the table of homes gives, and offered by it."""
    for name, home in waitkit._HOMES.items():
        module = import_module(f"waitkit.{home}")
        assert name in module.__all__, name
        assert getattr(waitkit, name) is getattr(module, name)


def public_classes() -> list[type]:
    return [thing for name in PUBLIC if inspect.isclass(thing := getattr(waitkit, name))]


def public_functions() -> list[Callable[..., object]]:
    return [thing for name in PUBLIC if inspect.isfunction(thing := getattr(waitkit, name))]


@pytest.mark.parametrize("thing", [*public_functions(), *public_classes()], ids=lambda thing: thing.__name__)
def test_public_names_have_docstrings(thing: object) -> None:
    """Each public function and class is described where it is defined."""
    assert (thing.__doc__ or "").strip()


@pytest.mark.parametrize("kind", public_classes(), ids=lambda kind: kind.__name__)
def test_public_methods_have_docstrings(kind: type) -> None:
    """Each public method and property of a public class of ours is described, by itself or by the one it overrides."""
    bare = []
    for name, member in vars(kind).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        ours = inspect.isfunction(function) and function.__module__.startswith("waitkit")
        if ours and not name.startswith("_") and not inspect.getdoc(getattr(kind, name)):
            bare.append(name)
    assert bare == []


@pytest.mark.parametrize("function", public_functions(), ids=lambda function: function.__name__)
def test_docstrings_tell_arguments_and_errors(function: Callable[..., object]) -> None:
    """A public function that takes arguments describes each, and what it raises; or it says whose twin it is."""
    text = inspect.getdoc(function) or ""
    parameters = list(inspect.signature(function).parameters)
    if not parameters or text.startswith("As :func:`"):
        return
    assert "\nRaises:\n" in text
    assert "\nArgs:\n" in text
    described = text.split("\nArgs:\n")[1].split("\n\n")[0]
    missing = [
        name
        for name in parameters
        if not re.search(rf"^    (\w+, )*\*{{0,2}}{name}\b[^:\n]*:", described, re.MULTILINE)
    ]
    assert missing == []
