"""The waiting edition: each step waits for the condition it is about, and for nothing else."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from waitkit import (
    CancelScope,
    ManagedProcess,
    WaitFailed,
    any_of,
    fail_after,
    managed_process,
    move_on_after,
    notified,
    port_free,
    port_listening,
    wait_for,
)

from .background import BackgroundCall, Poller
from .client import Client, ServiceDown
from .edition import Edition, step
from .service import START_METHOD, serve

T = TypeVar("T")


class Waiting(Edition[ManagedProcess]):
    """Waits for conditions. One deadline is over all waits of a test; it is there to end a test that hangs."""

    def __init__(self) -> None:
        super().__init__()
        self._background = CancelScope()

    def guard(self) -> AbstractContextManager[object]:
        self._open.callback(self._background.cancel, "the test is over")
        return fail_after("30s")

    def discard(self, service: ManagedProcess) -> None:
        service.stop()

    @step
    def start(self) -> ManagedProcess:
        service = self._launch()
        service.start()  # returns when the service has set its ready event
        return service

    @step
    def start_in_vain(self) -> ManagedProcess:
        service = self._launch()
        try:
            service.start()
        except WaitFailed:  # it exited before it was ready
            return service
        raise AssertionError(f"{service} has got port {self.port}")

    def _launch(self) -> ManagedProcess:
        return self.keep(managed_process(serve, self.port, ready="event", start_method=START_METHOD))

    @step
    def stop(self, service: ManagedProcess) -> None:
        service.stop()
        wait_for(port_free(self.port))

    @step
    def kill(self, service: ManagedProcess) -> None:
        service.send_signal(signal.SIGKILL)
        wait_for(service.exited)

    @step
    def exited(self, service: ManagedProcess) -> None:
        wait_for(service.exited)

    @step
    def port_released(self) -> None:
        wait_for(port_free(self.port))

    @step
    def retry_in_background(self, call: Callable[[], T]) -> BackgroundCall[T]:
        def until_somebody_listens(refusal: ServiceDown) -> None:
            with self._background:  # threads do not inherit scopes: this one ends with the test
                wait_for(port_listening(self.port), None)
                return
            raise refusal

        return BackgroundCall(call, until_somebody_listens)

    @step
    def arrived(self, client: Client) -> None:
        wait_for(client.listeners, message="the call to arrive")

    @step
    def refused(self, call: BackgroundCall[T]) -> None:
        wait_for(notified(call.changed, lambda: call.refusals > 0), message="the call to be refused")

    @step
    def answered(self, call: BackgroundCall[T]) -> None:
        wait_for(call.thread, message="the call to be answered")

    @step
    def broken_off(self, call: BackgroundCall[T]) -> None:
        wait_for(call.thread, message="the call to break off")

    @step
    def retry(self, call: Callable[[], T], service: ManagedProcess) -> T:
        return self._retry(call, service)

    def _retry(self, call: Callable[[], T], service: ManagedProcess) -> T:
        while True:
            try:
                return call()
            except ServiceDown as refusal:
                try:
                    wait_for(port_listening(self.port), unless=service.exited)
                except WaitFailed:
                    raise refusal from refusal.__cause__  # it is gone: no patience brings it back

    @step
    def retry_in_vain(self, call: Callable[[], object], service: ManagedProcess) -> ServiceDown:
        try:
            self._retry(call, service)
        except ServiceDown as refusal:
            return refusal
        raise AssertionError("somebody answered")

    def rest(self, poller: Poller) -> None:
        with move_on_after(poller.interval):
            wait_for(any_of(poller.stopped, poller.triggered), None)

    @step
    def polled(self, poller: Poller, runs: int) -> None:
        wait_for(notified(poller.changed, lambda: poller.runs >= runs), message="the poller to run")

    @step
    def poller_ended(self, poller: Poller) -> None:
        wait_for(poller.thread, message="the poller to end")
