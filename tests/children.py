"""What the tests start as other processes: callables that a spawned child can import, and short programs."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest

from waitkit import ReadyEvent, process_exited, reserved_port, wait_for
from waitkit.engine.descriptors import watch_descriptor
from waitkit.processes import tree
from waitkit.processes.guardian import Guarded

#: Far more than anything here takes: it only turns a hang into a failure.
LONG = "30s"

#: How multiprocessing can start a child.
START_METHODS = ("spawn", "forkserver", "fork")


def program(code: str) -> list[str]:
    """The arguments that run *code* in a Python of its own, started as fast as it can be."""
    return [sys.executable, "-S", "-c", code]


def standard_helper(process: psutil.Process) -> bool:
    """Whether it is one of multiprocessing's own, or waitkit's guardian; or has ended since it was listed."""
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return True
    helpers = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "waitkit/processes/tree.py")
    # One that is just ending has no command line any more, and is no zombie yet.
    return not line or any(helper in line for helper in helpers)


def own_children() -> list[psutil.Process]:
    """The living processes below this one, those of multiprocessing itself left out."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.is_running() and child.status() != psutil.STATUS_ZOMBIE and not standard_helper(child)
    ]


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fail a test that leaves a process behind, and end the process, so that only this test fails."""
    before = {child.pid for child in own_children()}
    yield
    left = [child for child in own_children() if child.pid not in before]
    described = [f"{child} {tree.facts_of(child.pid) and child.cmdline()}" for child in left]
    for child in left:
        child.kill()
        wait_for(process_exited(child), LONG)
    assert described == []


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Fail where the block leaves more descriptors open than there were before it."""
    reading, writing = os.pipe()
    # Waitkit's own thread and the three descriptors it has come and go; while this is watched they stay.
    subscription = watch_descriptor(reading, lambda: None)
    guarded = Guarded()  # likewise the guardian of managed processes, and its pipe
    try:
        before = psutil.Process().num_fds()
        yield
        wait_for(lambda: psutil.Process().num_fds() <= before, "10s")  # servers in threads close their side late
    finally:
        guarded.gone()
        subscription.close()
        os.close(reading)
        os.close(writing)


def fresh_port() -> int:
    """A port that nobody has at any address, not even what is left of a connection, and that nobody is given unasked."""
    with reserved_port(within=(10_000, 19_999)) as port:
        return port


def fresh_range(count: int) -> tuple[int, int]:
    """The first and the last of some ports in a row that nobody has, in either protocol; elsewhere for each who asks."""
    while True:
        first = random.randrange(25_000, 32_000)
        try:
            with ExitStack() as stack:
                for port in range(first, first + count):
                    stack.enter_context(reserved_port(within=(port, port), protocol="both"))
        except OSError:
            continue
        return first, first + count - 1


def end(pid: int) -> None:
    """Make sure that a process the test means to be dead is dead, whatever the test found."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


# Callables for managed_process.


def say(text: object, *, error: bool = False) -> None:
    """Write a line to standard output, or to standard error."""
    print(text, file=sys.stderr if error else sys.stdout)


def stay(*_: object, ready_event: ReadyEvent | None = None) -> None:
    """Be ready, and stay until a signal ends it."""
    if ready_event is not None:
        ready_event.set()
    while True:
        signal.pause()


def never_ready(*, ready_event: ReadyEvent) -> None:
    """Say where it has come to, and stay, without the one word that is waited for."""
    say("warming the cache")
    say("the cache is cold", error=True)
    assert not ready_event.is_set()
    stay()


def ready_many_times(*, ready_event: ReadyEvent) -> None:
    """Set the event twice, and go on."""
    ready_event.set()
    ready_event.set()
    say(f"is_set={ready_event.is_set()}")
    stay()


def listen(port: int, *, ready_event: ReadyEvent) -> None:
    """A server that says itself when it listens."""
    server = socket.create_server(("127.0.0.1", port))
    ready_event.set()
    stay(server)


def leave(code: int, *, ready_event: ReadyEvent | None = None) -> None:
    """End at once, with a word on each stream."""
    say("the last word to stdout")
    say("the last word to stderr", error=True)
    sys.exit(code)


def raise_error(*, ready_event: ReadyEvent) -> None:
    """End as a callable with a mistake does."""
    raise LookupError("no such table: orders")


def die_of(number: int, *, ready_event: ReadyEvent) -> None:
    """End by a signal."""
    os.kill(os.getpid(), number)
    stay()


def ignore_termination(*, ready_event: ReadyEvent) -> None:
    """Refuse to go when asked."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready_event.set()
    stay()


def start_grandchild(*, ready_event: ReadyEvent) -> None:
    """Have a child that inherits everything, tell its pid, and be ready."""
    grandchild = subprocess.Popen(["sleep", "infinity"])
    say(grandchild.pid)
    ready_event.set()
    stay(grandchild)


def write_much(megabytes: int, *, ready_event: ReadyEvent) -> None:
    """Write to both streams more than any pipe holds, then be ready."""
    block = "0123456789abcde\n" * 4_096
    for _ in range(megabytes * 16):
        sys.stdout.write(block)
        sys.stderr.write(block)
    say("all written")
    say("all written", error=True)
    ready_event.set()
    stay()


def touch(path: Path) -> None:
    """Make a file, and stay."""
    path.touch()
    stay()


# Callables for plain multiprocessing children.


def reserve_many(count: int, pipe: Connection, within: tuple[int, int] | None = None) -> None:
    """Hold *count* reservations at once, tell the ports, and hold them until the other side hangs up."""
    with ExitStack() as stack, pipe:
        pipe.send([int(stack.enter_context(reserved_port(within=within))) for _ in range(count)])
        try:
            pipe.recv()
        except EOFError:
            pass
