"""Scopes: deadlines nest, cancelling reaches everything inside, and each end is told where it belongs."""

from __future__ import annotations

import asyncio
import threading

import pytest
from support import LIMIT, Running, until

from waitkit import (
    Cancelled,
    CancelScope,
    Event,
    WaitTimeout,
    after,
    fail_after,
    move_on_after,
    wait_for,
    wait_for_async,
)
from waitkit.engine.clock import now


def test_fail_after_raises_at_its_block(virtual):
    """The deadline of ``fail_after`` travels as Cancelled, and is a WaitTimeout at its own block, naming the wait."""
    inside: list[BaseException] = []
    with pytest.raises(WaitTimeout, match="waiting for the answer") as caught, fail_after("5s"):
        try:
            wait_for(Event(), message="the answer")
        except BaseException as error:
            inside.append(error)
            raise
    assert isinstance(inside[0], Cancelled)
    assert caught.value.elapsed == 5


def test_an_inner_except_does_not_take_the_outer_deadline(virtual):
    """``except WaitTimeout`` inside of a scope does not swallow the scope's own end."""
    with move_on_after("5s") as scope:
        try:
            wait_for(Event())
        except WaitTimeout:
            pytest.fail("the scope's deadline was mistaken for the wait's")
        pytest.fail("the block went on")
    assert scope.cancelled_caught


def test_the_tightest_deadline_wins(virtual):
    """Of an outer scope, an inner scope and the wait's own limit, the earliest ends the wait, and is blamed."""
    start = now()
    with move_on_after("9s") as outer, move_on_after("5s") as inner:
        wait_for(Event(), "7s")
    assert (now() - start, outer.cancelled_caught, inner.cancelled_caught) == (5_000_000_000, False, True)
    with move_on_after("2s") as outer, move_on_after("5s") as inner:
        wait_for(Event(), "7s")
    assert (outer.cancelled_caught, inner.cancelled_caught) == (True, False)
    with pytest.raises(WaitTimeout, match="timed out after 1 s"), move_on_after("5s") as inner:
        wait_for(Event(), "1s")
    assert not inner.cancelled_caught


def test_all_waits_share_the_deadline(virtual):
    """The waits of a block use up one time together, without a limit of their own."""
    with pytest.raises(WaitTimeout) as caught, fail_after("30s"):
        wait_for(after("12s"))
        wait_for(after("12s"))
        wait_for(Event())
    assert caught.value.elapsed == 6
    assert caught.value.facts.limit == 6


def test_without_a_deadline_the_default_stays(virtual):
    """A scope that has no deadline leaves the default limit of a wait in force."""
    with pytest.raises(WaitTimeout, match="timed out after 10 s"), CancelScope():
        wait_for(Event())


def test_cancelled_from_another_thread():
    """``cancel()`` ends a wait without limit in another thread, which leaves its block quietly, with the reason told."""
    scope, seen = CancelScope(), []

    def work() -> None:
        with scope:
            try:
                wait_for(Event("never"), None)
            except Cancelled as error:
                seen.append(error.reason)
                raise

    working = Running(work)
    until(lambda: len(scope.changed))
    scope.cancel("shutting down")
    working.result()
    assert scope.cancelled_caught
    assert seen == ["the scope was cancelled: shutting down"]


def test_handed_to_other_threads():
    """One scope, entered by several threads, ends them all; each leaves its own block."""
    scope = CancelScope()

    def work() -> str:
        with scope:
            wait_for(Event(), None)
        return "left"

    workers = [Running(work) for _ in range(5)]
    until(lambda: len(scope.changed) == 5)
    scope.cancel()
    assert [worker.result() for worker in workers] == ["left"] * 5


def test_a_cancelled_scope_ends_waits_before_they_begin():
    """In a scope that was cancelled no look is made any more, even at what holds."""
    looks: list[int] = []
    with CancelScope() as scope:
        scope.cancel()
        wait_for(lambda: looks.append(1) or True)
    assert (looks, scope.cancelled_caught) == ([], True)


