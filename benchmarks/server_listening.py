"""From the ``listen()`` of a server to the return of whoever waits for it, with the instant of the ``listen()`` itself."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from measure import Goal, Table, interleaved, median, now, peer
from server_ready import LIMIT, Server, Start, Stop, _mirakuru, _sleeping, _xprocess

from waitkit import http_ok, managed_process, output_matches, port_listening, reserved_port, wait_for

#: Stamps each listen() with the clock of ``time.perf_counter``. A library put before the C library sees it as it happens;
#: anything that looked from outside would add its own gap.
_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int listen(int fd, int backlog) {
    int (*real)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "listen");
    int result = real(fd, backlog);
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    const char *path = getenv("LISTEN_STAMP");
    if (path) {
        int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
        char line[64];
        int length = snprintf(line, sizeof line, "%lld.%09ld\n", (long long)t.tv_sec, t.tv_nsec);
        if (file >= 0) { if (write(file, line, length) < 0) {} close(file); }
    }
    return result;
}
"""


class Kind(NamedTuple):
    """A server program: its command, and by what it can tell that it is ready."""

    command: Callable[[int, str], list[str]]
    ours: Mapping[str, Callable[[int], Any]]


def _nginx(port: int, folder: str) -> list[str]:
    user = "user root;" if os.getuid() == 0 else ""
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    Path(folder, "nginx.conf").write_text(
        f"daemon off; worker_processes 2; pid {folder}/pid; error_log stderr; {user} events {{}}\n"
        f"http {{ access_log off; {paths} server {{ listen 127.0.0.1:{port}; return 200; }} }}\n"
    )
    return ["nginx", "-p", folder, "-c", f"{folder}/nginx.conf", "-e", "stderr"]


def _redis(port: int, folder: str) -> list[str]:
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    return [*command, "--hz", "500", "--supervised", "auto"]


def _memcached(port: int, _: str) -> list[str]:
    return ["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", *(["-u", "root"] if os.getuid() == 0 else [])]


def _http(port: int, folder: str) -> list[str]:
    return [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "-d", folder, str(port)]


def _port(port: int) -> object:
    return port_listening(port, "127.0.0.1")


SERVERS = {
    "redis-server": Kind(
        _redis,
        {"port": _port, "output": lambda _: output_matches("Ready to accept"), "notify": lambda _: "notify"},
    ),
    "nginx": Kind(_nginx, {"port": _port, "http": lambda port: http_ok(f"http://127.0.0.1:{port}/")}),
    "memcached": Kind(_memcached, {"port": _port}),
    "http.server": Kind(
        _http,
        {
            "port": _port,
            "http": lambda port: http_ok(f"http://127.0.0.1:{port}/"),
            "output": lambda _: output_matches("Serving HTTP"),
        },
    ),
}


@contextmanager
def shim() -> Iterator[str | None]:
    """The library that stamps, or None where it cannot be made."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    with tempfile.TemporaryDirectory() as folder:
        library = f"{folder}/stamp.so"
        if compiler is not None:
            Path(folder, "stamp.c").write_text(_SHIM)
            subprocess.run([compiler, "-shared", "-fPIC", "-o", library, f"{folder}/stamp.c", "-ldl"], check=True)
        yield library if compiler is not None else None


def measured(library: str, kind: Kind, start: Start) -> tuple[float, float]:
    """Milliseconds from listen() to the return, and from the start to the return."""
    with tempfile.TemporaryDirectory() as folder, reserved_port() as port, ExitStack() as stack:
        stamp = Path(folder, "stamp")
        command = ["env", f"LD_PRELOAD={library}", f"LISTEN_STAMP={stamp}", *kind.command(port, folder)]
        begun = now()
        stack.callback(start(Server(command, port, folder)))
        returned = now()
        # Whoever returns at once may be here before the stamp is written, which comes right after the listen().
        text = wait_for(lambda: stamp.exists() and stamp.read_text(), LIMIT)
        listened = float(text.split()[-1])
        return (returned - listened) * 1e3, (returned - begun) * 1e3


def _waitkit(ready: Callable[[int], object]) -> Start:
    return lambda server: managed_process(server.command, ready=ready(server.port), stop_timeout=LIMIT).start().stop


def _by_hand(server: Server, wait: Callable[[int], object]) -> Stop:
    process = subprocess.Popen(server.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait(server.port)

    def stop() -> None:
        process.terminate()
        process.wait()

    return stop


def _portend(module: Any) -> Start:
    return lambda server: _by_hand(server, lambda port: module.occupied("127.0.0.1", port, timeout=LIMIT))


def _testcontainers() -> Start | None:
    strategies = peer("testcontainers.core.wait_strategies")
    if strategies is None:
        return None

    class Target:
        """What its strategy asks a container."""

        def get_container_host_ip(self) -> str:
            return "127.0.0.1"

        def get_exposed_port(self, port: int) -> int:
            return port

    return lambda server: _by_hand(server, lambda port: strategies.PortWaitStrategy(port).wait_until_ready(Target()))


def _peers() -> dict[str, Start | None]:
    mirakuru, xprocess, portend = peer("mirakuru"), peer("xprocess"), peer("portend")
    return {
        "mirakuru TCPExecutor": _mirakuru(mirakuru) if mirakuru else None,
        "pytest-xprocess, startup_check": _xprocess(xprocess, by_port=True) if xprocess else None,
        "portend.occupied": _portend(portend) if portend else None,
        "testcontainers PortWaitStrategy": _testcontainers(),
        "time.sleep(1) loop": _sleeping,
    }


def _one(name: str, kind: Kind, library: str, rounds: int) -> Table:
    table = Table(
        f"{name}: from its listen() to the return of the start",
        "ms",
        ("start to return",),
        note="The last column is a median, in ms. The goal is 2 ms, or 6 % of the whole.",
    )
    ours = {f"waitkit, {how}": _waitkit(ready) for how, ready in kind.ours.items()}
    methods: dict[str, Start | None] = {**ours, **_peers()}
    samples = interleaved(
        {
            method: lambda _, start=start: measured(library, kind, start)
            for method, start in methods.items()
            if start is not None
        },
        [None] * rounds,
    )
    for method in methods:
        if method not in samples:
            table.missing(method)
            continue
        late, whole = ([sample[part] for sample in samples[method]] for part in (0, 1))
        goal = None
        if method == "waitkit, port":
            goal = Goal("<= 2 ms or 6 %", median(late) <= max(2.0, 0.06 * median(whole)))
        table.add(method, late, f"{median(whole):.1f}", goal=goal)
    return table


def run(options: argparse.Namespace) -> list[Table]:
    tables = []
    with shim() as library:
        for name, kind in SERVERS.items():
            if library is None or (name != "http.server" and shutil.which(name) is None):
                table = Table(f"{name}: from its listen() to the return of the start", "ms")
                table.missing("waitkit", "skipped: no C compiler" if library is None else f"skipped: no {name}")
            else:
                table = _one(name, kind, library, 1 if options.quick else 10)
            tables.append(table)
    return tables
