"""From the start of a server to "it is ready", and from the request to end to its end, by each tool's own way."""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

from measure import Table, interleaved, now, peer

from waitkit import managed_process, port_listening, reserved_port

LIMIT = 30
PATTERN = "Ready to accept connections"

Stop = Callable[[], object]


class Server(NamedTuple):
    """What is to be started."""

    command: list[str]
    port: int
    folder: str


#: Starts a server; returns when it is ready, with what ends it.
Start = Callable[[Server], Stop]


def ready(start: Start) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder, reserved_port() as port, ExitStack() as stack:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        command += ["--hz", "500"]  # it looks for a stop signal at this rate; at its default 10, stopping is luck
        begun = now()
        stop = start(Server(command, port, folder))
        started = now() - begun
        stack.callback(stop)
        _must_answer(port)
        begun = now()
        stack.close()
        return started * 1e3, (now() - begun) * 1e3


def _must_answer(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), LIMIT) as connection:
        connection.sendall(b"PING\r\n")
        answer = connection.recv(64)
    if answer != b"+PONG\r\n":
        raise RuntimeError(f"a server that was called ready answered {answer!r}")


def _waitkit(server: Server) -> Stop:
    return managed_process(server.command, ready=port_listening(server.port, "127.0.0.1")).start().stop


def _sleeping(server: Server) -> Stop:
    process = subprocess.Popen(server.command, stdout=subprocess.DEVNULL)
    while True:
        try:
            socket.create_connection(("127.0.0.1", server.port), 1).close()
            break
        except ConnectionRefusedError:
            time.sleep(1)

    def stop() -> None:
        process.terminate()
        process.wait()

    return stop


def _mirakuru(module: ModuleType) -> Start:
    def start(server: Server) -> Stop:
        executor = module.TCPExecutor(
            server.command, "127.0.0.1", server.port, timeout=LIMIT, stdout=subprocess.DEVNULL
        )
        executor.start()
        return executor.stop

    return start


def _xprocess(module: ModuleType, *, by_port: bool) -> Start:
    """What its fixture does: an XProcess with a folder of pytest's path class, and a ProcessStarter."""
    from py.path import local  # pytest brings it

    def start(server: Server) -> Stop:
        members: dict[str, object] = {"args": server.command, "timeout": LIMIT, "pattern": PATTERN}
        if by_port:

            def startup_check(_: object) -> bool:
                with socket.socket() as connection:
                    return connection.connect_ex(("127.0.0.1", server.port)) == 0

            members |= {"pattern": None, "startup_check": startup_check}
        starter = type("Starter", (module.ProcessStarter,), members)
        log = SimpleNamespace(debug=lambda *_: None)
        xprocess = module.XProcess(SimpleNamespace(), local(server.folder), log=log)
        xprocess.ensure("redis", starter)

        def stop() -> None:
            xprocess.getinfo("redis").terminate()
            for resource in xprocess.resources:
                resource.popen.wait(LIMIT)
                resource.release()

        return stop

    return start


OURS = "waitkit managed_process"


def run(options: argparse.Namespace) -> list[Table]:
    begin = Table(
        "redis-server: start to ready",
        "ms",
        note="After each start the server had to answer a PING; all of them got a reserved port.",
    )
    end = Table("redis-server: request to stop until it is gone", "ms")
    mirakuru, xprocess = peer("mirakuru"), peer("xprocess")
    methods: dict[str, Start | None] = {
        OURS: _waitkit,
        "mirakuru TCPExecutor": _mirakuru(mirakuru) if mirakuru else None,
        "pytest-xprocess, pattern": _xprocess(xprocess, by_port=False) if xprocess else None,
        "pytest-xprocess, startup_check": _xprocess(xprocess, by_port=True) if xprocess else None,
        "time.sleep(1) loop": _sleeping,
    }
    if shutil.which("redis-server") is None:
        begin.missing(OURS, "skipped: redis-server is not installed")
        return [begin]
    samples = interleaved(
        {name: lambda _, start=start: ready(start) for name, start in methods.items() if start is not None},
        [None] * (1 if options.quick else 12),
    )
    for name in methods:
        if name not in samples:
            begin.missing(name)
            end.missing(name)
            continue
        begin.add(name, [sample[0] for sample in samples[name]])
        end.add(name, [sample[1] for sample in samples[name]])
    return [begin, end]
