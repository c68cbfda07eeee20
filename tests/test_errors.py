"""Errors: what they say, what they carry, and that nothing of it is lost by pickling."""

from __future__ import annotations

import copy
import os
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest
from support import LIMIT, Running, until

from waitkit import (
    Cancelled,
    CancelScope,
    Event,
    StoppedHolding,
    WaitFacts,
    WaitFailed,
    WaitkitError,
    WaitTimeout,
    after,
    consistently,
    wait_for,
)

FACTS = WaitFacts("timed out after 1 s waiting for x", "x", 1.0, 2.0, 3, "None", "a.py:5", ("who", "why"))


@pytest.mark.parametrize("kind", [WaitTimeout, WaitFailed, StoppedHolding, Cancelled])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_pickling(kind, protocol):
    """An error comes out of a pickle with its facts, its words and its notes."""
    error = kind(FACTS)
    error.add_note("seen by the test")
    back = pickle.loads(pickle.dumps(error, protocol))
    assert type(back) is kind
    assert (back.facts, str(back), back.__notes__) == (FACTS, str(error), ["seen by the test"])
    assert copy.copy(error).facts == copy.deepcopy(error).facts == FACTS


def test_a_reason_survives_pickling():
    """What was given to cancel() is in the pickle of the Cancelled."""
    back = pickle.loads(pickle.dumps(Cancelled(FACTS, "enough")))
    assert (back.reason, back.scope) == ("enough", None)


def test_a_cancelled_pickles_while_others_wait_in_its_scope():
    """The scope means nothing elsewhere, so it is left behind: waiters that still stand in it do not hinder."""
    scope, never = CancelScope(), Event()

    def waits():
        with scope:
            wait_for(never, None)

    other = Running(waits)
    until(lambda: len(scope.changed) == 1)
    error = Cancelled(FACTS, "enough", scope)
    try:
        assert pickle.loads(pickle.dumps(error)).scope is None
    finally:
        scope.cancel()
        other.result()


def test_errors_come_out_of_a_worker_process():
    """A WaitTimeout raised in a worker process arrives here with its facts."""
    with ProcessPoolExecutor(1) as pool:
        error = pool.submit(_times_out).exception(LIMIT)
    assert isinstance(error, WaitTimeout)
    assert (error.what, error.looks, error.last) == ("the answer", 1, "[]")


def _times_out():
    wait_for(lambda: [], 0, message="the answer")


def test_the_words_of_a_timeout(virtual):
    """One line says what, how long, how often, what was seen last, and where; and the attributes say the same."""
    with pytest.raises(WaitTimeout) as caught:
        wait_for(lambda: 0, "2s", message="the first order")
    error = caught.value
    assert str(error).startswith("timed out after 2 s waiting for the first order: ")
    assert f": {error.looks} looks, last: 0 (waited at " in str(error)
    assert error.facts.caller.endswith(f"{os.path.basename(__file__)}:{caught.traceback[0].lineno + 1}")
    assert (error.what, error.elapsed, error.facts.limit, error.last) == ("the first order", 2.0, 2.0, "0")


def test_one_look_is_written_in_the_singular():
    """The number agrees with its noun."""
    with pytest.raises(WaitTimeout, match=": 1 look, last: None"):
        wait_for(lambda: None, 0)


def test_what_catches_what():
    """A timeout is a TimeoutError, a stopped condition an AssertionError, and a Cancelled is no Exception."""
    assert issubclass(WaitTimeout, WaitkitError) and issubclass(WaitTimeout, TimeoutError)
    assert issubclass(StoppedHolding, AssertionError) and issubclass(StoppedHolding, WaitFailed)
    assert not issubclass(Cancelled, Exception)
    with pytest.raises(TimeoutError):
        wait_for(lambda: False, 0)
    with pytest.raises(AssertionError):
        consistently(lambda: False, "1s")


def test_the_last_ignored_exception_is_the_cause():
    """The last exception that was ignored is the cause; one that was followed by a plain "no" is not."""
    raised = []

    def fails():
        raised.append(ValueError(len(raised)))
        raise raised[-1]

    with pytest.raises(WaitTimeout, match="last: ValueError: 0") as caught:
        wait_for(fails, 0, ignore=ValueError)
    assert caught.value.__cause__ is raised[-1]

    answers = iter([ValueError("early")])

    def recovers():
        if (error := next(answers, None)) is not None:
            raise error

    with pytest.raises(WaitTimeout) as caught:
        wait_for(recovers, "20ms", ignore=ValueError)
    assert caught.value.__cause__ is None


def test_a_repr_that_raises_does_not_hide_the_error():
    """A last value whose repr fails, or is endless, is named or cut."""

    class Bad:
        def __bool__(self):
            return False

        def __repr__(self):
            raise ZeroDivisionError

    with pytest.raises(WaitTimeout, match=r"<Bad, whose repr\(\) raised ZeroDivisionError>"):
        wait_for(lambda: Bad(), 0)

    class Long(Bad):
        def __repr__(self):
            return "x" * 10_000

    with pytest.raises(WaitTimeout) as caught:
        wait_for(lambda: Long(), 0)
    assert len(caught.value.last) == 200


def test_an_error_holds_no_cycle():
    """A WaitTimeout that is dropped is gone at once: it does not hold itself through its traceback."""
    import gc
    import weakref

    gc.disable()
    try:
        try:
            wait_for(lambda: False, "1ms")
        except WaitTimeout as error:
            reference = weakref.ref(error)
        assert reference() is None
    finally:
        gc.enable()


def test_public_names_show_in_tracebacks():
    """Errors name the module that users import them from."""
    for kind in (WaitTimeout, WaitFailed, StoppedHolding, Cancelled, WaitkitError, WaitFacts):
        assert kind.__module__ == "waitkit"


def test_the_limit_in_the_facts_is_the_tightest(virtual):
    """The limit is what the wait was allowed in all, its own or a scope's."""
    with CancelScope("3s"), pytest.raises(WaitTimeout) as caught:
        wait_for(after("1h"), "2s")
    assert caught.value.facts.limit == 2.0
    with CancelScope("1s") as scope, pytest.raises(Cancelled) as ended:
        wait_for(after("1h"), "2s")
    assert ended.value.facts.limit == 1.0
    assert not scope.cancelled_caught  # pytest took it in before the scope could


def test_a_message_that_raises_does_not_hide_the_error():
    """An ignored exception whose text cannot be had is named by its type."""

    class Bad(Exception):
        def __str__(self):
            raise ZeroDivisionError

    def fails():
        raise Bad

    with pytest.raises(WaitTimeout, match="last: Bad, whose message raised ZeroDivisionError"):
        wait_for(fails, 0, ignore=Bad)


def test_every_overrun_is_told(virtual):
    """What looks take beyond the deadline is told of each of them: the only one, and that of what ends the wait early."""

    def slow(answer: bool) -> bool:
        virtual.advance(3)
        return answer

    with pytest.raises(WaitTimeout, match="looks took 3 s beyond the deadline"):
        wait_for(lambda: slow(False), 0)
    with pytest.raises(WaitFailed, match="looks took 8.5 s beyond the deadline"):
        wait_for(lambda: slow(False), "500ms", unless=lambda: slow(True))
