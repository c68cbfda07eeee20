"""What the tests start as other processes (the callables are those of callables.py), and how they look after them."""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psutil
import pytest
from callables import *  # noqa: F403 - so that tests name all they start by this file

from waitkit import process_exited, reserved_port, wait_for
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


def http_server(port: int, host: str = "127.0.0.1") -> list[str]:
    """The arguments that run Python's web server, which serves the files of its working directory."""
    return [sys.executable, "-S", "-m", "http.server", "--bind", host, str(port)]


def standard_helper(pid: int) -> bool:
    """Whether it is one of multiprocessing's own, or of these tests', or waitkit's guardian; or has ended since it was listed."""
    line = tree.read(f"/proc/{pid}/cmdline")
    helpers = (
        b"multiprocessing.resource_tracker",
        b"multiprocessing.forkserver",
        b"waitkit/processes/guard.py",
        b"tests/zygote.py",
    )
    # One that is just ending has no command line any more, and is no zombie yet.
    return not line or any(helper in line for helper in helpers)


def is_living(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    facts = tree.facts_of(pid)
    return facts is not None and facts.living


@contextmanager
def ended_afterwards(pids: list[int]) -> Iterator[None]:
    """End processes that a test meant to be ended, whatever it found."""
    try:
        yield
    finally:
        for pid in pids:
            if is_living(pid):
                end(pid)


def own_children() -> list[psutil.Process]:
    """The living processes below this one, those of multiprocessing itself left out."""
    found = []
    for pid in descendants(os.getpid()):
        if is_living(pid) and not standard_helper(pid):
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
    return found


def descendants(pid: int) -> Iterator[int]:
    """As ``psutil.Process(pid).children(recursive=True)``, which looks at all processes of the machine; nearly each test asks."""
    for child in tree._children_of(pid):
        yield child
        yield from descendants(child)


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


@contextmanager
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


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
