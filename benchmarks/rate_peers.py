"""Rate limiters through their own, natural calls: each is made for a rate and a burst of 1, and gives a call that blocks."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from measure import peer

from waitkit import RateLimiter

Acquire = Callable[[], object]
AcquireAsync = Callable[[], Awaitable[object]]

WAITKIT, WAITKIT_ASYNC = "waitkit acquire()", "waitkit acquire_async()"


def waitkit(rate: int) -> Acquire:
    return RateLimiter(f"{rate}/s").acquire


def pyrate_token_bucket(rate: int, **options: int) -> Acquire:
    pyrate = peer("pyrate_limiter")
    rates = [pyrate.Rate(rate, pyrate.Duration.SECOND, burst=1)]
    limiter = pyrate.Limiter(pyrate.StateBucket(rates, algorithm=pyrate.TokenBucket()), **options)
    return lambda: limiter.try_acquire("key")


def pyrate_window(rate: int) -> Acquire:
    pyrate = peer("pyrate_limiter")
    limiter = pyrate.Limiter(pyrate.InMemoryBucket([pyrate.Rate(rate, pyrate.Duration.SECOND)]))
    return lambda: limiter.try_acquire("key")


def limits_recipe(strategy: str) -> Callable[[int], Acquire]:
    """It has no call that waits; this is the recipe of its maintainer."""

    def make(rate: int) -> Acquire:
        limits = peer("limits")
        limiter = getattr(limits.strategies, strategy)(limits.storage.MemoryStorage())
        item = limits.parse(f"{rate}/second")

        def acquire() -> None:
            while not limiter.hit(item, "key"):
                time.sleep(max(0.0, limiter.get_window_stats(item, "key").reset_time - time.time()))

        return acquire

    return make


def ratelimit(rate: int) -> Acquire:
    library = peer("ratelimit")
    return library.sleep_and_retry(library.limits(calls=1, period=1 / rate)(lambda: None))


def ratelimit_window(rate: int) -> Acquire:
    library = peer("ratelimit")
    return library.sleep_and_retry(library.limits(calls=rate, period=1)(lambda: None))


def aiolimiter(rate: int) -> AcquireAsync:
    return peer("aiolimiter").AsyncLimiter(1, 1 / rate).acquire


def waitkit_async(rate: int) -> AcquireAsync:
    return RateLimiter(f"{rate}/s").acquire_async


#: By name: which library, and how it is made for a rate.
THREADS: dict[str, tuple[str, Callable[[int], Acquire]]] = {
    WAITKIT: ("waitkit", waitkit),
    "pyrate-limiter TokenBucket": ("pyrate_limiter", pyrate_token_bucket),
    "pyrate-limiter TokenBucket, buffer_ms=0": ("pyrate_limiter", lambda rate: pyrate_token_bucket(rate, buffer_ms=0)),
    "pyrate-limiter InMemoryBucket (W)": ("pyrate_limiter", pyrate_window),
    "limits MovingWindow, in a loop (W)": ("limits", limits_recipe("MovingWindowRateLimiter")),
    "limits FixedWindow, in a loop (W)": ("limits", limits_recipe("FixedWindowRateLimiter")),
    "ratelimit, 1 each interval": ("ratelimit", ratelimit),
    "ratelimit (W)": ("ratelimit", ratelimit_window),
}
TASKS: dict[str, tuple[str, Callable[[int], AcquireAsync]]] = {
    WAITKIT_ASYNC: ("waitkit", waitkit_async),
    "aiolimiter": ("aiolimiter", aiolimiter),
}
