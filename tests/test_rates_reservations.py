"""Reservations: a place taken without waiting, its time, and what is left when it is given back."""

from __future__ import annotations

import asyncio
import gc
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Running, until

from waitkit import (
    CancelScope,
    Rate,
    RateLimiter,
    RateLimitExceeded,
    Reservation,
    WaitTimeout,
    fail_after,
    virtual_clock,
)
from waitkit.engine.clock import now

SECOND = 1_000_000_000


def test_a_place_without_waiting(virtual):
    """Reservations are told their times at once; each is one interval after the other, and time has not passed."""
    limiter, start = RateLimiter("10/s", burst=2), now()
    reserved = [limiter.reserve() for _ in range(5)]
    assert [turn.delay for turn in reserved] == pytest.approx([0, 0, 0.1, 0.2, 0.3])
    assert now() == start
    assert {turn.tokens for turn in reserved} == {1}


def test_waiting_for_it(virtual):
    """``wait`` returns when the turn has come, at once where it had come before, and again when asked again."""
    limiter, start = RateLimiter("10/s"), now()
    limiter.acquire()
    first, second = limiter.reserve(), limiter.reserve()
    second.wait()
    assert now() - start == 2 * SECOND // 10
    first.wait()
    second.wait()
    assert now() - start == 2 * SECOND // 10


def test_waiting_in_a_loop():
    """``wait_async`` is the same for tasks; ``async with`` gives the reservation itself."""
    limiter = RateLimiter("200/s")

    async def main() -> list[float]:
        limiter.acquire()
        async with limiter.reserve() as turn:
            before = turn.delay
            await turn.wait_async()
        return [before, turn.delay]

    before, after = asyncio.run(main())
    assert 0 < before <= 0.005
    assert after == 0


def test_cancelled_before_its_turn(virtual):
    """All its tokens come back, those behind move up, and it cannot be waited for any more."""
    limiter = RateLimiter("10/s", burst=5)
    limiter.acquire(5)
    large, small = limiter.reserve(4), limiter.reserve()
    assert small.delay == pytest.approx(0.5)
    assert large.cancel()
    assert small.delay == pytest.approx(0.1)
    assert not large.cancel(), "it is given back once"
    with pytest.raises(RuntimeError, match="was cancelled"):
        large.wait()
    assert limiter.delay() == pytest.approx(0.2)


def test_waiters_behind_move_up():
    """Who waits in the line behind a reservation that is cancelled gets its place at once."""
    limiter = RateLimiter("1/h", burst=10)
    limiter.acquire(10)
    large = limiter.reserve(9)
    waiting = Running(lambda: limiter.acquire())
    until(lambda: limiter.waiting == 1)
    behind = limiter.reserve()
    assert behind.delay > 10 * 3600
    large.cancel()
    assert 3600 < behind.delay < 2.1 * 3600
    limiter.change("1000/s", burst=10)
    waiting.result()
    behind.wait()


def test_a_waiting_reservation_moves_up():
    """A thread that waits for its reservation is woken when the one before is cancelled."""
    limiter = RateLimiter("1/h", Rate("1000/h", 1000), burst=2)
    limiter.acquire(2)
    first, second = limiter.reserve(2), limiter.reserve(1)
    waiting = Running(second.wait)
    until(lambda: len(second._turn.changed))
    first.cancel()
    assert second.delay < 3601
    limiter.change("1000/s", "1000/s", burst=2)
    waiting.result()


def test_cancelled_while_it_is_waited_for():
    """A wait for a reservation that somebody else cancels ends at once, and says so."""
    limiter = RateLimiter("1/h")
    limiter.acquire()
    turn = limiter.reserve()
    waiting = Running(turn.wait)
    until(lambda: len(turn._turn.changed))
    assert turn.cancel()
    with pytest.raises(RuntimeError, match="was cancelled"):
        waiting.result()


def test_used_is_used(virtual):
    """What was waited for cannot be given back."""
    turn = RateLimiter("10/s").reserve()
    turn.wait()
    assert not turn.cancel()
    assert "used" in repr(turn)


