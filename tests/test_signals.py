"""Signals of the system: Ctrl-C ends a wait, and a handler may wake the very thread it interrupts."""

from __future__ import annotations

import contextlib
import dis
import os
import random
import signal
import sys
import threading

import pytest
from support import LIMIT, Running, handler, nudges, send_to_main, until, waiters

from waitkit import (
    CancelScope,
    Event,
    Value,
    WaitTimeout,
    fail_after,
    notified,
    readable,
    subscribe,
    wait_for,
)
from waitkit.engine.signals import ConditionHook
from waitkit.ground import records


@pytest.fixture(autouse=True)
def _nudged():
    with nudges():
        yield


def ctrl_c_once(armed):
    """Send SIGINT to the main thread as soon as *armed* is true; returns what tells that it was heard."""
    heard = threading.Event()

    def sends():
        until(armed)
        send_to_main(signal.SIGINT, heard)

    return Running(sends), heard


def test_ctrl_c_ends_a_wait_and_leaves_nothing():
    """KeyboardInterrupt comes out of a wait for everything at once, which then stands nowhere any more."""
    event, value, scope = Event(), Value(0), CancelScope()
    plain, condition = threading.Event(), threading.Condition()
    reader, writer = os.pipe()
    waited_for = (event | value.equals(1)) | plain | notified(condition, lambda: False) | readable(reader)
    sending, heard = ctrl_c_once(lambda: len(scope.changed) and waiters(condition))
    with pytest.raises(KeyboardInterrupt), scope:
        wait_for(waited_for, None)
    heard.set()
    sending.result()
    assert (len(event._signal), len(value._signal), len(scope.changed)) == (0, 0, 0)
    assert (waiters(plain._cond), waiters(condition)) == (0, 0)
    assert not scope.cancelled_caught
    os.close(reader)
    os.close(writer)


def test_raise_signal_in_a_look():
    """A signal raised by the condition itself ends the wait with the handler's exception."""
    records = []
    with subscribe(records.append), pytest.raises(KeyboardInterrupt):
        wait_for(lambda: signal.raise_signal(signal.SIGINT), 1)
    assert [record.outcome for record in records] == ["error"]


@pytest.mark.parametrize("wakes", ["event", "threading", "value", "notify", "cancel"])
def test_a_handler_wakes_the_wait_it_interrupts(wakes):
    """A handler that sets an event, replaces a value, notifies or cancels ends the wait it runs in, every time."""
    chance = random.Random(wakes)
    for _ in range(150):
        event, plain, value, scope = Event(), threading.Event(), Value(0), CancelScope()
        condition, flag = threading.Condition(), []
        heard = threading.Event()

        def notify(condition=condition, flag=flag):
            flag.append(1)
            with condition:
                condition.notify()

        act, awaited = {
            "event": (event.set, event),
            "threading": (plain.set, plain),
            "value": (lambda value=value: value.set(1), value.equals(1)),
            "notify": (notify, notified(condition, lambda flag=flag: flag)),
            "cancel": (scope.cancel, Event()),
        }[wakes]

        def sends(heard=heard, spin=chance.randrange(3_000)):
            for _ in range(spin):
                pass
            send_to_main(signal.SIGUSR1, heard)

        with handler(signal.SIGUSR1, lambda act=act, heard=heard: (act(), heard.set())):
            sending = Running(sends)
            with scope:
                wait_for(awaited, LIMIT)
            sending.result()
        assert scope.cancelled_caught == (wakes == "cancel")


def test_a_handler_may_wait_itself():
    """A handler that waits, inside the wait it interrupts, ends before it, and both get what they wait for."""
    outer, inner, heard, order = Event(), Event(), threading.Event(), []

    def waits():
        heard.set()
        order.append(wait_for(inner, LIMIT))
        outer.set()

    def sends():
        until(lambda: len(outer._signal))
        send_to_main(signal.SIGUSR1, heard)
        until(lambda: len(inner._signal))
        inner.set()

    with handler(signal.SIGUSR1, waits):
        sending = Running(sends)
        assert wait_for(outer, LIMIT)
    sending.result()
    assert order == [True]


def test_signals_of_no_concern_do_not_end_a_wait():
    """A wait goes on through handlers that do not concern it, and does not pile up looks for them."""
    event, count = Event(), []

    def sends():
        until(lambda: len(event._signal))
        for _ in range(20):
            heard.clear()
            send_to_main(signal.SIGUSR1, heard)
        event.set()

    heard = threading.Event()
    records = []
    with subscribe(records.append), handler(signal.SIGUSR1, lambda: (count.append(1), heard.set())):
        sending = Running(sends)
        wait_for(event, LIMIT)
    sending.result()
    assert len(count) == 20
    # the event's own wake-up, and those of the preparation: not one for each signal
    assert next(record for record in records if record.thread == "MainThread").looks <= 4


def test_an_exception_of_a_handler_comes_through():
    """What a handler raises ends the wait and comes out of it, a scope's deadline or not."""
    event, heard = Event(), threading.Event()

    def raises():
        heard.set()
        raise LookupError("from the handler")

    def sends():
        until(lambda: len(event._signal))
        send_to_main(signal.SIGUSR1, heard)

    with handler(signal.SIGUSR1, raises):
        sending = Running(sends)
        with pytest.raises(LookupError, match="from the handler"), fail_after(LIMIT):
            wait_for(event)
    sending.result()
    assert len(event._signal) == 0


