"""Stores: the limiter works on any, and leaves queues and timers to none of them."""

from __future__ import annotations

import asyncio
import math
import pickle
import subprocess
import sys
import threading
from functools import partial

import pytest
from rate_stores import SqliteStore
from support import LIMIT, ROOT, Running, together, until

from waitkit import RateLimiter, RateLimitExceeded, fail_after, rate_limited, wait_for, wait_for_async
from waitkit.engine.clock import now
from waitkit.rates.store import ONLY_ASK, InProcessStore

SECOND = 1_000_000_000


@pytest.fixture(params=["in process", "file"])
def store(request, tmp_path):
    """A new store, and a way to make another that shares its state."""
    if request.param == "file":
        return lambda: SqliteStore(tmp_path / "state.db")
    shared = InProcessStore()
    return lambda: shared


def test_two_limiters_share_a_store(virtual, store):
    """What one takes the other has not: together they keep to the rate."""
    one, other = (RateLimiter("10/s", burst=2, store=store()) for _ in range(2))
    start, times = now(), []
    for number in range(8):
        (one, other)[number % 2].acquire()
        times.append((now() - start) / 1e9)
    assert times == pytest.approx([0, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert not other.try_acquire()
    assert other.delay() == pytest.approx(0.1)


def test_the_contract(virtual, store):
    """Each step of the contract: relative waits, refusals that cost nothing, exact returns, pauses, other rates."""
    opened = store()
    opened.open(RateLimiter("10/s", "30/min", burst=5).rates)
    assert opened.full()
    assert opened.reserve(3).wait == 0
    assert opened.reserve(3, ONLY_ASK).wait == SECOND // 10
    assert opened.reserve(3, ONLY_ASK).receipt is None
    assert opened.reserve(1, ONLY_ASK, ahead=3).wait == SECOND * 2 // 10
    refused = opened.reserve(3, SECOND // 20)
    assert (refused.wait, refused.receipt) == (SECOND // 10, None)
    assert opened.reserve(6) == (None, None)
    first = opened.reserve(3, SECOND // 10)
    second = opened.reserve(1)
    assert (first.wait, second.wait) == (SECOND // 10, 2 * SECOND // 10)
    assert not opened.cancel(first), "one behind it was promised its time"
    assert opened.cancel(second)
    assert opened.cancel(first)
    assert opened.reserve(3, ONLY_ASK).wait == SECOND // 10
    opened.penalize(10 * SECOND)
    assert opened.reserve(2, ONLY_ASK).wait == 12 * SECOND
    assert opened.reserve(1, ONLY_ASK).wait == 10 * SECOND
    opened.change(RateLimiter("1/s", "30/min", burst=5).rates)
    assert opened.reserve(1, ONLY_ASK).wait == 10 * SECOND
    assert opened.reserve(2, ONLY_ASK).wait == 12 * SECOND
    assert not opened.full()
    assert not opened.take(1)
    virtual.advance(200)
    assert opened.full()
    assert opened.take(5)
    assert not opened.take(1)


def test_other_rates_are_refused(store):
    """Limiters that share a store share its rates."""
    RateLimiter("10/s", burst=2, store=store())
    with pytest.raises(ValueError, match="in use with other rates"):
        RateLimiter("11/s", burst=2, store=store())


def test_the_limiter_does_not_change(virtual, store):
    """Reservations, cancelling, pauses and other rates work on any store alike."""
    limiter, start = RateLimiter("10/s", burst=2, store=store()), now()
    limiter.acquire(2)
    first, second = limiter.reserve(2), limiter.reserve()
    assert [first.delay, second.delay] == pytest.approx([0.2, 0.3])
    assert first.cancel()
    assert second.delay == pytest.approx(0.1)
    limiter.penalize("5s")
    assert second.delay == pytest.approx(5)
    limiter.change("1/s", burst=2)
    assert second.delay == pytest.approx(5)
    second.wait()
    limiter.acquire()
    assert now() - start == pytest.approx(6 * SECOND)
    with pytest.raises(RateLimitExceeded):
        limiter.acquire(timeout="900ms")
    with pytest.raises(RateLimitExceeded):
        limiter.reserve(timeout="900ms")
    with pytest.raises(RateLimitExceeded, match="can never"):
        limiter.acquire(3)
    assert limiter.delay(3) == math.inf
    assert limiter.delay() == pytest.approx(1)
    assert not limiter.idle
    virtual.advance(10)
    assert limiter.idle


@pytest.mark.parametrize("form", ["plain", "coroutine"])
def test_one_trip_for_each_grant(tmp_path, form):
    """A caller asks the store once for its slot, whether it must wait or not; one that waits in the line asks nothing."""
    store = SqliteStore(tmp_path / "state.db")
    limiter = RateLimiter("1000/s", store=store)
    store.trips.clear()

    async def main() -> None:
        await asyncio.gather(*(limiter.acquire_async() for _ in range(5)))
        await limiter.acquire_async(timeout="10s")

    if form == "coroutine":
        asyncio.run(main())
    else:
        together(*[limiter.acquire] * 5)
        limiter.acquire(timeout="10s")
    assert store.trips == ["reserve"] * 6


def test_places_behind_a_slot_of_another(virtual, tmp_path):
    """Where another process has reserved behind, a cancelled place is lost, and nobody gets more than allowed by it."""
    one, other = (RateLimiter("1/s", store=SqliteStore(tmp_path / "state.db")) for _ in range(2))
    one.acquire()
    mine, theirs = one.reserve(), other.reserve()
    assert not mine.cancel()
    assert theirs.delay == pytest.approx(2)
    assert one.delay() == pytest.approx(3)
    later = one.reserve()
    one.penalize("10s")
    assert [theirs.delay, later.delay] == pytest.approx([2, 10])
    stands, theirs = one.reserve(), other.reserve()
    assert [stands.delay, theirs.delay] == pytest.approx([11, 12])
    one.penalize("20s")
    assert [stands.delay, theirs.delay] == pytest.approx([20, 12]), "what it cannot take anew it holds back"


def test_the_loop_goes_on_while_the_store_is_asked(tmp_path):
    """Tasks ask a store that may take its time from other threads; those cancelled give back what they had."""
    store = SqliteStore(tmp_path / "state.db")
    limiter = RateLimiter("1/h", store=store)
    limiter.acquire()
    loop_threads = []
    reserve = store.reserve

    def noting(*args):
        try:
            asyncio.get_running_loop()
            loop_threads.append("loop")
        except RuntimeError:
            loop_threads.append("other")
        return reserve(*args)

    store.reserve = noting

    async def main() -> None:
        first = asyncio.ensure_future(limiter.acquire_async())
        second = asyncio.ensure_future(limiter.acquire_async())
        await wait_for_async(lambda: limiter.waiting == 2 and limiter._queue._held, LIMIT)
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)

    asyncio.run(main())
    assert set(loop_threads) == {"other"}
    until(lambda: limiter.waiting == 0)
    assert 3000 < limiter.delay() <= 3600, "the slot of the first came back"


def test_a_store_that_fails(tmp_path, store):
    """What a store raises reaches the caller who asked; the next in the line asks for itself."""
    limiter = RateLimiter("1000/s", store=store())
    working = limiter._store.reserve
    failing = []

    def fail(*args, **options):
        failing.append(1)
        raise ConnectionError("the store is down")

    limiter._store.reserve = fail
    limiter._store.take = fail
    with pytest.raises(ConnectionError), fail_after(LIMIT):
        limiter.acquire()
    assert limiter.waiting == 0
    del limiter._store.take
    limiter._store.reserve = working
    with fail_after(LIMIT):
        limiter.acquire()


CHILD = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from rate_stores import SqliteStore
from waitkit import RateLimiter
from waitkit.engine.clock import now
limiter = RateLimiter("100/s", burst=3, store=SqliteStore(Path({file!r}), offset=10**15))
sys.stdin.readline()
for _ in range(25):
    limiter.acquire()
    print(now(), flush=True)
"""


def test_two_processes(tmp_path):
    """Two processes share a rate by a clock that is not theirs: every window holds what is allowed, and one for lateness each."""
    file = tmp_path / "state.db"
    RateLimiter("100/s", burst=3, store=SqliteStore(file, offset=10**15))
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD.format(path=[str(ROOT), str(ROOT / "tests")], file=str(file))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    reading = [Running(child.communicate) for child in children]
    times = sorted(int(line) for thread in reading for line in thread.result()[0].split())
    assert [child.returncode for child in children] == [0, 0]
    assert len(times) == 50
    for first in range(50):
        for last in range(first, 50):
            assert last - first + 1 <= 3 + 2 + math.ceil(100 * (times[last] - times[first]) / 1e9)


@pytest.mark.parametrize("form", ["left", "cancelled"])
def test_a_reservation_in_a_loop_is_given_back_in_a_thread(tmp_path, form):
    """A block that is left early in a coroutine gives its place back, without the loop asking the store."""
    store = SqliteStore(tmp_path / "state.db")
    limiter = RateLimiter("1/h", store=store)
    limiter.acquire()
    cancel, threads = store.cancel, []

    def noting(slot):
        threads.append(threading.current_thread())
        return cancel(slot)

    store.cancel = noting

    async def leaves() -> None:
        async with limiter.reserve() as turn:
            if form == "left":
                raise LookupError
            await turn.wait_async()

    async def main() -> None:
        task = asyncio.ensure_future(leaves())
        await asyncio.sleep(0)
        if form == "cancelled":
            task.cancel()
        await asyncio.wait([task])
        assert isinstance(await asyncio.gather(task, return_exceptions=True), list)

    asyncio.run(main())
    assert threads
    assert threading.current_thread() not in threads
    assert limiter.delay() <= 3600


def test_decorator_with_a_store(virtual, store):
    """A limiter with a store is given to the decorator as any other."""
    start = now()

    @rate_limited(RateLimiter("1/s", store=store()))
    def call() -> float:
        return (now() - start) / 1e9

    assert [call() for _ in range(3)] == pytest.approx([0, 1, 2])


def test_no_store():
    """What is no store is refused."""
    with pytest.raises(TypeError, match=r"store='redis://' is no waitkit\.rates\.store\.Store"):
        RateLimiter("1/s", store="redis://")


def test_a_limiter_with_a_shared_store_travels(tmp_path):
    """Pickled, it is another limiter on the same store; so is what it decorates."""
    limiter = RateLimiter("2/h", burst=2, name="shared", store=SqliteStore(tmp_path / "state"))
    copied = pickle.loads(pickle.dumps(limiter))
    limited = pickle.loads(pickle.dumps(rate_limited(copied, timeout=0)(partial(abs, -3))))
    assert copied.name == "shared"
    assert copied.rates == limiter.rates
    limiter.acquire()
    assert limited() == 3
    assert not limiter.try_acquire()
    with pytest.raises(RateLimitExceeded):
        limited()


def test_cancelled_while_the_store_says_now(tmp_path):
    """A task that is cancelled while the store is just giving it its slot gives it back: nobody has used it."""
    store = SqliteStore(tmp_path / "state.db")
    limiter = RateLimiter("1/h", store=store)
    asked, go_on = threading.Event(), threading.Event()
    reserve = store.reserve

    def slow(*args):
        slot = reserve(*args)
        asked.set()
        wait_for(go_on, LIMIT)
        return slot

    store.reserve = slow

    async def main() -> None:
        task = asyncio.ensure_future(limiter.acquire_async())
        await wait_for_async(asked, LIMIT)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        store.reserve = reserve
        go_on.set()
        await wait_for_async(lambda: limiter.delay() == 0, LIMIT)

    asyncio.run(main())
    assert limiter.try_acquire()
