"""Many threads and tasks that do all kinds of things to one limiter at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from fractions import Fraction

from support import LIMIT, Running

from waitkit import CancelScope, Rate, RateLimiter, RateLimitExceeded, move_on_after
from waitkit.engine import clock as engine_clock
from waitkit.engine.clock import SystemClock
from waitkit.rates.store import InProcessStore, Slot

COUNT, PERIOD, BURST = 2000, 1, 6


class NotingClock(SystemClock):
    """The real clock; it notes the last instant that it told each thread."""

    def __init__(self) -> None:
        self._local = threading.local()

    def now(self) -> int:
        self._local.instant = super().now()
        return self._local.instant

    @property
    def told(self) -> int:
        return self._local.instant


class NotingStore(InProcessStore):
    """Keeps all that was charged, for which instant, and not given back."""

    def __init__(self, clock: NotingClock) -> None:
        super().__init__()
        self.clock = clock
        self.charged: dict[int, tuple[int, int]] = {}
        self.cancelled = 0
        self.receipts: list[object] = []  # kept, so that no other has the id of one

    def reserve(self, tokens: int, longest: int | None = None, ahead: int = 0) -> Slot:
        with self._lock:
            slot = super().reserve(tokens, longest, ahead)
            if slot.receipt is not None:
                self.charged[id(slot.receipt)] = (self.clock.told + slot.wait, tokens)
                self.receipts.append(slot.receipt)
            return slot

    def take(self, tokens: int) -> bool:
        return self.reserve(tokens, 0).receipt is not None

    def cancel(self, slot: Slot) -> bool:
        with self._lock:
            given = super().cancel(slot)
            if given:
                del self.charged[id(slot.receipt)]
                self.cancelled += 1
            return given


def one_step(limiter: RateLimiter, chance: random.Random) -> int:
    """Something that may be done to a limiter. Returns how many tokens were used."""
    tokens = chance.randint(1, 3)
    what = chance.randrange(6)
    if what == 0:
        return tokens if limiter.try_acquire(tokens) else 0
    if what == 1:
        with contextlib.suppress(RateLimitExceeded):
            limiter.acquire(tokens, timeout=chance.random() / 200)
            return tokens
        return 0
    if what == 2:
        with move_on_after(chance.random() / 500) as scope:
            limiter.acquire(tokens)
        return 0 if scope.cancelled_caught else tokens
    if what == 3:
        turn = limiter.reserve(tokens)
        if chance.random() < 0.6 and turn.cancel():
            return 0
        with contextlib.suppress(RuntimeError):
            turn.wait()
        return tokens
    if what == 4 and chance.random() < 0.05:
        limiter.penalize("2ms")
        return 0
    limiter.acquire(tokens)
    return tokens


async def one_async_step(limiter: RateLimiter, chance: random.Random) -> None:
    if chance.random() < 0.3:
        with CancelScope(chance.random() / 300):
            await limiter.acquire_async(2)
    elif chance.random() < 0.3:
        async with limiter.reserve() as turn:
            await turn.wait_async()
    else:
        await limiter.acquire_async(chance.randint(1, 3))


def test_never_more_than_allowed_at_any_concurrency():
    """Whatever threads and tasks do at the same time, what was charged keeps the rate in every window, and nobody hangs."""
    clock = NotingClock()
    engine_clock.use_clock(clock)
    store = NotingStore(clock)
    limiter = RateLimiter(Rate(f"{COUNT}/{PERIOD}s", BURST), store=store)
    used: list[int] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        used.append(sum(one_step(limiter, chance) for _ in range(60)))

    def loop() -> None:
        async def task(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(30):
                await one_async_step(limiter, chance)

        async def main() -> None:
            await asyncio.wait_for(asyncio.gather(*(task(seed) for seed in range(100, 104))), 2 * LIMIT)

        asyncio.run(main())

    running = [*(Running(work, seed) for seed in range(6)), Running(loop)]
    for thread in running:
        thread.result()
    assert limiter.waiting == 0
    charged = sorted(store.charged.values())
    assert sum(tokens for _, tokens in charged) >= sum(used)
    assert store.cancelled
    for first in range(len(charged)):
        total = 0
        for due, tokens in charged[first:]:
            total += tokens
            assert total <= BURST + Fraction(COUNT * (due - charged[first][0]), PERIOD * 1_000_000_000)
