"""The service: a book of orders behind a ``multiprocessing`` manager, in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import threading
from functools import cache
from multiprocessing import forkserver
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from waitkit import ReadyEvent

HOST: Final = "127.0.0.1"
AUTHKEY: Final = b"rpc service example"

# Both editions start their processes this way, so that they differ in their waits only. Measured here, from start to
# "I am ready": spawn 80 ms (a new interpreter, and all imports again), forkserver 50 ms, or 16 ms where the server of
# forks has imported the service beforehand, fork 4 ms. But fork copies a process in the midst of what its threads do, and
# a test process has threads: Python 3.12 and later warn of that.
START_METHOD: Final = "forkserver"


@cache
def prepare_forkserver() -> None:
    """Start the server of forks, once for all services, and have it import what they need.

    It would look for that in the working directory first, and then where a new interpreter does, which may be another copy:
    in a checkout, for one that has installed the package. So it is told to look where this process does, and nowhere else.
    """
    multiprocessing.set_forkserver_preload([__name__, "waitkit.processes.children"])
    where = {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path), "PYTHONSAFEPATH": "1"}
    before = {name: os.environ.get(name) for name in where}
    os.environ.update(where)
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Orders:
    """The book of orders, as it lives in the service's process. Calls come in one thread for each connection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[str] = []
        self._filled: list[str] = []
        self._listeners = 0
        self._news: queue.SimpleQueue[str] = queue.SimpleQueue()

    def health(self) -> dict[str, object]:
        """That it is well, its process id, and how many orders it knows."""
        with self._lock:
            return {"status": "ok", "pid": os.getpid(), "orders": len(self._open) + len(self._filled)}

    def place(self, name: str) -> int:
        """Take an order in. Returns how many are open."""
        if not name:
            raise ValueError("an order needs a name")
        with self._lock:
            self._open.append(name)
            self._news.put(name)
            return len(self._open)

    def fill(self) -> list[str]:
        """Fill all open orders. Returns them."""
        with self._lock:
            filled, self._open = self._open, []
            self._filled += filled
            return filled

    def open(self) -> list[str]:
        """The open orders."""
        with self._lock:
            return list(self._open)

    def next_order(self) -> str:
        """The next order that is placed: a call that lasts until there is one."""
        with self._lock:
            self._listeners += 1
        try:
            return self._news.get()
        finally:
            with self._lock:
                self._listeners -= 1

    def listeners(self) -> int:
        """How many calls of :meth:`next_order` are in progress."""
        with self._lock:
            return self._listeners


METHODS: Final = ("health", "place", "fill", "open", "next_order", "listeners")


class _ServiceManager(BaseManager):
    pass


def serve(port: int, ready_event: ReadyEvent | None = None) -> None:
    """Serve a new book of orders at *port* until SIGTERM, a call of ``shutdown``, or the end of the process that started it.

    Raises:
        OSError: the port is taken; the process then ends with exit code 1.
    """
    # Taken by sigwait below, and never by a handler: one that runs just before the manager's server begins one of its
    # rests, of a second each, would be heard after it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    orders = Orders()
    _ServiceManager.register("orders", callable=lambda: orders, exposed=METHODS)
    server = _ServiceManager((HOST, port), AUTHKEY).get_server()

    def until_shut_down() -> None:
        try:
            server.serve_forever()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    def until_alone() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    for wait_for_end in (until_shut_down, until_alone):
        threading.Thread(target=wait_for_end, name=wait_for_end.__name__, daemon=True).start()
    if ready_event is not None:
        ready_event.set()  # it listens: a connection made from now on will be accepted
    signal.sigwait({signal.SIGTERM})
