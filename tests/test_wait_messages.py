"""Messages: the text of a lambda, the name of a callable, and words of the user's own."""

from __future__ import annotations

import functools
import threading

import pytest

from waitkit import Event, StoppedHolding, Value, WaitFailed, WaitTimeout, consistently, notified, wait_for
from waitkit.conditions import sources
from waitkit.conditions.condition import as_condition
from waitkit.conditions.sources import describe_callable

NAMED = lambda: None


def words(function):
    """What messages call a callable."""
    return describe_callable(function)


def test_a_lambda_is_its_source():
    """A lambda is written as it stands in the source."""
    items = []
    assert words(lambda: len(items) > 3 and not items[0]) == "lambda: len(items) > 3 and not items[0]"
    assert words(NAMED) == "lambda: None"


def test_several_lambdas_on_one_line():
    """Of several lambdas in one line, just the one that is asked for."""
    a, b = [1], [2]
    pair = (lambda: a[0], lambda: b[0] + len(a))
    assert [words(function) for function in pair] == ["lambda: a[0]", "lambda: b[0] + len(a)"]
    same = (lambda: a, lambda: a)
    assert [words(function) for function in same] == ["lambda: a", "lambda: a"]


def test_a_lambda_over_several_lines_is_one_line():
    """Line breaks and indentation inside a lambda become one space."""
    items = [1, 2]
    function = (
        lambda: sum(
            item
            for item in items
            if item
        )
    )  # fmt: skip
    assert words(function) == "lambda: sum( item for item in items if item )"


def test_nested_lambdas_are_told_apart():
    """A lambda in a lambda is the inner one; the one around it is the whole."""
    outer = lambda: lambda: outer
    assert words(outer) == "lambda: lambda: outer"
    assert words(outer()) == "lambda: outer"
    default = lambda x=(lambda: words): x
    assert words(default) == "lambda x=(lambda: words): x"
    assert words(default()) == "lambda: words"


def test_a_constant_body_is_never_taken_for_another():
    """A lambda of a constant, of which newer Pythons keep no position, is either itself or a name: never its neighbour."""
    one, two = (lambda: 1), (lambda: 2)
    assert words(one) in ("lambda: 1", "test_a_constant_body_is_never_taken_for_another.<lambda>()")
    assert words(two) in ("lambda: 2", "test_a_constant_body_is_never_taken_for_another.<lambda>()")
    alone = lambda: 1
    assert words(alone) == "lambda: 1"


def test_a_lambda_behind_letters_of_several_bytes():
    """Text before a lambda that takes more bytes than letters does not shift it."""
    found = {"ärger, 試験 und 🐌": lambda: found, "b": lambda: len(found)}
    assert [words(function) for function in found.values()] == ["lambda: found", "lambda: len(found)"]


def test_a_lambda_in_a_call_of_many_lines():
    """A lambda among the arguments of a call that spans lines is just itself."""
    held = dict(
        first=lambda: held["second"],
        second=lambda: (
            held or
            None
        ),
    )  # fmt: skip
    assert words(held["first"]) == 'lambda: held["second"]'
    assert words(held["second"]) == "lambda: ( held or None )"


def test_a_lambda_without_source_has_a_name():
    """A lambda that was typed into exec() is called by its name."""
    namespace = {}
    exec("f = lambda: 5", namespace)
    assert words(namespace["f"]) == "<lambda>()"


class Server:
    """Something with methods."""

    def is_up(self):
        """Never."""
        return False

    def __call__(self):
        return False

    def __repr__(self):
        return "<the server>"


def test_names_of_other_callables():
    """Functions, methods, partials, builtins and callable objects are called as their readers know them."""

    def local():
        return 0

    assert words(local) == "test_names_of_other_callables.local()"
    assert words(Server().is_up) == "Server.is_up()"
    assert words(functools.partial(local)) == "test_names_of_other_callables.local()"
    assert words([].__len__).startswith("list.__len__") or "__len__" in words([].__len__)
    assert words(Server()) == "<the server>"
    assert words(functools.partial(lambda: words)) == "lambda: words"


def test_the_source_is_in_the_error():
    """An error shows the source of the lambda that was awaited."""
    queue = []
    with pytest.raises(WaitTimeout, match=r"waiting for lambda: len\(queue\) > 3 to be true: 1 look, last: False"):
        wait_for(lambda: len(queue) > 3, 0)


def test_values_show_their_predicates():
    """A Value's conditions read as sentences, with the last value seen."""
    level = Value(2, "the level")
    with pytest.raises(WaitTimeout, match="waiting for the level to satisfy lambda v: v > 3: 1 look, last: 2"):
        wait_for(level.satisfies(lambda v: v > 3), 0)
    with pytest.raises(WaitTimeout, match="waiting for the level to be 'full': .*last: 2"):
        wait_for(level.equals("full"), 0)


def test_a_message_replaces_the_words():
    """A message is used for what was awaited, in headline and attribute."""
    with pytest.raises(WaitTimeout, match="waiting for the first order: ") as caught:
        wait_for(lambda: 0, 0, message="the first order")
    assert caught.value.what == "the first order"


def test_a_message_function_gets_the_value_judged():
    """A message function is called once, when the wait has failed, with the last value judged."""
    got = []

    def message(value):
        got.append(value)
        return f"more than {value}"

    looks = iter(range(0, -100, -1))
    with pytest.raises(WaitTimeout, match="waiting for more than 0: "):
        wait_for(lambda: next(looks) * 0, "3ms", message=message)
    assert got == [0]
    with pytest.raises(WaitFailed, match=r"waiting for more than \[\]"):
        wait_for(lambda: [], message=message, unless=lambda: True)
    with pytest.raises(StoppedHolding, match=r"stopped holding after .*: more than \{\}"):
        consistently(lambda: {}, "1s", message=message)
    with pytest.raises(WaitTimeout, match="waiting for more than 4"):
        wait_for(Value(4).satisfies(lambda v: v > 4), 0, message=message)
    assert wait_for(lambda: 1, message=lambda value: pytest.fail("called")) == 1


def test_words_of_own_for_a_condition():
    """described() renames a condition in every message, also inside a combination."""
    warm = as_condition(lambda: False).described("the cache to be warm")
    with pytest.raises(WaitTimeout, match="waiting for the cache to be warm and the bell to be set: "):
        wait_for(warm & Event("the bell"), 0)
    assert repr(warm) == "<condition: the cache to be warm>"


def test_making_and_awaiting_a_condition_parses_nothing(monkeypatch):
    """The source of a lambda is looked for when a message is written, and not before: that parses its whole file."""
    parsed = []
    monkeypatch.setattr(sources, "_lambda_source", lambda code: parsed.append(code))
    condition = notified(threading.Condition(), lambda: 1)
    assert wait_for(condition) == wait_for(lambda: 1) == wait_for(Value(1).satisfies(lambda v: v)) == 1
    assert parsed == []
    assert "<lambda>()" in condition.what
    assert len(parsed) == 1


def test_a_message_function_that_raises_does_not_hide_the_timeout():
    """A message function that fails leaves the timeout what it is, and is named in it."""
    with pytest.raises(WaitTimeout, match="AttributeError"):
        wait_for(lambda: None, 0, message=lambda value: value.name)
