"""What goes on in threads beside a test: a poller, and a call that is retried. How they rest is handed to them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from .client import ServiceDown

T = TypeVar("T")


class Poller:
    """Does *work* at once and then every *interval* seconds, until :meth:`stop`. A service that is down does not end it.

    Args:
        work: what to do.
        interval: the seconds from the end of a run to the beginning of the next.
        rest: called between two runs; returns when the interval is over, ``triggered`` is set or ``stopped`` is set.
    """

    def __init__(self, work: Callable[[], object], interval: float, rest: Callable[[Poller], object]) -> None:
        self.interval = interval
        self.stopped = threading.Event()
        self.triggered = threading.Event()
        #: notified after each run; its lock guards the two counts
        self.changed = threading.Condition()
        self.runs = 0
        self.failures = 0
        self._work = work
        self._rest = rest
        self.thread = threading.Thread(target=self._loop, name="poller", daemon=True)
        self.thread.start()

    def trigger(self) -> None:
        """Have it run now instead of at the end of the interval."""
        self.triggered.set()

    def stop(self) -> None:
        """Tell it to end. It has ended when its thread has."""
        self.stopped.set()

    def _loop(self) -> None:
        while not self.stopped.is_set():
            self.triggered.clear()  # before the work, so that a trigger during it is not lost
            failed = 0
            try:
                self._work()
            except ServiceDown:
                failed = 1
            with self.changed:
                self.runs += 1
                self.failures += failed
                self.changed.notify_all()
            self._rest(self)


class BackgroundCall(Generic[T]):
    """A call in a thread, made again while the service is down.

    Args:
        call: what to call.
        rest: called after each :class:`ServiceDown`, which it may raise again to give up.
    """

    def __init__(self, call: Callable[[], T], rest: Callable[[ServiceDown], object]) -> None:
        #: notified after each refusal; its lock guards the count
        self.changed = threading.Condition()
        self.refusals = 0
        self._call = call
        self._rest = rest
        self._answers: list[T] = []
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run, name="caller", daemon=True)
        self.thread.start()

    @property
    def answer(self) -> T:
        """What the call returned. The call must have ended well."""
        assert not self.thread.is_alive(), "the call goes on"
        assert self.error is None, f"the call ended with {self.error!r}"
        return self._answers[0]

    def _run(self) -> None:
        try:
            while not self._answers:
                try:
                    self._answers.append(self._call())
                except ServiceDown as down:
                    with self.changed:
                        self.refusals += 1
                        self.changed.notify_all()
                    self._rest(down)
        except Exception as error:  # noqa: BLE001  the thread that asked for the call judges it
            self.error = error
