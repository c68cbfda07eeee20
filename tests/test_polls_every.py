"""``@polls_every``: what it decorates, what stays as it was, and which poller belongs to what."""

from __future__ import annotations

import gc
import inspect
import pickle
import sys
import weakref
from functools import partial

import pytest
from support import LIMIT, until

from waitkit import Poller, Value, polling, polls_every, wait_for

count = Value(0)


@polls_every("1h")
def counted(step: int = 1, *, twice: bool = False) -> int:
    """Count."""
    count.set(count.get() + step * (2 if twice else 1))
    return count.get()


class Shop:
    """What has methods of every kind."""

    polled: list[object]

    def __init__(self) -> None:
        self.polled = []

    @polls_every("1h")
    def check(self, what: str = "all") -> str:
        self.polled.append(what)
        return what

    @classmethod
    @polls_every("1h")
    def of_class(cls) -> type:
        return cls

    @polls_every("1h")
    @classmethod
    def of_class_outside(cls) -> type:
        return cls

    @staticmethod
    @polls_every("1h")
    def static() -> str:
        return "static"

    @polls_every("1h")
    @staticmethod
    def static_outside() -> str:
        return "static"


@pytest.fixture(autouse=True)
def _counted_is_stopped():
    count.set(0)
    yield
    counted.stop(LIMIT)


def test_it_stays_callable():
    """A decorated function is called as before, with its name, documentation and signature."""
    assert counted(2, twice=True) == 4
    assert (counted.__name__, counted.__doc__) == ("counted", "Count.")
    assert str(inspect.signature(counted)) == "(step: 'int' = 1, *, twice: 'bool' = False) -> 'int'"


def test_start_trigger_stop():
    """start() gives the poller, trigger() runs it now, stop() ends it; afterwards there is none, and it can be started anew."""
    poller = counted.start()
    assert isinstance(poller, Poller)
    assert counted.poller is poller
    until(count.equals(1))
    counted.trigger()
    until(count.equals(2))
    counted.stop()
    assert (counted.poller, poller.state) == (None, "stopped")
    counted.stop()
    counted.start()
    until(count.equals(3))


def test_the_arguments_of_the_runs():
    """What start() is given is given to every run."""
    counted.start(5, twice=True)
    until(count.equals(10))


def test_one_at_a_time():
    """A second start() is refused while the first poller runs; blocks of their own are not."""
    counted.start()
    with pytest.raises(RuntimeError, match="is running already"):
        counted.start()
    with counted.polling(100) as another:
        until(another.has_run(1))
    assert counted.poller is not None


def test_trigger_without_a_poller():
    """Triggering what does not poll is an error."""
    with pytest.raises(RuntimeError, match=r"counted\(\) is not polled"):
        counted.trigger()


def test_each_instance_has_its_own():
    """Pollers of methods belong to instances, which need be neither hashable nor different."""

    class Odd(Shop):
        __hash__ = None

        def __eq__(self, other: object) -> bool:
            return True

    one, other = Odd(), Odd()
    first = one.check.start("one")
    second = other.check.start()
    until(first.has_run(1) & second.has_run(1))
    assert (one.polled, other.polled) == (["one"], ["all"])
    one.check.stop()
    assert (one.check.poller, other.check.poller) == (None, second)
    other.check.stop()


def test_a_running_poller_keeps_its_instance():
    """An instance nobody else holds is polled on, until its poller is stopped."""
    poller = Shop().check.start()
    until(poller.has_run(1))
    poller.trigger()
    until(poller.has_run(2))
    poller.stop()


@pytest.mark.parametrize("name", ["of_class", "of_class_outside", "static", "static_outside"])
def test_class_and_static_methods(name):
    """Class- and staticmethods are polled in either order of the decorators, called on the class or an instance.

    One order cannot work since Python 3.13, whose classmethod no longer binds what it wraps: that is refused, with the remedy.
    """
    for owner in (Shop, Shop()):
        function = getattr(owner, name)
        assert function() in (Shop, "static")
        if name == "of_class" and sys.version_info >= (3, 13):
            with pytest.raises(TypeError, match="write @polls_every above @classmethod"):
                function.start()
            continue
        poller = function.start()
        until(poller.has_run(1))
        function.stop()
        assert poller.status().failed_runs == 0


def test_callables_and_partials():
    """Partials and objects with __call__ are polled."""

    class Callable:
        def __call__(self) -> int:
            return counted()

    for function in (partial(counted, 1), Callable()):
        decorated = polls_every("1h")(function)
        poller = decorated.start()
        until(poller.has_run(1))
        decorated.stop()
        with polling(function, "1h") as poller:
            wait_for(poller.has_run(1), LIMIT)


def test_generators_and_classes_are_refused():
    """What does nothing when it is called is refused when it is decorated."""

    def generator():
        yield

    async def async_generator():
        yield

    for bad in (generator, async_generator, Shop, 5):
        with pytest.raises(TypeError):
            polls_every(1)(bad)
        with pytest.raises(TypeError):
            polling(bad, 1)


def test_missing_arguments():
    """Arguments that no run could be called with are refused by start(), not by every run."""

    @polls_every(1)
    def needs(one: int) -> None: ...

    with pytest.raises(
        TypeError, match=r"needs\(\) cannot be polled with these arguments: missing a required argument: 'one'"
    ):
        needs.start()
    with pytest.raises(TypeError, match="missing a required argument"):
        polling(needs, 1)
    with pytest.raises(TypeError, match="too many positional arguments"):
        needs.polling(1, 2)


def test_pickling():
    """A decorated function and a bound method pickle where the plain ones do."""
    assert pickle.loads(pickle.dumps(counted)) is counted
    shop = pickle.loads(pickle.dumps(Shop().check)).__self__
    assert isinstance(shop, Shop)


def test_a_poller_that_has_ended_keeps_no_instance():
    """Once its poller has ended, by stop() or by itself, an instance is nobody's but its owner's."""

    class Connection:
        @polls_every("1ms")
        def beat(self):
            pass

        @polls_every("1ms", max_runs=1)
        def greet(self):
            pass

    for name in ("beat", "greet"):
        connection = Connection()
        gone = weakref.ref(connection)
        poller = getattr(connection, name).start()
        if name == "beat":
            getattr(connection, name).stop()
        poller.join(LIMIT)
        del connection, poller
        until(lambda gone=gone: gc.collect() >= 0 and gone() is None)
