"""Timers: one heap, one thread, in order, and nothing kept of what was cancelled."""

from __future__ import annotations

import os
import random
import threading

import freezegun
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import LIMIT, Running, together, until

from waitkit import Event, WaitTimeout, wait_for
from waitkit.engine import background, timers
from waitkit.engine.clock import now
from waitkit.engine.frames import current_frames
from waitkit.engine.parking import Parker
from waitkit.engine.timers import Timers


@pytest.fixture
def own():
    """Timers apart from those of the process."""
    return Timers()


def test_timers_fire_in_order_of_time_and_then_of_coming(own):
    """What is due first fires first, and what is due at the same instant fires in the order it came."""
    fired, done = [], Event()
    start = now() + 20_000_000
    order = [3, 1, 2, 1, 3, 2, 0]
    for coming, offset in enumerate(order):
        own.call_at(start + offset * 1_000, lambda due=offset, coming=coming: fired.append((due, coming)))
    own.call_at(start + 10_000, done.set)
    wait_for(done, LIMIT)
    assert fired == sorted((due, coming) for coming, due in enumerate(order))


def test_no_timer_fires_early(own):
    """A timer fires at its instant or after it, not before."""
    lateness, done = [], Event()
    chance = random.Random(3)
    for _ in range(300):
        due = now() + chance.randrange(5_000_000)
        own.call_at(due, lambda due=due: lateness.append(now() - due))
    own.call_at(now() + 10_000_000, done.set)
    wait_for(done, LIMIT)
    assert len(lateness) == 300
    assert min(lateness) >= 0


def test_an_earlier_timer_overtakes_a_later_one(own):
    """While the thread rests for a far timer, a nearer one fires at its own time."""
    done = Event()
    own.call_at(now() + 10**15, lambda: pytest.fail("fired"))
    until(lambda: any(frame.f_locals.get("place") is own._watch.parker.place for frame in current_frames().values()))
    own.call_at(now() + 1_000_000, done.set)
    wait_for(done, LIMIT)


def test_a_past_instant_is_due_at_once(own):
    """An instant that has passed is no error: the timer fires."""
    done = Event()
    own.call_at(0, done.set)
    wait_for(done, LIMIT)


def test_cancelled_timers_do_not_fire(own):
    """What is cancelled does not fire; cancelling twice, or after the call, does nothing."""
    fired, done = [], Event()
    for number in range(200):
        timer = own.call_at(now() + 5_000_000, lambda number=number: fired.append(number))
        if number % 2:
            timer.cancel()
            timer.cancel()
            assert not timer.live
    last = own.call_at(now() + 20_000_000, done.set)
    wait_for(done, LIMIT)
    assert fired == list(range(0, 200, 2))
    last.cancel()


@given(st.randoms(use_true_random=True), st.integers(0, 100))
def test_dead_entries_are_dropped(chance, share):
    """However many timers are cancelled, at most about half of the agenda is dead: memory follows what lives."""
    cancelled = [chance.randrange(100) < share for _ in range(450)]
    own = Timers()
    own._watch = timers._Watch(Parker())  # no thread: only the agenda is looked at
    living = 0
    for cancel in cancelled:
        timer = own.call_at(now() + 10**15, lambda: None)
        if cancel:
            timer.cancel()
        else:
            living += 1
        assert len(own._agenda) <= max(2 * living, living + 66)


def test_ten_thousand_cancelled_timers_leave_almost_nothing(own):
    """Timers of waits that ended in time, each far away, are not kept until they come up."""
    for _ in range(10_000):
        own.call_at(now() + 10**15, lambda: None).cancel()
    assert len(own._agenda) < 100


def test_many_threads_at_once(own):
    """Eight threads that add and cancel timers all the time see each of the others fire exactly once."""
    fired: list[tuple[int, int]] = []

    def adds(who):
        chance = random.Random(who)
        for number in range(500):
            timer = own.call_at(now() + chance.randrange(2_000_000), lambda number=number: fired.append((who, number)))
            if chance.random() < 0.3:
                own.call_at(now() + 10**12, lambda: fired.append((-1, -1))).cancel()
            assert timer.due

    together(*[lambda who=who: adds(who) for who in range(8)])
    until(lambda: len(fired) >= 4_000)
    assert sorted(fired) == [(who, number) for who in range(8) for number in range(500)]


