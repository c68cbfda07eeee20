"""Sixty small tests about time, of some ten seconds each: ten minutes in all. Each notes what happens, and when.

Each runs in virtual time and, shorter, in real time. Where one thread that sleeps can express it, ``by_hand`` does the same as
a generator of the seconds to sleep, for libraries that know one thread; where one event loop can, ``act`` is a coroutine function.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from waitkit import (
    Event,
    RateLimiter,
    WaitTimeout,
    after,
    fail_after,
    polling,
    retry_backoff,
    wait_for,
    wait_for_async,
)

Trace = list[tuple[float, str]]
Hand = Iterator[float]


@dataclass
class Stage:
    """Where a scenario plays: its clock, at which scale, and what has happened."""

    instant: Callable[[], float]
    scale: float = 1.0
    trace: Trace = field(default_factory=list)

    def s(self, seconds: float) -> float:
        return seconds * self.scale

    def note(self, what: str) -> None:
        self.trace.append((round(self.instant() / self.scale, 6), what))


@dataclass(frozen=True)
class Scenario:
    """*kind* says what it needs: one thread ``alone``, several ``threads``, one ``loop``, or a loop and threads (``both``)."""

    name: str
    kind: Literal["alone", "threads", "loop", "both"]
    act: Callable[[Stage], Any]
    by_hand: Callable[[Stage], Hand] | None = None

    def play(self, stage: Stage) -> Trace:
        if self.kind in ("loop", "both"):
            asyncio.run(self.act(stage))
        else:
            self.act(stage)
        return stage.trace


def together(*functions: Callable[[], object]) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Retries: alone.


def retry(stage: Stage, failures: int, base: float, factor: float) -> None:
    left = iter(range(failures))

    @retry_backoff(
        on=ConnectionError, attempts=100, base=stage.s(base), factor=factor, jitter="none", max_delay=stage.s(100)
    )
    def connect() -> None:
        stage.note("attempt")
        if next(left, None) is not None:
            raise ConnectionError

    connect()


def retry_by_hand(stage: Stage, failures: int, base: float, factor: float) -> Hand:
    for number in range(failures):
        stage.note("attempt")
        yield stage.s(base * factor**number)
    stage.note("attempt")


RETRIES = (
    *((1, 10, 2), (2, 2.5, 3), (3, 1.25, 2.5), (4, 1, 1.5), (10, 1, 1), (20, 0.5, 1)),
    *((4, 2.5, 1), (5, 2, 1), (2, 1, 9), (3, 1, 3), (8, 1.25, 1), (40, 0.25, 1)),
)


# Rates: one caller, or three that share a limiter.


def limit(stage: Stage, rate: int, tokens: int) -> None:
    limiter = RateLimiter(f"{round(rate / stage.scale)}/s")
    for _ in range(tokens):
        limiter.acquire()
        stage.note("sent")


def limit_by_hand(stage: Stage, rate: int, tokens: int) -> Hand:
    for number in range(tokens):
        if number:
            yield stage.s(1 / rate)
        stage.note("sent")


def share(stage: Stage, rate: int, tokens: int) -> None:
    limiter = RateLimiter(f"{round(rate / stage.scale)}/s")

    def send(name: str) -> None:
        for _ in range(tokens):
            limiter.acquire()
            stage.note(name)

    together(*(partial(send, name) for name in "abc"))


LIMITS = ((1, 11), (2, 21), (4, 41), (5, 51), (8, 81), (10, 101))
SHARES = ((2, 7), (5, 17), (8, 27), (11, 37), (14, 47), (17, 57))


# Pollers: one alone, with errors or without, or two beside each other and the test.


def poll(stage: Stage, interval: float, error_interval: float, runs: int, failing: tuple[int, ...]) -> None:
    numbers = iter(range(runs))

    def job() -> None:
        stage.note("run")
        if next(numbers) in failing:
            raise ConnectionError

    polling(job, stage.s(interval), error_interval=stage.s(error_interval), max_runs=runs).start().join(None)


def poll_by_hand(stage: Stage, interval: float, error_interval: float, runs: int, failing: tuple[int, ...]) -> Hand:
    for number in range(runs):
        if number:
            yield stage.s(error_interval if number - 1 in failing else interval)
        stage.note("run")


def poll_beside(stage: Stage, first: float, second: float) -> None:
    one = polling(lambda: stage.note("first"), stage.s(first), timing="fixed_rate")
    two = polling(lambda: stage.note("second"), stage.s(second), timing="fixed_rate")
    with one, two:
        wait_for(after(stage.s(10)), None)
    stage.note("stopped")


POLLS = (
    *((1.0, 1.0, 11, ()), (2.0, 1.0, 6, ()), (0.5, 1.0, 21, ())),
    *((2.0, 1.0, 7, (1, 2)), (4.0, 0.5, 6, (1, 2, 3)), (1.0, 3.0, 6, (0, 2, 4))),
)
POLLS_BESIDE = ((1, 3), (2, 3), (0.7, 1.1), (4, 1.7), (3, 1.3), (2.3, 1.9))


# Deadlines: of one thread, or of several that wait for each other.


def expire(stage: Stage, seconds: float) -> None:
    for _ in range(round(10 / seconds)):
        try:
            wait_for(lambda: False, stage.s(seconds))
        except WaitTimeout:
            stage.note("timed out")


def expire_by_hand(stage: Stage, seconds: float) -> Hand:
    for _ in range(round(10 / seconds)):
        for _ in range(100):
            yield stage.s(seconds / 100)
        stage.note("timed out")


def hand_over(stage: Stage, seconds: float) -> None:
    """A thread works for so long, ten seconds long in all; another has less patience, a third takes what comes."""
    items: queue.Queue[int] = queue.Queue()
    ready = Event()

    def work() -> None:
        for number in range(round(10 / seconds)):
            wait_for(after(stage.s(seconds)), None)
            items.put(number)
        ready.set()

    def take() -> None:
        while not ready.is_set():
            try:
                stage.note(f"took {items.get(timeout=stage.s(seconds * 0.7))}")
            except queue.Empty:
                stage.note("nothing yet")

    def hope() -> None:
        try:
            with fail_after(stage.s(9.5)):
                wait_for(ready, None)
        except WaitTimeout:
            stage.note("gave up")
        wait_for(ready, None)
        stage.note("ready")

    together(work, take, hope)


def results(stage: Stage, seconds: float) -> None:
    """Work in a pool of two, and a result that is awaited with a time-out."""
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(wait_for, after(stage.s(seconds)), None) for _ in range(round(20 / seconds))]
        for future in futures:
            try:
                future.result(stage.s(seconds / 3))
                stage.note("at once")
            except TimeoutError:
                future.result()
                stage.note("late")


EXPIRIES = (10.0, 5.0, 2.0, 1.0)
HAND_OVERS = (1.0, 2.0, 2.5, 5.0)
RESULTS = (1.0, 2.0, 2.5, 5.0)


# Event loops: alone, or with threads.


async def tasks(stage: Stage, seconds: float) -> None:
    items: asyncio.Queue[int] = asyncio.Queue()

    async def work() -> None:
        for number in range(round(10 / seconds)):
            await asyncio.sleep(stage.s(seconds))
            await items.put(number)

    async def take() -> None:
        taken = 0
        while taken < round(10 / seconds):
            try:
                async with asyncio.timeout(stage.s(seconds * 0.7)):
                    stage.note(f"took {await items.get()}")
                taken += 1
            except TimeoutError:
                stage.note("nothing yet")

    await asyncio.gather(work(), take())


async def tasks_and_threads(stage: Stage, seconds: float) -> None:
    done = Event()

    def work() -> None:
        wait_for(after(stage.s(10)), None)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        try:
            await wait_for_async(done, stage.s(seconds))
        except WaitTimeout:
            stage.note("not yet")
    await asyncio.to_thread(thread.join)
    stage.note("done")


TASKS = (1.0, 2.0, 2.5, 5.0, 0.5, 0.25)
TASKS_AND_THREADS = (0.7, 1.1, 1.3, 3.0, 4.0, 6.0)


def _alone(name: str, act: Callable[..., None], by_hand: Callable[..., Hand], *given: Any) -> Scenario:
    return Scenario(name, "alone", lambda stage: act(stage, *given), lambda stage: by_hand(stage, *given))


SCENARIOS = (
    *(_alone(f"retry {given}", retry, retry_by_hand, *given) for given in RETRIES),
    *(_alone(f"limit {given}", limit, limit_by_hand, *given) for given in LIMITS),
    *(_alone(f"poll {given}", poll, poll_by_hand, *given) for given in POLLS),
    *(_alone(f"expire {given}", expire, expire_by_hand, given) for given in EXPIRIES),
    *(Scenario(f"share {given}", "threads", lambda stage, given=given: share(stage, *given)) for given in SHARES),
    *(
        Scenario(f"pollers {given}", "threads", lambda stage, given=given: poll_beside(stage, *given))
        for given in POLLS_BESIDE
    ),
    *(Scenario(f"hand over {given}", "threads", partial(hand_over, seconds=given)) for given in HAND_OVERS),
    *(Scenario(f"results {given}", "threads", partial(results, seconds=given)) for given in RESULTS),
    *(Scenario(f"tasks {given}", "loop", partial(tasks, seconds=given)) for given in TASKS),
    *(Scenario(f"both {given}", "both", partial(tasks_and_threads, seconds=given)) for given in TASKS_AND_THREADS),
)
assert len(SCENARIOS) == 60


def three_threads(stage: Stage) -> Trace:
    """The one that is run again and again: two that retry and send at the same instants, and one that waits for both."""
    limiter = RateLimiter(f"{round(2 / stage.scale)}/s")
    connected = Event()
    left = iter(range(6))

    @retry_backoff(on=ConnectionError, attempts=100, base=stage.s(1), factor=1, jitter="none", max_delay=stage.s(100))
    def connect() -> None:
        stage.note("attempt")
        if next(left, None) is not None:
            raise ConnectionError
        connected.set()

    def send() -> None:
        for _ in range(14):
            limiter.acquire()
            stage.note("sent")

    def watch() -> None:
        while not connected.is_set():
            try:
                wait_for(connected, stage.s(1))
            except WaitTimeout:
                stage.note("not yet")
        stage.note("connected")

    together(connect, send, watch)
    return stage.trace