def test_given_back_after_its_turn(virtual):
    """A turn that came and was not used can be given back as long as nothing was taken after it."""
    limiter = RateLimiter("1/min", burst=2)
    first, second = limiter.reserve(), limiter.reserve()
    assert second.cancel()
    assert first.cancel()
    assert limiter.idle
    first = limiter.reserve()
    assert limiter.try_acquire()
    assert not first.cancel(), "the one behind came at a time that counted it"
    assert limiter.delay() == pytest.approx(60)


def test_leaving_the_block_by_an_exception(virtual):
    """Before its turn the tokens come back; after it they do not, as they may have been used."""
    limiter = RateLimiter("1/min")
    limiter.acquire()
    with pytest.raises(LookupError), limiter.reserve():
        raise LookupError
    assert limiter.delay() == pytest.approx(60)
    with pytest.raises(LookupError), limiter.reserve() as turn:
        turn.wait()
        raise LookupError
    assert limiter.delay() == pytest.approx(60)
    idle = RateLimiter("1/min")
    with pytest.raises(LookupError), idle.reserve():
        raise LookupError
    assert idle.delay() == pytest.approx(60), "its turn had come at once, and its delay may have been acted upon"
    with limiter.reserve():
        pass
    assert limiter.delay() == pytest.approx(120), "left without an exception, it stays"

    async def main() -> None:
        async with limiter.reserve():
            raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(main())
    assert limiter.delay() == pytest.approx(120)


@pytest.mark.parametrize("form", ["plain", "coroutine"])
def test_a_scope_ends_the_wait_and_leaves_the_place(form):
    """Cancelling a scope ends the wait within a wake-up; the place is kept, or given back by the block around."""
    limiter, scope = RateLimiter("1/h"), CancelScope()
    limiter.acquire()

    def wait(turn: Reservation) -> None:
        if form == "plain":
            turn.wait()
        else:
            asyncio.run(turn.wait_async())

    def work() -> None:
        with scope, limiter.reserve() as turn:
            wait(turn)

    kept = limiter.reserve()
    working = Running(work)
    until(lambda: len(scope.changed))
    scope.cancel()
    working.result()
    assert scope.cancelled_caught
    assert 3600 < limiter.delay() <= 2 * 3600, "that of the block came back, the other did not"
    with scope:
        wait(kept)
    assert 3000 < kept.delay <= 3600, "a wait that is ended leaves a reservation as it is"


def test_a_deadline_ends_the_wait(virtual):
    """The deadline of a scope ends the wait for a reservation, too."""
    limiter = RateLimiter("1/h")
    limiter.acquire()
    turn = limiter.reserve()
    with pytest.raises(WaitTimeout), fail_after("5s"):
        turn.wait()
    assert turn.delay == pytest.approx(3595)


def test_forgotten_it_keeps_nobody(virtual):
    """One that nobody waits for is charged at its time, and those behind get their turns at theirs."""
    limiter, start = RateLimiter("1/s"), now()
    limiter.acquire()
    limiter.reserve()
    limiter.reserve(timeout="5s")
    gc.collect()
    limiter.acquire()
    assert now() - start == 3 * SECOND
    limiter.reserve()
    virtual.advance(2)
    assert limiter.idle
    assert limiter.try_acquire()


def test_what_would_come_too_late(virtual):
    """A timeout that the turn would exceed refuses at once and costs nothing; so does more than the burst."""
    limiter = RateLimiter("1/s", burst=3)
    limiter.acquire(3)
    with pytest.raises(RateLimitExceeded) as caught:
        limiter.reserve(2, timeout="1s")
    assert caught.value.retry_after == pytest.approx(2)
    with pytest.raises(RateLimitExceeded, match="can never give"):
        limiter.reserve(4)
    assert limiter.delay() == pytest.approx(1)
    assert limiter.reserve(2, timeout="2s").delay == pytest.approx(2)