def test_the_thread_ends_when_it_is_idle_and_starts_again(own, monkeypatch):
    """The thread is a daemon with waitkit's name, goes when nothing is left to do, and comes back for the next timer."""
    monkeypatch.setattr(timers, "LINGER", 1_000_000)
    before = set(threading.enumerate())
    for _ in range(3):
        done = Event()
        own.call_at(now() + 20_000_000, done.set)
        [thread] = [t for t in set(threading.enumerate()) - before if t.name == "waitkit-timers"]
        assert thread.daemon
        wait_for(done, LIMIT)
        wait_for(thread, LIMIT)
        assert own._watch is None


def test_a_thread_that_cannot_start_is_told_and_tried_again(own, monkeypatch):
    """Where no thread can be started the caller hears it, and the next timer tries again."""

    def refuses(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch, pytest.raises(background.CannotStart, match="can't start"):
        patch.setattr(threading.Thread, "start", refuses)
        own.call_at(now(), lambda: None)
    done = Event()
    own.call_at(now(), done.set)
    wait_for(done, LIMIT)


def test_timers_and_their_end_do_not_race(own, monkeypatch):
    """A timer that comes just as the idle thread ends still fires."""
    monkeypatch.setattr(timers, "LINGER", 0)

    def rounds():
        for _ in range(2_000):
            done = Event()
            own.call_at(now(), done.set)
            wait_for(done, LIMIT)

    Running(rounds).result()


class LyingLock:
    """A lock after whose release something happens, if it is the thread of the timers that releases it."""

    def __init__(self, lock, happens):
        self._lock, self._happens = lock, happens

    def __enter__(self):
        return self._lock.__enter__()

    def __exit__(self, *exc):
        self._lock.__exit__(*exc)
        if threading.current_thread().name == "waitkit-timers":
            self._happens()


@pytest.mark.parametrize("moment", range(1, 6))
def test_a_timer_that_comes_when_the_thread_lets_go_of_its_lock(own, monkeypatch, moment):
    """A timer that comes at any release of the lock fires, be it the last before the idle thread ends."""
    monkeypatch.setattr(timers, "LINGER", 0)
    event, releases = Event(), []

    def adds():
        releases.append(1)
        if len(releases) == moment:
            own.call_at(now(), event.set)

    own._lock = LyingLock(own._lock, adds)
    own.call_at(now(), lambda: None)
    until(lambda: len(releases) >= min(moment, 3))
    if len(releases) < moment:
        own.call_at(now(), lambda: None)
    wait_for(event, LIMIT)


def test_a_timer_that_comes_after_the_very_last_look(own, monkeypatch):
    """A timer that comes between the decision of the thread to end and its end is not forgotten."""
    monkeypatch.setattr(timers, "LINGER", 0)
    event, decided = Event(), []
    ended = own._ended

    def lets_a_timer_in(idle_until):
        over = ended(idle_until)
        if over and not decided:
            decided.append(1)
            own.call_at(now(), event.set)
        return over

    monkeypatch.setattr(own, "_ended", lets_a_timer_in)
    own.call_at(now(), lambda: None)
    wait_for(event, LIMIT)


def test_rests_in_frozen_time():
    """A wait in a test that has frozen the clocks of Python rests as always: it does not look again and again."""
    looks = []
    with freezegun.freeze_time("2020-01-01"), pytest.raises(WaitTimeout):
        wait_for(lambda: looks.append(1), "100ms")
    assert len(looks) < 80


# Callbacks that may last.


@pytest.fixture
def one_at_a_time(own):
    """A gate at which a lasting callback stays until it is opened, and who was in it."""
    gate, inside = threading.Event(), []

    def stays():
        inside.append(threading.current_thread())
        assert gate.wait(LIMIT)

    yield gate, inside, stays
    gate.set()


def test_short_callbacks_that_might_last_share_one_thread(own):
    """What may last and does not is called by the thread of the timers itself, without another one for each."""
    who, done = set(), Event()
    for number in range(1_000):
        own.call_at(now() + number * 10_000, lambda: who.add(threading.current_thread().name), lasting=True)
    own.call_at(now() + 20_000_000, done.set)
    wait_for(done, LIMIT)
    assert who == {"waitkit-timers"}


def test_one_that_lasts_does_not_hold_up_the_others(own, one_at_a_time):
    """While a callback goes on, a deputy has taken over, and the others fire; the thread that comes back ends."""
    gate, inside, stays = one_at_a_time
    own.call_at(now(), stays, lasting=True)
    until(lambda: inside)
    for _ in range(3):
        done = Event()
        own.call_at(now(), done.set)
        wait_for(done, LIMIT)
    assert own._out == 1
    gate.set()
    wait_for(inside[0], LIMIT)
    assert own._out == 0


def test_as_many_that_last_as_you_like(own, one_at_a_time):
    """Of many that go on at once few keep threads of the timers; the workers have the others, and all are in progress."""
    _, inside, stays = one_at_a_time
    for _ in range(20):
        own.call_at(now(), stays, lasting=True)
    until(lambda: len(inside) == 20)
    assert own._out <= timers.MOST_OUT
    assert sum(thread.name == "waitkit-worker" for thread in inside) >= 20 - timers.MOST_OUT - 1
    done = Event()
    own.call_at(now(), done.set)
    wait_for(done, LIMIT)


def test_the_deputy_is_told_where_it_rests_for_too_long(own, one_at_a_time, monkeypatch):
    """A callback that begins long before the deputy's next look is looked after all the same."""
    _, inside, stays = one_at_a_time
    monkeypatch.setattr(timers, "LINGER", 10**12)
    done = Event()
    own.call_at(now() + 10**13, lambda: None)
    own.call_at(now(), done.set, lasting=True)
    wait_for(done, LIMIT)
    until(lambda: own._deputy_due > now() + 10**11)
    own.call_at(now(), stays, lasting=True)
    until(lambda: inside)
    done = Event()
    own.call_at(now(), done.set)
    wait_for(done, LIMIT)


def test_the_deputy_ends_when_nothing_lasts_any_more(own, monkeypatch):
    """A while after the last callback that might have lasted the deputy is gone, though there are timers."""
    monkeypatch.setattr(timers, "LINGER", 20_000_000)
    done = Event()
    own.call_at(now() + 10**13, lambda: None)
    own.call_at(now(), done.set, lasting=True)
    wait_for(done, LIMIT)
    until(lambda: own._deputy is None)
    assert own._watch is not None


def test_what_was_taken_with_one_that_lasts_does_not_wait_for_it(own, one_at_a_time):
    """Of several that are due at once the first holds up the others only until the deputy comes, who goes on with them."""
    (_, inside, stays), fired = one_at_a_time, []
    due = now() + 2_000_000
    own.call_at(due, stays, lasting=True)
    for number in range(4):
        own.call_at(due, lambda number=number: fired.append(number), lasting=number < 3)
    until(lambda: sorted(fired) == [0, 1, 2, 3])
    assert len(inside) == 1


def test_no_deputy_to_be_had(own, monkeypatch):
    """Where no thread can be started, what may last goes to a worker, or is called all the same."""
    done, first = Event(), Event()
    own.call_at(now(), first.set)
    wait_for(first, LIMIT)

    def refuses(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuses)
    own.call_at(now(), done.set, lasting=True)
    wait_for(done, LIMIT)


def test_slack_lets_those_that_come_soon_share_a_wake_up(own):
    """What may be late waits for others that come within its slack, and all that is due then fires."""
    start, fired, done = now() + 30_000_000, [], Event()
    for offset in (0, 300_000, 600_000):
        own.call_at(start + offset, lambda offset=offset: fired.append(offset), slack=1_000_000)
    assert own._next(own._watch) == (None, start + 1_000_000)
    own.call_at(start + 400_000, done.set)
    assert own._next(own._watch) == (None, start + 400_000), "what has no slack is not late"
    wait_for(done, LIMIT)
    until(lambda: fired == [0, 300_000, 600_000])


def test_slack_is_for_company_alone(own):
    """What may be late, but has no company, comes at its time."""
    due = now() + 10**12
    own.call_at(due, lambda: None, slack=1_000_000)
    own.call_at(due + 2_000_000, lambda: None)
    assert own._next(own._watch) == (None, due)


def test_a_callback_that_forks(own):
    """In the child of a callback that forks nobody watches the timers of the parent."""
    fired, child = [], []
    reader, writer = os.pipe()

    def tell():
        if child == [0]:
            os.write(writer, b"fired in the child")

    def forks():
        own.call_at(now(), tell)
        child.append(os.fork())
        if child == [0]:
            own_thread = threading.current_thread()
            threading.Thread(target=lambda: (own_thread.join(), os._exit(0))).start()

    own.call_at(now(), forks, lasting=True)
    until(lambda: child)
    os.close(writer)
    assert os.waitpid(child[0], 0)[1] == 0
    assert os.read(reader, 99) == b""
    os.close(reader)
    own.call_at(now(), lambda: fired.append(1))
    until(lambda: fired)