def test_threads_do_not_inherit_scopes():
    """A thread started inside a scope is not in it."""
    with move_on_after(0) as scope:
        assert Running(wait_for, after("1ms")).result() is True
    assert not scope.cancelled_caught


def test_tasks_inherit_scopes():
    """A wait of a task obeys the scope it was started in, and the loop goes on meanwhile."""

    async def main() -> list[int]:
        ticks = []

        async def tick() -> None:
            while True:
                ticks.append(1)
                await wait_for_async(after("1ms"))

        ticking = asyncio.create_task(tick())
        with move_on_after("50ms") as scope:
            await wait_for_async(Event(), None)
        ticking.cancel()
        assert scope.cancelled_caught
        return ticks

    assert len(asyncio.run(main())) > 3


def test_left_out_of_order():
    """Scopes are left in the order opposite to that in which they were entered; anything else is refused."""
    outer, inner = CancelScope(), CancelScope()
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(RuntimeError, match="not the innermost"):
        outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)
    outer.__exit__(None, None, None)


def test_other_exceptions_pass():
    """A scope takes in its own cancellation and nothing else."""
    with pytest.raises(LookupError), CancelScope() as scope:
        scope.cancel()
        raise LookupError
    facts = _facts()
    with pytest.raises(Cancelled), CancelScope(), CancelScope("1h") as inner:
        inner.cancel()
        raise Cancelled(facts, "somebody else's")
    assert not inner.cancelled_caught


def _facts():
    try:
        wait_for(Event(), 0)
    except WaitTimeout as error:
        return error.facts
    raise AssertionError


def test_remaining(virtual):
    """``remaining`` counts from the first entry, and never below nothing."""
    scope = CancelScope("5s")
    assert scope.remaining is None
    with scope:
        assert scope.remaining == 5
        virtual.advance(2)
        assert scope.remaining == 3
        virtual.advance(20)
        assert scope.remaining == 0
    assert CancelScope().remaining is None


def test_a_signalled_wait_is_ended_while_it_rests():
    """Cancelling wakes a thread that rests in the kernel: with no limit and nothing else to wake it."""
    scope, resting = CancelScope(), threading.Event()

    def work() -> bool:
        with scope:
            resting.set()
            wait_for(threading.Event(), None)
        return scope.cancelled_caught

    working = Running(work)
    assert resting.wait(LIMIT)
    scope.cancel()
    assert working.result() is True


@pytest.mark.parametrize("also_fails", [False, True])
@pytest.mark.parametrize("kind", [move_on_after, fail_after])
def test_the_end_of_a_scope_in_a_task_group(virtual, kind, also_fails):
    """Tasks of a group inside of a scope end with it; what else went wrong in the group comes out, in a group as it was."""
    scope = kind("1s")

    async def fails_late() -> None:
        try:
            await wait_for_async(Event(), None)
        finally:
            raise LookupError

    async def main() -> None:
        with scope:
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(wait_for_async(Event(), None))
                if also_fails:
                    group.create_task(fails_late())

    if also_fails:
        with pytest.raises(BaseExceptionGroup) as caught:
            asyncio.run(main())
        assert [type(error) for error in caught.value.exceptions] == [LookupError]
    elif kind is fail_after:
        with pytest.raises(WaitTimeout, match="an event to be set"):
            asyncio.run(main())
    else:
        asyncio.run(main())
    assert scope.cancelled_caught
    assert virtual.elapsed == 1


def test_a_group_without_the_end_of_this_scope():
    """A group in which nothing is of this scope passes as it is."""
    group = BaseExceptionGroup("of others", [ValueError()])
    with pytest.raises(BaseExceptionGroup) as caught, CancelScope() as scope:
        raise group
    assert caught.value is group
    assert not scope.cancelled_caught