def test_try_acquire_does_not_barge(virtual):
    """While a reservation is to come nobody gets tokens before it, though there are enough for a small request."""
    limiter = RateLimiter("1/s", burst=5)
    limiter.acquire(3)
    large = limiter.reserve(5)
    assert large.delay == pytest.approx(3)
    assert not limiter.try_acquire()
    assert large.cancel()
    assert limiter.try_acquire()


def test_behind_those_who_wait():
    """A reservation comes after all who wait already, with a time that is certain."""
    limiter = RateLimiter("1/h", burst=2)
    limiter.acquire(2)
    waiting = []
    for number in range(3):
        waiting.append(Running(lambda: limiter.acquire()))
        until(lambda number=number: limiter.waiting == number + 1)
    turn = limiter.reserve()
    assert 3.9 * 3600 < turn.delay <= 4 * 3600
    with pytest.raises(RateLimitExceeded):
        limiter.reserve(timeout="4h")
    assert limiter.delay() <= 5 * 3600
    limiter.change("1000/s", burst=2)
    for thread in waiting:
        thread.result()


def test_penalize_and_change_move_it(virtual):
    """A pause moves those who have reserved behind it, one interval apart; other rates give them other times."""
    limiter = RateLimiter("1/s", burst=3)
    limiter.acquire(3)
    turns = [limiter.reserve(), limiter.reserve(timeout="2s"), limiter.reserve()]
    limiter.penalize("30s")
    assert [turn.delay for turn in turns] == pytest.approx([30, 31, 32])
    limiter.change("10/s", burst=3)
    assert [turn.delay for turn in turns] == pytest.approx([30, 30.1, 30.2])
    turns[1].wait()
    limiter.reserve(3)
    with pytest.raises(ValueError, match="someone waits for 3 tokens"):
        limiter.change("10/s", burst=2)


def test_what_has_come_stays(virtual):
    """A turn that has come is not moved by anything that happens later, whether it was waited for or not."""
    limiter = RateLimiter("1/s", burst=2)
    come = [limiter.reserve(), limiter.reserve()]
    to_come = limiter.reserve()
    limiter.penalize("10s")
    assert [turn.delay for turn in (*come, to_come)] == pytest.approx([0, 0, 10])
    limiter.change("1/min", burst=2)
    assert [turn.delay for turn in (*come, to_come)] == pytest.approx([0, 0, 60])
    virtual.advance(60)
    limiter.penalize("10s")
    assert to_come.delay == 0
    for turn in (*come, to_come):
        turn.wait()


def test_cancelling_after_a_pause_keeps_the_pause(virtual):
    """What comes back does not come before the end of a pause."""
    limiter = RateLimiter("1/s", burst=100)
    limiter.acquire(100)
    far = limiter.reserve(100)
    limiter.penalize("30s")
    assert far.delay == pytest.approx(129)
    assert far.cancel()
    assert limiter.delay() == pytest.approx(30)
    assert limiter.delay(2) == pytest.approx(31)


amounts = st.integers(1, 5)


@given(
    count=st.integers(1, 20),
    period=st.integers(1, 20),
    burst=st.integers(5, 9),
    second=st.tuples(st.integers(1, 50), st.integers(1, 60), st.integers(5, 12)),
    taken=st.integers(0, 5),
    tokens=st.lists(st.tuples(amounts, st.booleans()), max_size=25),
    seed=st.integers(0, 1000),
)
def test_cancelled_is_as_if_it_had_never_been(count, period, burst, second, taken, tokens, seed):
    """After cancelling any of several reservations in any order, the others have the times they would have without them."""
    with virtual_clock():

        def limiter() -> RateLimiter:
            made = RateLimiter(Rate(f"{count}/{period}s", burst), Rate(f"{second[0]}/{second[1]}s", second[2]))
            if taken:
                assert made.try_acquire(taken)
            return made

        one, other = limiter(), limiter()
        turns = [(one.reserve(amount), kept) for amount, kept in tokens]
        twins = [other.reserve(amount) for amount, kept in tokens if kept]
        given_up = [turn for turn, kept in turns if not kept]
        random.Random(seed).shuffle(given_up)
        came_back = []
        for turn in given_up:
            to_come = turn.delay > 0
            came_back.append(turn.cancel())
            assert came_back[-1] or not to_come, "before its turn it always comes back"
        if all(came_back):
            assert [turn.delay for turn, kept in turns if kept] == [twin.delay for twin in twins]
            assert [one.delay(n) for n in range(1, 6)] == [other.delay(n) for n in range(1, 6)]
            assert one.idle == other.idle


