"""An edition: the stage of one test, with a port, the services on it, and one way of waiting.

The tests call its *steps*. A step does something to the service and returns when that has come about: because an edition
has waited for it, or because it has slept long enough, as it hopes. Nothing else differs between the editions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, NoReturn, ParamSpec, Protocol, Self, TypeVar

from waitkit import reserved_port

from .background import BackgroundCall, Poller
from .client import Client, ServiceDown
from .service import prepare_forkserver


class Service(Protocol):
    """A process that serves."""

    @property
    def pid(self) -> int: ...

    @property
    def exit_code(self) -> int | None:
        """Its exit code, or minus the signal that ended it; ``None`` while it runs."""


S = TypeVar("S", bound=Service)
T = TypeVar("T")
P = ParamSpec("P")
E = TypeVar("E", bound="Edition[Any]")


def step(method: Callable[Concatenate[E, P], T]) -> Callable[Concatenate[E, P], T]:
    """Note the name of each step that is taken: by these the sleeps of a test are summed up without sleeping them."""

    @wraps(method)
    def noted(self: E, /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.steps.append(method.__name__)
        return method(self, *args, **kwargs)

    return noted


class Edition(ABC, Generic[S]):
    """Enter it for one test. Leaving it stops what the test has left running: by steps if the test went well."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        #: seconds slept in the test's own thread
        self.slept = 0.0
        self._services: list[S] = []
        self._pollers: list[Poller] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        prepare_forkserver()
        self.port = self._open.enter_context(reserved_port())
        self._open.enter_context(self.guard())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        for poller in self._pollers:
            poller.stop()
        if kind is None:
            self._open.callback(self._wind_up)
        return self._open.__exit__(kind, error, trace)

    def _wind_up(self) -> None:
        for poller in self._pollers:
            if poller.thread.is_alive():
                self.poller_ended(poller)
        for service in reversed(self._services):
            if service.exit_code is None:
                self.stop(service)

    def guard(self) -> AbstractContextManager[object]:
        """Around the test: what ends it if it hangs."""
        return nullcontext()

    def client(self) -> Client:
        """A client of the service at this edition's port."""
        return Client(self.port)

    def keep(self, service: S) -> S:
        """Take note of a service that was launched, so that it does not outlive the test."""
        self._services.append(service)
        self._open.callback(self.discard, service)
        return service

    def restart(self, service: S) -> S:
        """Stop a service, and start another on the same port."""
        self.stop(service)
        return self.start()

    @abstractmethod
    def discard(self, service: S) -> None:
        """Have the process gone, whatever state it is in."""

    # The steps: services.

    @abstractmethod
    def start(self) -> S:
        """Start a service on the port; it can be called then."""

    @abstractmethod
    def start_in_vain(self) -> S:
        """Start a service that cannot have its port; it has exited then."""

    @abstractmethod
    def stop(self, service: S) -> None:
        """Ask a service to end; it has exited then, and its port is free."""

    @abstractmethod
    def kill(self, service: S) -> None:
        """Kill a service; it has exited then."""

    @abstractmethod
    def exited(self, service: S) -> None:
        """A service that was asked to end otherwise has exited then."""

    @abstractmethod
    def port_released(self) -> None:
        """The port, whose service has exited, can be had again then."""

    # The steps: calls.

    def call_in_background(self, call: Callable[[], T]) -> BackgroundCall[T]:
        """Begin a call that is not retried."""

        def give_up(refusal: ServiceDown) -> NoReturn:
            raise refusal

        return BackgroundCall(call, give_up)

    @abstractmethod
    def retry_in_background(self, call: Callable[[], T]) -> BackgroundCall[T]:
        """Begin a call that is made again until the service answers."""

    @abstractmethod
    def arrived(self, client: Client) -> None:
        """A call of ``next_order`` is in progress then, in the service."""

    @abstractmethod
    def refused(self, call: BackgroundCall[T]) -> None:
        """A call in the background has found nobody there then."""

    @abstractmethod
    def answered(self, call: BackgroundCall[T]) -> None:
        """A call in the background, whose service is up again, has ended then."""

    @abstractmethod
    def broken_off(self, call: BackgroundCall[T]) -> None:
        """A call in the background, whose service is gone, has ended then."""

    @abstractmethod
    def retry(self, call: Callable[[], T], service: S) -> T:
        """Call a service that is up, again if it should not answer. Its own errors come through."""

    @abstractmethod
    def retry_in_vain(self, call: Callable[[], object], service: S) -> ServiceDown:
        """Call a service that is gone, until there is no hope left. Returns the last refusal."""

    # The steps: pollers.

    def poll(self, work: Callable[[], object], interval: float) -> Poller:
        """Start a poller. What a test leaves running is stopped."""
        poller = Poller(work, interval, self.rest)
        self._pollers.append(poller)
        return poller

    @abstractmethod
    def rest(self, poller: Poller) -> None:
        """What a poller does between two runs."""

    @abstractmethod
    def polled(self, poller: Poller, runs: int) -> None:
        """A poller has made so many runs then."""

    @abstractmethod
    def poller_ended(self, poller: Poller) -> None:
        """A poller that was told to stop has ended then."""
