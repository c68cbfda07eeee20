"""The 26 tests, from start to restart. They say what must come about; how to wait for it is the edition's."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from typing import Any, Final, TypeAlias, TypeVar

from .client import ServiceDown
from .edition import Edition, Service
from .service import HOST

S = TypeVar("S", bound=Service)
LifecycleTest: TypeAlias = Callable[[Edition[Any]], None]


# Starting


def a_started_service_is_healthy(edition: Edition[S]) -> None:
    """A service answers as soon as it has started."""
    edition.start()
    assert edition.client().health()["status"] == "ok"


def a_service_runs_in_a_process_of_its_own(edition: Edition[S]) -> None:
    """Whoever answers at the port is the process that was started, and not this one."""
    service = edition.start()
    assert edition.client().pid() == service.pid != os.getpid()


def a_service_starts_without_orders(edition: Edition[S]) -> None:
    """A new service knows nothing."""
    edition.start()
    assert edition.client().health()["orders"] == 0


def a_service_keeps_the_orders_it_is_given(edition: Edition[S]) -> None:
    """What one client places another one sees, in the order it was placed."""
    edition.start()
    edition.client().place("tea")
    edition.client().place("cake")
    assert edition.client().open() == ["tea", "cake"]


def a_taken_port_ends_the_second_service(edition: Edition[S]) -> None:
    """A service that cannot have its port exits with an error; the one that has it is not disturbed."""
    first = edition.start()
    second = edition.start_in_vain()
    assert second.exit_code == 1
    assert edition.client().pid() == first.pid


def a_service_outlives_a_client_that_hangs_up(edition: Edition[S]) -> None:
    """A connection that is closed without a word, as a look at the port makes one, does no harm."""
    edition.start()
    socket.create_connection((HOST, edition.port)).close()
    assert edition.client().health()["status"] == "ok"


# Stopping


def a_stopped_service_has_exited_cleanly(edition: Edition[S]) -> None:
    """A service that is asked to end does so by itself."""
    service = edition.start()
    edition.stop(service)
    assert service.exit_code == 0


def a_stopped_service_gives_its_port_back(edition: Edition[S]) -> None:
    """After a stop another server can listen at the port at once."""
    service = edition.start()
    edition.client().health()
    edition.stop(service)
    assert _can_listen(edition.port)


def a_stopped_service_refuses_calls(edition: Edition[S]) -> None:
    """After a stop nobody answers."""
    service = edition.start()
    edition.stop(service)
    assert _refusal(edition) is not None


def a_service_can_be_shut_down_by_a_call(edition: Edition[S]) -> None:
    """A client that may call may also tell the service to leave."""
    service = edition.start()
    edition.client().shut_down()
    edition.exited(service)
    assert service.exit_code == 0


def a_killed_service_tells_by_what(edition: Edition[S]) -> None:
    """The exit code of a killed service is minus the signal."""
    service = edition.start()
    edition.kill(service)
    assert service.exit_code == -9


def a_killed_service_gives_its_port_back(edition: Edition[S]) -> None:
    """Nothing of a killed service holds its port."""
    service = edition.start()
    edition.client().health()
    edition.kill(service)
    edition.port_released()
    assert _can_listen(edition.port)


def a_call_in_progress_ends_with_its_service(edition: Edition[S]) -> None:
    """Who waits for an answer is told when the service dies."""
    service = edition.start()
    client = edition.client()
    call = edition.call_in_background(client.next_order)
    edition.arrived(client)
    assert client.listeners() == 1
    edition.kill(service)
    edition.broken_off(call)
    assert isinstance(call.error, ServiceDown)


# Restarting


def a_restarted_service_answers_on_the_same_port(edition: Edition[S]) -> None:
    """After a restart another process serves at the port, and the same client goes on with it."""
    first = edition.start()
    client = edition.client()
    assert client.pid() == first.pid
    second = edition.restart(first)
    assert client.pid() == second.pid != first.pid


def a_killed_service_starts_again_without_orders(edition: Edition[S]) -> None:
    """A crash, with a client just served, does not bar the port to the next service; the book is gone with its process."""
    service = edition.start()
    edition.client().place("tea")
    edition.kill(service)
    second = edition.start()
    assert edition.client().pid() == second.pid
    assert edition.client().open() == []


# Calling


def a_call_before_the_start_is_refused(edition: Edition[S]) -> None:
    """Where nobody has started a service, nobody answers: a reserved port does not count as one."""
    assert _refusal(edition) is not None


def a_retrying_client_waits_for_the_start(edition: Edition[S]) -> None:
    """A client that comes too early is served once there is a service."""
    call = edition.retry_in_background(lambda: edition.client().place("tea"))
    edition.refused(call)
    edition.start()
    edition.answered(call)
    assert call.refusals > 0
    assert call.answer == 1


def a_retrying_client_rides_out_a_crash(edition: Edition[S]) -> None:
    """A call made while the service is down is answered by the next service."""
    edition.kill(edition.start())
    call = edition.retry_in_background(edition.client().pid)
    edition.refused(call)
    second = edition.start()
    edition.answered(call)
    assert call.answer == second.pid


def a_retrying_client_gives_up_on_a_dead_service(edition: Edition[S]) -> None:
    """A client that has no hope left raises what it was refused with."""
    service = edition.start()
    edition.kill(service)
    refusal = edition.retry_in_vain(edition.client().health, service)
    assert isinstance(refusal.__cause__, ConnectionRefusedError)


def a_service_s_own_error_is_not_retried(edition: Edition[S]) -> None:
    """An error of the service is an answer: it comes through, and the call is made once."""
    service = edition.start()
    calls = []

    def bad_order() -> None:
        calls.append("bad order")
        edition.client().place("")

    try:
        edition.retry(bad_order, service)
    except ValueError as error:
        assert "needs a name" in str(error)  # noqa: PT017  these tests run without pytest, too
    else:
        raise AssertionError("the order was taken")
    assert len(calls) == 1


# Polling


def a_poller_runs_at_once_and_after_each_interval(edition: Edition[S]) -> None:
    """A poller does not begin with a rest, and goes on after one."""
    runs: list[str] = []
    poller = edition.poll(lambda: runs.append("a run"), interval=0.2)
    edition.polled(poller, 2)
    assert len(runs) >= 2


def a_trigger_runs_a_poller_now(edition: Edition[S]) -> None:
    """A poller with an hour to go fills an order at the trigger."""
    edition.start()
    client = edition.client()
    poller = edition.poll(client.fill, interval=3600)
    edition.polled(poller, 1)
    client.place("tea")
    poller.trigger()
    edition.polled(poller, 2)
    assert client.open() == []
    assert poller.runs == 2


def a_poller_can_be_stopped_between_runs(edition: Edition[S]) -> None:
    """A poller with an hour to go ends when it is told to, without another run."""
    runs: list[str] = []
    poller = edition.poll(lambda: runs.append("a run"), interval=3600)
    edition.polled(poller, 1)
    poller.stop()
    edition.poller_ended(poller)
    assert not poller.thread.is_alive()
    assert len(runs) == 1


def a_trigger_during_a_run_is_not_lost(edition: Edition[S]) -> None:
    """What changes while a poller works may have come too late for this run, so there is another one."""
    known = threading.Event()
    runs: list[str] = []

    def work() -> None:
        known.wait()
        runs.append("a run")
        if len(runs) == 1:
            poller.trigger()

    poller = edition.poll(work, interval=3600)
    known.set()
    edition.polled(poller, 2)
    assert len(runs) == 2


def a_stopped_poller_ignores_triggers(edition: Edition[S]) -> None:
    """What has ended does not begin again."""
    runs: list[str] = []
    poller = edition.poll(lambda: runs.append("a run"), interval=3600)
    edition.polled(poller, 1)
    poller.stop()
    edition.poller_ended(poller)
    poller.trigger()
    assert not poller.thread.is_alive()
    assert len(runs) == 1


def a_poller_outlives_a_service_that_is_down(edition: Edition[S]) -> None:
    """A run that finds nobody there counts as failed, and the poller goes on."""
    poller = edition.poll(edition.client().fill, interval=3600)
    edition.polled(poller, 1)
    assert poller.failures == 1
    edition.start()
    edition.client().place("tea")
    poller.trigger()
    edition.polled(poller, 2)
    assert (poller.runs, poller.failures) == (2, 1)
    assert edition.client().open() == []


def _can_listen(port: int) -> bool:
    """Whether a server that sets ``SO_REUSEADDR``, as servers do, gets the port now."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((HOST, port))
            server.listen()
        except OSError:
            return False
        return True


def _refusal(edition: Edition[S]) -> ServiceDown | None:
    try:
        edition.client().health()
    except ServiceDown as refusal:
        return refusal
    return None


#: All tests above, in their order.
LIFECYCLE: Final[tuple[LifecycleTest, ...]] = tuple(
    test for name, test in list(globals().items()) if name.startswith("a_")
)