steps = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), amounts),
        st.tuples(st.just("try_"), amounts),
        st.tuples(st.just("reserve"), amounts),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("use"), st.integers(0, 30)),
        st.tuples(st.just("penalize"), st.integers(0, 3_000)),
        st.tuples(st.just("change"), st.integers(0, 3)),
        st.tuples(st.just("pass_"), st.integers(0, 3_000)),
    ),
    max_size=60,
)

RATES = [(10, 1, 5), (3, 10, 7), (1, 2, 5), (50, 3, 9)]


class Model:
    """A limiter in virtual time, and beside it a list of what came due when."""

    def __init__(self, clock: virtual_clock) -> None:
        self.clock = clock
        self.limiter = RateLimiter(_rate(0), SECOND_RATE)
        self.changes = [(now(), RATES[0])]
        self.granted: list[tuple[int, int]] = []
        self.open: list[Reservation] = []
        self.closed = 0

    def settle(self) -> None:
        for turn in [turn for turn in self.open if turn._turn.due <= now()]:
            self.granted.append((turn._turn.due, turn.tokens))
            self.open.remove(turn)

    def acquire(self, tokens: int) -> None:
        self.limiter.acquire(tokens)
        self.granted.append((now(), tokens))

    def try_(self, tokens: int) -> None:
        if self.limiter.try_acquire(tokens):
            assert now() >= self.closed
            self.granted.append((now(), tokens))

    def reserve(self, tokens: int) -> None:
        self.open.append(self.limiter.reserve(tokens))

    def cancel(self, which: int) -> None:
        if self.open:
            assert self.open.pop(which % len(self.open)).cancel()

    def use(self, which: int) -> None:
        if self.open:
            self.open[which % len(self.open)].wait()

    def penalize(self, milliseconds: int) -> None:
        self.limiter.penalize(milliseconds / 1000)
        self.closed = max(self.closed, now() + milliseconds * 1_000_000)
        assert all(turn._turn.due >= self.closed for turn in self.open)

    def change(self, which: int) -> None:
        self.limiter.change(_rate(which), SECOND_RATE)
        self.changes.append((now(), RATES[which]))

    def pass_(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds / 1000)

    def allowed(self, start: int, end: int) -> Fraction:
        """The burst at the start of a window, and what flows at the rates in force until its end."""
        total, bursts = Fraction(0), []
        for (since, (count, period, burst)), (until_, _) in zip(
            self.changes, [*self.changes[1:], (10**30, None)], strict=True
        ):
            if since <= start <= until_:
                bursts.append(burst)
            total += Fraction(count * max(0, min(end, until_) - max(start, since)), period * SECOND)
        return max(bursts) + total


SECOND_RATE = Rate("5/2s", 8)


def _rate(which: int) -> Rate:
    count, period, burst = RATES[which]
    return Rate(f"{count}/{period}s", burst)


@given(steps)
def test_never_more_than_allowed_whatever_is_done(script):
    """Of any mix of requests, reservations, cancellations, pauses and changes, any window holds at most burst + rate * t."""
    with virtual_clock() as clock:
        model = Model(clock)
        for what, number in script:
            model.settle()
            getattr(model, what)(number)
            model.settle()
        clock.advance(1e6)
        model.settle()
        assert not model.open
    granted = sorted(model.granted)
    for first in range(len(granted)):
        total = 0
        for at, tokens in granted[first:]:
            total += tokens
            assert total <= model.allowed(granted[first][0], at)
            assert total <= 8 + Fraction(5 * (at - granted[first][0]), 2 * SECOND)
