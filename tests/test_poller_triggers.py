"""Triggers: what makes a poller run before its time, and that none is lost."""

from __future__ import annotations

import multiprocessing
import queue
import random
import threading

import pytest
from support import LIMIT, Running, until

import waitkit
from waitkit import Value, WaitTimeout, path_exists, polling, wait_for


class Seen:
    """A job that notes how much had been asked for when it began."""

    def __init__(self) -> None:
        self.asked = 0
        self.seen = Value(0)

    def __call__(self) -> None:
        self.seen.set(self.asked)


# The pattern that loses triggers, and ours beside it.


class ClearingAfterwards:
    """The loop that many write: wait, work, clear. What is set between the work and the clearing is lost."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.job = Seen()
        self.after_work = lambda: None

    def one_round(self) -> bool:
        heard = self.event.wait(0)
        if heard:
            self.job()
            self.after_work()
            self.event.clear()
        return heard


def test_the_pattern_that_loses_a_trigger():
    """Clearing after the work loses what is set in between: this is the race that pollers must not have."""
    loop = ClearingAfterwards()

    def one_more_order() -> None:
        loop.job.asked = 2
        loop.event.set()

    loop.after_work = one_more_order
    loop.job.asked = 1
    loop.event.set()
    assert loop.one_round()
    assert not loop.one_round()
    assert loop.job.seen.get() == 1


@pytest.mark.parametrize("make", [threading.Event, waitkit.Event])
def test_what_is_set_during_a_run_is_not_lost(make):
    """The same at the same moment: set during the run, and the poller runs once more and sees it."""
    event, job = make(), Seen()

    def work() -> None:
        job()
        if job.asked == 1:
            job.asked = 2
            event.set()

    with polling(work, "1h", first_delay="1h", trigger=event) as poller:
        job.asked = 1
        event.set()
        until(job.seen.equals(2))
        until(poller.has_run(2))
    assert poller.runs == 2
    assert not event.is_set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("trigger", id="trigger()"),
        pytest.param("threading.Event", id="threading.Event"),
        pytest.param("waitkit.Event", id="waitkit.Event"),
        pytest.param("queue", id="queue.Queue"),
    ],
)
def test_no_trigger_is_lost(kind):
    """In 25,000 races of each kind, 100,000 in all, each trigger is answered by a run that begins after it."""
    job = Seen()
    chance = random.Random(7)
    items: queue.Queue[int] = queue.Queue()
    event = waitkit.Event() if kind == "waitkit.Event" else threading.Event()

    def work() -> None:
        while kind == "queue" and not items.empty():
            items.get_nowait()
        job()

    trigger = None if kind == "trigger" else items if kind == "queue" else event
    with polling(work, "1h", trigger=trigger) as poller:
        for number in range(1, 25_001):
            job.asked = number
            if kind == "trigger":
                poller.trigger()
            elif kind == "queue":
                items.put(number)
            else:
                event.set()
            if chance.random() < 0.5:
                until(job.seen.satisfies(lambda seen, number=number: seen >= number))
            else:
                for _ in range(chance.randrange(200)):
                    pass
        until(job.seen.equals(25_000))


def test_triggers_of_many_threads():
    """Triggers of eight threads at once are all answered."""
    asked, seen = [0] * 8, Value([0] * 8)

    def work() -> None:
        seen.set(asked.copy())

    with polling(work, "1h") as poller:

        def pull(me: int) -> None:
            for _ in range(500):
                asked[me] += 1
                mine = asked[me]
                poller.trigger()
                until(seen.satisfies(lambda counts: counts[me] >= mine))

        threads = [Running(pull, me) for me in range(8)]
        for thread in threads:
            thread.result()
    assert poller.runs <= 4_001


def test_triggers_during_a_run_coalesce():
    """A thousand triggers during one run cause exactly one more."""
    began, gate = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        gate.wait(LIMIT)

    with polling(work, "1h") as poller:
        until(began)
        for _ in range(1_000):
            poller.trigger()
        gate.set()
        until(poller.has_run(2))
        poller.trigger()
        until(poller.has_run(3))
    assert poller.runs == 3


@pytest.mark.parametrize("make", [threading.Event, waitkit.Event])
def test_several_pollers_share_an_event(make):
    """Each of several pollers hears of every set() of one event, though the first of them clears it."""
    event = make()
    jobs = [Seen() for _ in range(4)]
    pollers = [polling(job, "1h", first_delay="1h", trigger=event).start() for job in jobs]
    for number in range(1, 2_001):
        for job in jobs:
            job.asked = number
        event.set()
        for job in jobs:
            until(job.seen.satisfies(lambda seen, number=number: seen >= number))
    for poller in pollers:
        poller.stop()


def test_an_event_set_before_the_start():
    """An event that is set already is taken by the first run."""
    event = threading.Event()
    event.set()
    with polling(lambda: None, "1h", first_delay="1h", trigger=event) as poller:
        until(poller.has_run(1))
    assert not event.is_set()


def test_a_queue_is_worked_off():
    """A queue makes the poller run until it is empty, one item a run."""
    items: queue.Queue[int] = queue.Queue()
    got = []
    for number in range(100):
        items.put(number)
    with polling(lambda: got.append(items.get_nowait()), "1h", first_delay="1h", trigger=items) as poller:
        until(poller.has_run(100))
    assert got == list(range(100))


def test_a_failing_run_does_not_spin_on_a_queue():
    """While items wait that a failing run does not take, it runs at its error interval, not all the time."""
    items: queue.Queue[int] = queue.Queue()
    items.put(1)

    def work() -> None:
        raise ValueError

    with polling(work, "1h", error_interval="1h", trigger=items) as poller:
        until(poller.has_run(1))
        items.put(2)
        with pytest.raises(WaitTimeout):
            wait_for(poller.has_run(2), "20ms")


def test_a_condition_triggers_when_it_begins_to_hold():
    """Any other condition makes it run when it begins to hold, not for as long as it holds."""
    level = Value(0)
    with polling(lambda: None, "1h", first_delay="1h", trigger=level.satisfies(lambda value: value > 3)) as poller:
        level.set(2)
        level.set(5)
        until(poller.has_run(1))
        level.set(0)
        until(lambda: poller.state == "waiting")
        level.set(9)
        until(poller.has_run(2))
        with pytest.raises(WaitTimeout):
            wait_for(poller.has_run(3), "20ms")


def test_several_triggers():
    """Each of several conditions triggers."""
    first, second = threading.Event(), waitkit.Event()
    with polling(lambda: None, "1h", first_delay="1h", trigger=(first, second)) as poller:
        first.set()
        until(poller.has_run(1))
        second.set()
        until(poller.has_run(2))
    assert not first.is_set()
    assert not second.is_set()


def test_probed_triggers(tmp_path):
    """What nothing signals triggers, too: it is looked at."""
    with polling(lambda: None, "1h", first_delay="1h", trigger=path_exists(tmp_path / "now")) as poller:
        until(lambda: poller.state == "waiting")
        (tmp_path / "now").touch()
        until(poller.has_run(1))


def test_a_shared_event_of_multiprocessing():
    """A multiprocessing.Event triggers, and is cleared."""
    event = multiprocessing.get_context("spawn").Event()
    with polling(lambda: None, "1h", first_delay="1h", trigger=event) as poller:
        event.set()
        until(poller.has_run(1))
        assert not event.is_set()


def test_a_trigger_during_the_error_interval():
    """A trigger cuts the error interval short."""
    fails = [True]

    def work() -> None:
        if fails:
            fails.pop()
            raise ValueError

    with polling(work, "1h", error_interval="1h") as poller:
        until(poller.has_run(1))
        poller.trigger()
        until(poller.has_run(2))
    assert poller.status().failures == 0


@pytest.mark.parametrize("make", [threading.Event, waitkit.Event])
def test_nothing_stays_behind_in_a_trigger(make):
    """A poller that has stopped is no longer known to its triggers."""
    event = make()
    for _ in range(100):
        poller = polling(lambda: None, "1h", trigger=event).start()
        until(poller.has_run(1))
        poller.stop()
    if make is threading.Event:
        assert len(event._cond._waiters) == 0
    else:
        assert len(event.becomes_set) == 0
