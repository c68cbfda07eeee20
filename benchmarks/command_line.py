"""``waitkit wait`` beside the loop of wait-for-it and ``nc -z``: what a port costs that is there, and how late one is seen."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack

from measure import Flip, Goal, Table, interleaved, median, now, spread_evenly

from waitkit import reserved_port

#: What wait-for-it.sh does, without what it prints: connect by bash, and sleep for a second.
WAIT_FOR_IT = "until (exec 3<>/dev/tcp/127.0.0.1/$0) 2>/dev/null; do sleep 1; done"
NC = "until nc -z 127.0.0.1 $0; do sleep 1; done"
EVERY_TENTH = "until (exec 3<>/dev/tcp/127.0.0.1/$0) 2>/dev/null; do sleep 0.1; done"


def ways() -> dict[str, list[str]]:
    """The commands, to which the port is added."""
    found = {
        "waitkit wait": [sys.executable, "-P", "-m", "waitkit", "wait", "-q"],
        "bash /dev/tcp, sleep 1": ["bash", "-c", WAIT_FOR_IT],
        "bash /dev/tcp, sleep 0.1": ["bash", "-c", EVERY_TENTH],
    }
    if shutil.which("nc"):
        found["nc -z, sleep 1"] = ["sh", "-c", NC]
    return found


def line(name: str, command: list[str], port: int) -> list[str]:
    return [*command, f"tcp:127.0.0.1:{port}" if name.startswith("waitkit") else str(port)]


def there(name: str, command: list[str], port: int) -> float:
    begun = now()
    subprocess.run(line(name, command, port), check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    return (now() - begun) * 1e3


def late(name: str, command: list[str], delay: float) -> float:
    """Milliseconds from the moment the port is listened at to the end of the command."""
    with reserved_port() as port, ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        with Flip(delay, server.listen) as flip:
            subprocess.run(line(name, command, port), check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
            ended = now()
        return (ended - flip.at) * 1e3


def imports(words: list[str]) -> tuple[float, int]:
    """What -X importtime says: milliseconds in all, and how many modules."""
    told = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", *words], check=True, capture_output=True, text=True, env=ENVIRONMENT
    )
    times = [int(found) for found in re.findall(r"^import time: +(\d+) \|", told.stderr, re.MULTILINE)]
    return sum(times) / 1e3, len(times)


#: Bytecode is written, as in any installation, and waitkit is found where this process finds it.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
}


def run(options: argparse.Namespace) -> list[Table]:
    return [_there(5 if options.quick else 25), _late(4 if options.quick else 20)]


def _there(rounds: int) -> Table:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        methods = {
            name: lambda _, name=name, command=command: there(name, command, port) for name, command in ways().items()
        }
        methods["python -c pass"] = lambda _: there("python", [sys.executable, "-P", "-c", "pass"], port)
        samples = interleaved(methods, [None] * rounds)
        wait = ["-m", "waitkit", "wait", "-q", f"tcp:127.0.0.1:{port}"]
        of_imports = [imports(wait) for _ in range(rounds)]
        bare = [imports(["-c", "pass"]) for _ in range(rounds)]
    table = Table(
        "a command that waits for a port which is there",
        "ms",
        note="From the start of the process to its end. -X importtime adds its own cost to each import.",
    )
    bare_python = median(samples["python -c pass"])
    goal = Goal("<= 6 x python -c pass", median(samples["waitkit wait"]) <= 6 * bare_python)
    for name, figures in samples.items():
        table.add(name, figures, goal=goal if name == "waitkit wait" else None)
    if "nc -z, sleep 1" not in samples:
        table.missing("nc -z, sleep 1")
    table.add(f"imports of waitkit wait ({of_imports[0][1]})", [cost for cost, _ in of_imports])
    table.add(f"imports of python -c pass ({bare[0][1]})", [cost for cost, _ in bare])
    return table


def _late(rounds: int) -> Table:
    delays = spread_evenly(0.2, 2.2, rounds)
    samples = interleaved(
        {
            name: lambda delay, name=name, command=command: late(name, command, delay)
            for name, command in ways().items()
        },
        delays,
        warm_up=0.1,
    )
    table = Table(
        "how late a command ends after the port is listened at, 0.2..2.2 s into its wait",
        "ms",
        note="wait-for-it and dockerize look every second, wait-on every 250 ms; 5 % of the wait are 10..110 ms here.",
    )
    goal = Goal("median <= 6 % of 2.2 s", median(samples["waitkit wait"]) <= 132)
    for name, figures in samples.items():
        table.add(name, figures, goal=goal if name == "waitkit wait" else None)
    if "nc -z, sleep 1" not in samples:
        table.missing("nc -z, sleep 1")
    return table
