"""Waits for hosts by their names: the name service may take its time, and no limit is overrun by that."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
from support import LIMIT, Running, until

from waitkit import WaitTimeout, http_ok, port_free, port_listening, reserved_port, wait_for, wait_for_async
from waitkit.ports import addresses, names

NAME = "db.test"


class NameService:
    """A name service that answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = threading.Event()
        self.answer: list[addresses.Address] | Exception = OSError(socket.EAI_NONAME, "Name or service not known")

    def __call__(self, host: str, port: int) -> list[addresses.Address]:
        assert host == NAME
        self.asked += 1
        assert self.may_answer.wait(LIMIT)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameService]:
    """The name service, which knows nobody and does not answer yet."""
    service = NameService()
    monkeypatch.setattr(names, "resolve", service)
    yield service
    service.may_answer.set()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "waitkit-names"])


CONDITIONS = [
    pytest.param(lambda port: port_listening(port, NAME), id="port"),
    pytest.param(lambda port: http_ok(f"http://{NAME}:{port}/"), id="http"),
    pytest.param(lambda port: port_free(port, NAME), id="free"),
]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_service_that_does_not_answer(service, condition):
    """The wait ends at its limit, though the name service still thinks; it is asked once, and the error says so."""
    with pytest.raises(WaitTimeout, match=r"last: the name service has not answered for \d+") as caught:
        wait_for(condition(80), "50ms")
    assert service.asked == 1
    assert not caught.value.facts.notes, "no look overran the deadline"


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_service_that_does_not_answer_in_a_loop(service, condition):
    """The same in an event loop."""

    async def main() -> None:
        with pytest.raises(WaitTimeout, match="the name service has not answered"):
            await wait_for_async(condition(80), "50ms")

    asyncio.run(main())


def test_port_of_a_name_that_is_free(service):
    """The answer wakes the wait for a port of a name; one that is unknown ends it."""
    with reserved_port() as port:
        service.answer = [(socket.AF_INET, ("127.0.0.1", port))]
        waiting = Running(wait_for, port_free(port, NAME), LIMIT)
        until(lambda: service.asked)
        service.may_answer.set()
        assert waiting.result() == port
        service.answer = OSError(socket.EAI_NONAME, "Name or service not known")
        with pytest.raises(OSError, match="not known"):
            wait_for(port_free(port, NAME), LIMIT)


def test_a_late_answer_wakes(service):
    """The answer wakes the wait, which then connects to where the name leads; a name that is not known yet may come to be."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        waiting = Running(wait_for, port_listening(port, NAME), LIMIT)
        until(lambda: service.asked)
        service.may_answer.set()
        until(lambda: service.asked > 2)
        service.answer = [(socket.AF_INET, ("127.0.0.1", port))]
        assert waiting.result() == port


def test_each_address_is_tried(service):
    """HTTP goes to the first address that takes it."""
    service.may_answer.set()
    with reserved_port() as closed, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        service.answer = [(socket.AF_INET, ("127.0.0.1", closed)), (socket.AF_INET, ("127.0.0.1", port))]

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(b"HTTP/1.1 204 Fine\r\n\r\n")

        serving = Running(serve)
        assert wait_for(http_ok(f"http://{NAME}:{port}/"), LIMIT) == 204
        serving.result()


def test_one_look_asks_by_itself(service):
    """A wait of one look waits for the answer: there is no second look that could take it."""
    service.may_answer.set()
    with pytest.raises(WaitTimeout, match="Name or service not known"):
        wait_for(port_listening(80, NAME), 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        service.answer = [(socket.AF_INET, ("127.0.0.1", port))]
        assert wait_for(port_listening(port, NAME), 0) == port


def test_no_name_at_all(service):
    """What no host can be called is an error of the wait, not something to wait for."""
    service.may_answer.set()
    service.answer = UnicodeError("label too long")
    with pytest.raises(UnicodeError, match="label too long"):
        wait_for(port_listening(80, NAME), LIMIT)