#: The first bytecode of a handler. An exception before it would leave the interpreter in a state that is none; no signal is
#: handled there.
PUSH_EXC_INFO = dis.opmap["PUSH_EXC_INFO"]


def interrupted_at(call, step, function, where):
    """Run *function*, with a KeyboardInterrupt before the *step*-th bytecode of the *call*-th call inside waitkit.

    Returns whether there was such a call, and whether it had so many. *where* is told. An interpreter that does not tell of
    bytecodes (3.12.1) tells of lines. Only one call is followed: to follow all would take time by the square of their number.
    """
    calls = seen = 0

    def count(frame, kind, argument):
        nonlocal seen
        if kind in ("opcode", "line") and frame.f_code.co_code[frame.f_lasti] != PUSH_EXC_INFO:
            seen += 1
            if seen == step:
                sys.settrace(None)
                where[:] = [frame.f_code.co_qualname, frame.f_lineno]
                raise KeyboardInterrupt
        return count

    def follow(frame, kind, argument):
        nonlocal calls
        if _module(frame).startswith(FOLLOWED) and not _for_the_clock(frame):
            calls += 1
            frame.f_trace_opcodes = True  # of each: it may have an effect only from the next run of this code on
            if calls == call:
                return count
        return None

    before = sys.gettrace()
    sys.settrace(follow)
    try:
        function()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return calls >= call, seen >= step


def _module(frame):
    return frame.f_globals.get("__name__", "")


def _for_the_clock(frame):
    """Whether the virtual clock called this, for itself: no part of a wait."""
    while frame is not None and _module(frame) != __name__:
        if _module(frame).startswith("waitkit.virtual"):
            return True
        frame = frame.f_back
    return False


FOLLOWED = ("waitkit.engine", "waitkit.waits", "waitkit.conditions")


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["held", "timeout"])
def test_an_interrupt_before_any_bytecode_leaves_nothing(virtual, ends, monkeypatch):
    """Wherever in a wait Ctrl-C falls, in its beginning or its end too, no subscription and no lock stays behind."""
    monkeypatch.setattr(
        records, "_subscribers", ()
    )  # the plugin records all waits, and what it notes is not the subject
    event, value, scope, condition = Event(), Value(0), CancelScope(), threading.Condition()

    def never():
        return False

    signalled = event | value.equals(1) | notified(condition, never)

    def waits():
        with contextlib.suppress(WaitTimeout):
            wait_for(signalled | _true_at(3 if ends == "held" else 99), "500us")

    def attempts(call):
        step, where = 0, []
        while True:
            step += 1
            with scope:
                exists, more = interrupted_at(call, step, waits, where)
            left = len(event._signal), len(value._signal), len(value._passed), len(scope.changed), waiters(condition)
            assert left == (0, 0, 0, 0, 0), f"interrupted before bytecode {step} of call {call}, {where}"
            assert condition.acquire(False)
            condition.release()
            if not more:
                return exists, step

    total, call, exists = 0, 0, True
    while exists:
        call += 1
        # A thread for each call: where no signal is ever handled, in the middle of what leaves a handler, the interpreter is
        # left with a current exception, which would be the context of all later ones.
        exists, steps = Running(attempts, call).result()
        total += steps
    assert total > 1_000, "the wait was not interrupted at all"


@pytest.mark.parametrize("change", ["set", "clear", "cancel", "notify", "value"])
def test_an_interrupted_change_is_told(change):
    """Wherever in a change Ctrl-C falls: where it was made, all who wait for it are told."""

    def attempt(call, step):
        event, value, scope, plain, heard = Event(), Value(0), CancelScope(), threading.Event(), []
        if change == "clear":
            event.set()
        others = (
            threading.Lock()
        )  # as one in Event.wait() has: of a notify that it was not told of, we need not be told
        others.acquire()
        plain._cond._waiters.append(others)
        signals = {
            "set": (event._signal, event.becomes_set),
            "clear": (event._signal,),
            "cancel": (scope.changed,),
            "notify": (ConditionHook.of(plain._cond),),
            "value": (value._signal,),
        }[change]
        for signal_ in signals:
            for number in range(3):
                signal_.subscribe(lambda number=number: heard.append(number))
        act, made = {
            "set": (event.set, event.is_set),
            "clear": (event.clear, lambda: not event.is_set()),
            "cancel": (scope.cancel, lambda: scope.cancel_called),
            "notify": (plain.set, lambda: not others.locked()),
            "value": (lambda: value.set(1), value.get),
        }[change]
        where = []
        exists, more = interrupted_at(call, step, act, where)
        if made():
            assert {*heard} == {0, 1, 2}, f"interrupted before bytecode {step} of call {call}, {where}"
            assert len(heard) >= 3 * len(signals)
        return exists, more

    def attempts(call):
        step, more, exists = 0, True, True
        while more:
            step += 1
            exists, more = attempt(call, step)
        return exists, step

    total, call, exists = 0, 0, True
    while exists:
        call += 1
        exists, steps = Running(attempts, call).result()  # a thread for each call, as above
        total += steps
    assert total > 10, "nothing was interrupted at all"


def _true_at(look):
    looks = []

    def true():  # no lambda: to describe one takes 50,000 bytecodes
        looks.append(1)
        return len(looks) >= look

    return true
