"""What a spawned or forked child calls. It imports this file alone, and nothing here that takes long to import."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

__all__ = [
    "die_of",
    "ignore_termination",
    "leave",
    "listen",
    "never_ready",
    "raise_error",
    "ready_many_times",
    "reserve_many",
    "say",
    "start_grandchild",
    "stay",
    "touch",
    "write_much",
]

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    from waitkit import ReadyEvent

# Callables for managed_process.


def say(text: object, *, error: bool = False) -> None:
    """Write a line to standard output, or to standard error."""
    print(text, file=sys.stderr if error else sys.stdout)


def stay(*_: object, ready_event: ReadyEvent | None = None) -> None:
    """Be ready, and stay until a signal ends it."""
    # Not pause(): the handler of a signal that comes just before that runs only after the next one.
    told, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    if ready_event is not None:
        ready_event.set()
    while True:
        told.recv(1)


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
    from waitkit import reserved_port

    with ExitStack() as stack, pipe:
        pipe.send([int(stack.enter_context(reserved_port(within=within))) for _ in range(count)])
        try:
            pipe.recv()
        except EOFError:
            pass
