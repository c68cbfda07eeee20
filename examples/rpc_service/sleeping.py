"""The sleeping edition: each step sleeps as long as such code usually does, and hopes. Kept to be measured against.

This is the one file of the project that sleeps to wait for something. The durations are those such code has: a fraction of
a second for a process to start or to die, 1.5 s for a port to be released, 1 s between two attempts.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable
from multiprocessing.context import ForkServerProcess
from typing import Final, TypeVar

from .background import BackgroundCall, Poller
from .client import Client, ServiceDown
from .edition import Edition, step
from .service import START_METHOD, serve

T = TypeVar("T")

RETRY_DELAY: Final = 1.0
ATTEMPTS: Final = 3
POLL_SLICE: Final = 0.1

#: What each step sleeps in the test's own thread. Nothing is counted that threads beside it sleep at the same time.
SLEEPS: Final = {
    "start": 0.2,  # hope it is ready
    "start_in_vain": 0.5,  # hope it is dead
    "stop": 1.5,  # it is gone: hope its port is released
    "kill": 0.5,  # hope it is dead
    "exited": 0.5,  # hope it is dead
    "port_released": 1.5,
    "retry_in_background": 0.0,
    "arrived": 0.3,  # hope the call has got there
    "refused": 0.3,  # hope it has tried
    "answered": RETRY_DELAY + 0.2,  # it tries again within its delay
    "broken_off": 0.5,
    "retry": 0.0,
    "retry_in_vain": (ATTEMPTS - 1) * RETRY_DELAY,
    "polled": 0.5,  # hope it has run: its interval, or a few of its slices, and some more
    "poller_ended": 0.5,
}


def planned(steps: Iterable[str]) -> float:
    """The seconds that these steps sleep in this edition."""
    return sum(SLEEPS[name] for name in steps)


class SleepingService:
    """A service in a bare ``multiprocessing`` process."""

    def __init__(self, port: int) -> None:
        self.process: ForkServerProcess = multiprocessing.get_context(START_METHOD).Process(
            target=_serve_quietly, args=(port,), daemon=True
        )
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        return self.process.exitcode


def _serve_quietly(port: int) -> None:
    """Serve, without a traceback among our lines where the port is taken."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    serve(port)


class Sleeping(Edition[SleepingService]):
    """Sleeps and hopes."""

    def _sleep(self, seconds: float) -> None:
        self.slept += seconds
        time.sleep(seconds)

    def discard(self, service: SleepingService) -> None:
        service.process.kill()
        service.process.join()

    @step
    def start(self) -> SleepingService:
        service = self.keep(SleepingService(self.port))
        self._sleep(SLEEPS["start"])
        return service

    @step
    def start_in_vain(self) -> SleepingService:
        service = self.keep(SleepingService(self.port))
        self._sleep(SLEEPS["start_in_vain"])
        return service

    @step
    def stop(self, service: SleepingService) -> None:
        service.process.terminate()
        service.process.join(timeout=2)
        self._sleep(SLEEPS["stop"])

    @step
    def kill(self, service: SleepingService) -> None:
        os.kill(service.pid, signal.SIGKILL)
        self._sleep(SLEEPS["kill"])

    @step
    def exited(self, service: SleepingService) -> None:
        self._sleep(SLEEPS["exited"])

    @step
    def port_released(self) -> None:
        self._sleep(SLEEPS["port_released"])

    @step
    def retry_in_background(self, call: Callable[[], T]) -> BackgroundCall[T]:
        return BackgroundCall(call, lambda _: time.sleep(RETRY_DELAY))

    @step
    def arrived(self, client: Client) -> None:
        self._sleep(SLEEPS["arrived"])

    @step
    def refused(self, call: BackgroundCall[T]) -> None:
        self._sleep(SLEEPS["refused"])

    @step
    def answered(self, call: BackgroundCall[T]) -> None:
        self._sleep(SLEEPS["answered"])

    @step
    def broken_off(self, call: BackgroundCall[T]) -> None:
        self._sleep(SLEEPS["broken_off"])

    @step
    def retry(self, call: Callable[[], T], service: SleepingService) -> T:
        return self._retry(call)

    @step
    def retry_in_vain(self, call: Callable[[], object], service: SleepingService) -> ServiceDown:
        try:
            self._retry(call)
        except ServiceDown as refusal:
            return refusal
        raise AssertionError("somebody answered")

    def _retry(self, call: Callable[[], T]) -> T:
        for _ in range(ATTEMPTS - 1):
            try:
                return call()
            except ServiceDown:
                self._sleep(RETRY_DELAY)
        return call()

    def rest(self, poller: Poller) -> None:
        for _ in range(math.ceil(poller.interval / POLL_SLICE)):
            if poller.stopped.is_set() or poller.triggered.is_set():
                return
            time.sleep(POLL_SLICE)

    @step
    def polled(self, poller: Poller, runs: int) -> None:
        self._sleep(SLEEPS["polled"])

    @step
    def poller_ended(self, poller: Poller) -> None:
        self._sleep(SLEEPS["poller_ended"])
