"""``waits_for``: what it keeps of a type, and what it refuses."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import Any, assert_type

from waitkit import Event, port_listening, waits_for

gate = Event()


@waits_for(gate, timeout="5s")
def function(number: int) -> float:
    return number / 2


@waits_for(lambda: True, timeout=None)
async def coroutine(number: int) -> str:
    return str(number)


assert_type(function(1), float)
coroutine_1: Coroutine[Any, Any, str] = coroutine(1)
function("1")  # E: a text for a number
coroutine()  # E: its argument is missing


class Service:
    @waits_for(port_listening(5432))
    def method(self, number: int) -> str:
        return str(number)

    @classmethod
    @waits_for(gate)
    def outer_class(cls, number: int) -> str:
        return str(number)

    @waits_for(gate)
    @classmethod
    def inner_class(cls, number: int) -> str:
        return str(number)

    @staticmethod
    @waits_for(gate)
    def outer_static(number: int) -> str:
        return str(number)

    @waits_for(gate)
    @staticmethod
    def inner_static(number: int) -> str:
        return str(number)


assert_type(Service().method(1), str)
assert_type(Service.outer_class(1), str)
assert_type(Service.inner_class(1), str)
assert_type(Service.outer_static(1), str)
assert_type(Service.inner_static(1), str)
Service().method("1")  # E: a text for a number
Service.outer_class("1")  # E: a text for a number
Service.inner_class("1")  # E: a text for a number
Service.outer_static("1")  # E: a text for a number
Service.inner_static("1")  # E: a text for a number

assert_type(waits_for(gate)(partial(function, 1)), partial[float])
waits_for()  # E: what for?
waits_for(gate, timeout=[1])  # E: no duration
waits_for(gate, message="the gate")  # E: no such option
waits_for(gate)(5)  # E: no callable
