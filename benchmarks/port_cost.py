"""Ports, with 2,000 sockets open: is it free, does it listen, who has it, reserve one; and whom the looking disturbs."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psutil
from measure import Goal, Table, interleaved, median, now, peer

from waitkit import WaitTimeout, port_free, port_listening, reserved_port, wait_for, who_holds
from waitkit.ports.owners import owns_one_of
from waitkit.ports.sockets import listeners

OPEN = 2_000
#: It accepts: a server that does not has its queue filled by those that connect to look.
_SERVER = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    server.accept()[0].close()
"""
#: Looks at a port again and again, until it is killed.
_LOOKER = """
import sys
sys.path.insert(0, sys.argv[3])
import port_cost
look = port_cost.lookers()[sys.argv[1]]
print("there", flush=True)
while True:
    look(int(sys.argv[2]))
"""

Look = Callable[[int], object]


@contextlib.contextmanager
def many_sockets() -> Iterator[None]:
    """Two thousand open sockets in this process: a thousand connections."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))
        for _ in range(OPEN // 2):
            stack.enter_context(socket.create_connection(server.getsockname()))
            stack.enter_context(server.accept()[0])
        yield


@contextlib.contextmanager
def another_server() -> Iterator[tuple[int, int]]:
    """The pid and the port of a server that is another process."""
    with subprocess.Popen([sys.executable, "-S", "-c", _SERVER], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


def lookers() -> dict[str, Look | None]:
    """Ways to ask whether a port is free."""
    portpicker, portend = peer("portpicker"), peer("portend")
    return {
        "waitkit port_free": _port_free,
        "a bind with SO_REUSEADDR": _bind,
        "portpicker.is_port_free": portpicker and portpicker.is_port_free,
        "portend.free": portend and (lambda port: _quietly(lambda: portend.free("127.0.0.1", port, timeout=0))),
        "psutil.net_connections": lambda port: [c for c in psutil.net_connections("tcp") if c.laddr.port == port],
    }


def _port_free(port: int) -> bool:
    try:
        wait_for(port_free(port), timeout=0)
    except WaitTimeout:
        return False
    return True


def _bind(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return _quietly(lambda: sock.bind(("127.0.0.1", port)))


def _quietly(function: Callable[[], object]) -> bool:
    try:
        function()
    except Exception:
        return False
    return True


def _timed(function: Callable[[], object], number: int) -> float:
    begun = now()
    for _ in range(number):
        function()
    return (now() - begun) / number * 1e6


def _compare(table: Table, methods: dict[str, Callable[[], object] | None], rounds: int, goals: dict[str, Any]) -> None:
    """Sample what there is, each long enough to be measured, and add a row for each."""
    present = {name: method for name, method in methods.items() if method is not None}
    numbers = {name: max(1, min(200, round(20_000 / max(1.0, _timed(method, 2))))) for name, method in present.items()}
    samples = interleaved(
        {name: lambda _, name=name, method=method: _timed(method, numbers[name]) for name, method in present.items()},
        range(rounds),
    )
    for name, method in methods.items():
        if method is None:
            table.missing(name)
        else:
            table.add(name, samples[name], goal=goals[name](samples) if name in goals else None)


def _below(text: str, limit: Callable[[dict[str, list[float]]], float], name: str) -> Callable[[Any], Goal]:
    return lambda samples: Goal(text, median(samples[name]) <= limit(samples))


def _questions(rounds: int) -> Iterator[Table]:
    with reserved_port() as free:
        pass
    with another_server() as (pid, port):
        table = Table(f"is a port free that nobody has, {OPEN} sockets open", "us")
        looks = {name: look and (lambda look=look: look(free)) for name, look in lookers().items()}
        fraction = _below("<= psutil / 10", lambda s: median(s["psutil.net_connections"]) / 10, "waitkit port_free")
        _compare(table, looks, rounds, {"waitkit port_free": fraction})
        yield table

        table = Table("is a port free at which another process listens", "us", note="waitkit's error names the process")
        looks = {name: look and (lambda look=look: look(port)) for name, look in lookers().items()}
        _compare(table, looks, rounds, {})
        yield table

        table = Table("who holds the port", "us")
        own = "waitkit who_holds"
        methods: dict[str, Callable[[], object] | None] = {
            own: lambda: who_holds(port),
            "psutil.net_connections": lambda: [c for c in psutil.net_connections("tcp") if c.laddr.port == port],
            "does this one process listen there": lambda: owns_one_of([pid], listeners(port)),
        }
        last = "does this one process listen there"
        half = _below("<= psutil / 2", lambda s: median(s["psutil.net_connections"]) / 2, own)
        _compare(table, methods, rounds, {own: half, last: _below("< 1 ms", lambda _: 1_000, last)})
        yield table

        table = Table(
            "one look at a port that listens", "us", note="a wait with timeout=0; the list makes no connection"
        )
        methods = {
            "waitkit port_listening": lambda: wait_for(port_listening(port), timeout=0),
            "connect and hang up": lambda: socket.create_connection(("127.0.0.1", port)).close(),
        }
        own = "waitkit port_listening"
        _compare(table, methods, rounds, {own: _below("<= 100 us", lambda _: 100, own)})
        yield table


def _reserving(rounds: int) -> Table:
    portpicker, portend, port_for = peer("portpicker"), peer("portend"), peer("port_for")
    reserve = peer("ephemeral_port_reserve")
    asyncio_plugin = peer("pytest_asyncio.plugin")
    anyio_plugin = peer("anyio.pytest_plugin")
    own = "waitkit reserved_port"

    def reserved(**options: Any) -> None:
        with reserved_port(**options):
            pass

    def portpicker_pick() -> None:
        portpicker.return_port(portpicker.pick_unused_port())

    methods: dict[str, Callable[[], object] | None] = {
        own: reserved,
        "waitkit reserved_port(within=)": lambda: reserved(within=(20_000, 29_999)),
        "portpicker.pick_unused_port": portpicker and portpicker_pick,
        "pytest-asyncio unused_tcp_port": asyncio_plugin and (lambda: asyncio_plugin._unused_port(socket.SOCK_STREAM)),
        "anyio free_tcp_port": anyio_plugin and (lambda: anyio_plugin.FreePortFactory(socket.SOCK_STREAM)()),
        "portend.find_available_local_port": portend and portend.find_available_local_port,
        "port_for.select_random": port_for and port_for.select_random,
        # Each of its reservations keeps a port for a minute: so few.
        "ephemeral_port_reserve.reserve": reserve and (lambda: reserve.reserve("127.0.0.1")),
    }
    table = Table(
        "reserve a port",
        "us",
        note="waitkit's stays reserved for its block; ephemeral_port_reserve's for 60 s; the others' is anybody's at once",
    )
    _compare(table, methods, rounds, {own: _below("<= 100 us", lambda _: 100, own)})
    return table


def _disturbed(binds: int) -> Table:
    """How many of another's binds fail while a port is looked at without a pause."""
    table = Table(
        f"of {binds} binds without SO_REUSEADDR, failed while another process asks in a loop whether the port is free",
        "%",
        ("failed",),
    )
    folder = os.path.dirname(os.path.abspath(__file__))
    for name, look in lookers().items():
        if look is None:
            table.missing(name)
            continue
        with reserved_port(within=(20_000, 29_999)) as port:
            pass
        argv = [sys.executable, "-c", _LOOKER, name, str(port), folder]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            failed = 0
            for _ in range(binds):
                with socket.socket() as server:
                    failed += not _quietly(lambda server=server: server.bind(("127.0.0.1", port)))
            process.kill()
        goal = Goal("none", failed == 0) if name == "waitkit port_free" else None
        table.add_text(name, f"{100 * failed / binds:.2f} %", goal=goal)
    return table


def run(options: argparse.Namespace) -> list[Table]:
    rounds = 3 if options.quick else 15
    with many_sockets():
        tables = [*_questions(rounds), _reserving(rounds)]
    return [*tables, _disturbed(2_000 if options.quick else 20_000)]
