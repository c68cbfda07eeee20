"""What ``wait_for`` promises of limits, looks, values and errors."""

from __future__ import annotations

import threading

import pytest
from support import LIMIT, Running, together, until

import waitkit
from waitkit import Event, WaitFailed, WaitTimeout, defaults, wait_for


def test_returns_the_true_value():
    """What the callable returned is returned, the very object."""
    value = ["an order"]
    assert wait_for(lambda: value) is value


def test_gaps_grow_to_the_cap(jumping):
    """The gaps between looks are at most 5 % of the time waited, at least 1 ms, at most 250 ms."""
    looks: list[int] = []
    start = jumping.now()
    with pytest.raises(WaitTimeout):
        wait_for(lambda: looks.append(jumping.now()), "60s")
    for before, at in zip(looks[1:], looks[2:], strict=False):
        assert at - before <= max(1_000_000, (before - start) // 20 + 1)
        assert at - before <= 250_000_000
    assert looks[-1] - looks[-2] <= 250_000_000
    assert len(looks) < 400


def test_last_look_is_at_the_deadline(jumping):
    """What becomes true exactly at the deadline is still seen."""
    deadline = jumping.now() + 1_000_000_000
    assert wait_for(lambda: jumping.now() >= deadline, "1s") is True


def test_never_later_than_the_deadline(jumping):
    """The wait ends exactly at its deadline, not a gap later."""
    start = jumping.now()
    with pytest.raises(WaitTimeout) as caught:
        wait_for(lambda: False, "1s")
    assert jumping.now() - start == 1_000_000_000
    assert caught.value.elapsed == 1


def test_zero_is_one_look():
    """A limit of 0 looks once: true is returned, false is an error."""
    looks: list[int] = []
    with pytest.raises(WaitTimeout) as caught:
        wait_for(lambda: looks.append(1), timeout=0)
    assert (len(looks), caught.value.looks) == (1, 1)
    assert wait_for(lambda: 7, timeout=0) == 7


def test_beyond_the_longest_wait_of_the_system():
    """A limit above ``threading.TIMEOUT_MAX`` is as good as any."""
    event = threading.Event()
    threading.Timer(0.01, event.set).start()
    assert wait_for(event, threading.TIMEOUT_MAX * 4)


def test_exceptions_come_through():
    """An exception of the condition ends the wait, unless it was to be ignored."""
    with pytest.raises(LookupError, match="as it is"):
        wait_for(lambda: {}["as it is"], ignore=OSError)


def test_ignored_exceptions_mean_not_yet():
    """Ignored exceptions are waited out; the last one is the cause of the error, and told in it."""
    calls: list[int] = []

    def refused_twice() -> bool:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionRefusedError("not yet")
        return True

    assert wait_for(refused_twice, ignore=OSError) is True
    with pytest.raises(WaitTimeout, match="last: KeyError: 'b'") as caught:
        wait_for(lambda: {"a": 1}["b"], "5ms", ignore=(KeyError, OSError))
    assert isinstance(caught.value.__cause__, KeyError)


def test_interrupts_are_never_ignored():
    """Only exceptions of class Exception can be ignored."""
    with pytest.raises(TypeError, match="each a subclass of Exception"):
        wait_for(lambda: True, ignore=KeyboardInterrupt)


def test_unless_ends_it_at_once():
    """A wait without limit ends when ``unless`` holds; where both hold, the condition wins."""
    failed = Event("failed")
    failed.set()
    with pytest.raises(WaitFailed, match="as first came failed to be set"):
        wait_for(Event(), None, unless=failed)
    assert wait_for(lambda: 5, None, unless=failed) == 5
    later = Event()
    waiting = Running(wait_for, Event(), None)
    waiting2 = Running(lambda: wait_for(Event(), None, unless=later))
    until(lambda: len(later._signal))
    later.set()
    with pytest.raises(WaitFailed):
        waiting2.result()
    assert waiting.thread.is_alive()


def test_the_message_names_what_is_awaited():
    """``message=`` takes the place of the condition's own words; a function gets the value that was judged."""
    with pytest.raises(WaitTimeout, match="waiting for the first order: "):
        wait_for(lambda: None, 0, message="the first order")
    judged: list[object] = []
    with pytest.raises(WaitTimeout, match=r"waiting for 3 of 5 orders: 1 look, last: 0"):
        wait_for(lambda: 0, 0, message=lambda value: judged.append(value) or "3 of 5 orders")
    assert judged == [0]
    assert wait_for(lambda: 1, message=lambda value: pytest.fail("it did not fail")) == 1


def test_an_overrun_is_told(jumping):
    """A look that goes past the deadline is not cut off; the error says how far it went."""
    with pytest.raises(WaitTimeout, match=r"a look ended 4 s past the deadline, as none is cut off"):
        wait_for(lambda: jumping.pass_time(5), "1s")


def test_a_late_success_is_a_success(jumping):
    """A look that began in time and found it true counts, however long it took."""
    assert wait_for(lambda: jumping.pass_time(5) or "late", "1s") == "late"


def test_a_slow_look_is_followed_by_as_long_a_gap(jumping):
    """A look of 100 ms is not repeated after 1 ms: it would fill its thread."""
    looks: list[int] = []
    with pytest.raises(WaitTimeout):
        wait_for(lambda: looks.append(jumping.now()) or jumping.pass_time(0.1), "2s")
    assert all(at - before >= 200_000_000 for before, at in zip(looks[1:-1], looks[2:-1], strict=False))


def test_waiting_inside_a_condition():
    """A condition may itself wait, on the same event even."""
    event = Event()
    threading.Timer(0.01, event.set).start()
    assert wait_for(lambda: wait_for(event, LIMIT) and "both", LIMIT) == "both"


def test_many_threads_with_one_condition():
    """One condition object serves hundreds of threads at once."""
    event = Event()
    condition = (event & (lambda: True)).held_for("1ms")
    waiting = [Running(wait_for, condition, LIMIT) for _ in range(200)]
    event.set()
    assert [thread.result() for thread in waiting] == [(True, True)] * 200


def test_no_lock_is_held_while_looking():
    """A condition that needs what another wait holds cannot deadlock: nothing is held."""
    event = Event()

    def looks_at_the_other() -> bool:
        return Running(wait_for, event, LIMIT).result()

    event.set()
    assert (
        together(lambda: wait_for(looks_at_the_other, LIMIT), lambda: wait_for(looks_at_the_other, LIMIT)) == [True] * 2
    )


def test_default_of_a_block(jumping):
    """Inside ``defaults(timeout=...)`` a wait without limit takes that one; ``None`` takes all limits away."""
    with defaults(timeout="3s"), pytest.raises(WaitTimeout, match="timed out after 3 s"):
        wait_for(Event())


def test_errors_name_the_line():
    """The error names file and line of the call."""
    with pytest.raises(WaitTimeout, match=r"test_wait_for\.py:\d+\)"):
        waitkit.wait_for(lambda: False, 0)


def test_lambdas_are_shown_in_their_own_words():
    """A message has the source of its lambda, and of no other in the line."""
    with pytest.raises(WaitTimeout, match=r"waiting for lambda: \[\] == 1 to be true"):
        wait_for((lambda: [] == 1), 0, message=None or None, ignore=(lambda: KeyError)())

    def named() -> None: ...

    with pytest.raises(WaitTimeout, match=r"named\(\) to be true"):
        wait_for(named, 0)
    with pytest.raises(WaitTimeout, match=r"lambda: len\( \(\) \) > 3 to be true"):
        wait_for(
            lambda: len(
                ()
            ) > 3, 0
        )  # fmt: skip
