"""What several test files use: threads that cannot hang, children that say how they ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from waitkit import process_exited, wait_for
from waitkit.engine.clock import SystemClock
from waitkit.engine.descriptor_place import DescriptorPlace
from waitkit.engine.frames import current_frames

#: Stretches the limits of the tests, too, on slow machines.
SCALE = float(os.environ.get("WAITKIT_TIMEOUT_SCALE", "1"))
# Generous on purpose: nothing is measured against it. It turns a hang into a failure.
LIMIT = 20.0 * SCALE

ROOT = Path(__file__).resolve().parent.parent


def until(condition: object, what: str = "the test's own preparation") -> object:
    """Wait for something the test itself needs, within the generous limit."""
    return wait_for(condition, LIMIT, message=what)


class Running:
    """A function in a thread of its own; :meth:`result` gives what it returned, or raises what it raised."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self._outcome: object = None
        self._error: BaseException | None = None
        self._function, self._args = function, args
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._outcome = self._function(*self._args)
        except BaseException as error:
            self._error = error

    def result(self) -> object:
        self.thread.join(2 * LIMIT)
        assert not self.thread.is_alive(), "the thread hangs"
        if self._error is not None:
            raise self._error
        return self._outcome


def rests(running: Running) -> bool:
    """Whether the thread of *running* rests in a wait of waitkit."""
    frame = current_frames().get(running.thread.ident or 0)
    return frame is not None and frame.f_code in (SystemClock.rest.__code__, DescriptorPlace.rest.__code__)


def together(*functions: Callable[[], object]) -> list[object]:
    """Run functions in threads at the same time, and give back their results; the first exception is raised."""
    gate = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> object:
        gate.wait(LIMIT)
        return function()

    return [running.result() for running in [Running(run, function) for function in functions]]


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def foreign_threads() -> list[str]:
    """The names of the threads that are not waitkit's own: those end by themselves when they are idle."""
    return sorted(thread.name for thread in threading.enumerate() if not thread.name.startswith("waitkit-"))


def waiters(condition: threading.Condition) -> int:
    """How many wait at a ``threading.Condition``: each who stands in its queue, and each who listens through our hook."""
    return len(condition._waiters) + len(condition.__dict__.get("notify", ()))


def in_child(function: Callable[[], object]) -> None:
    """Run *function* in a forked child, and fail with its traceback where it raises or hangs."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        end_if_it_hangs(LIMIT)
        code = 1
        try:
            function()
            code = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as report:
        expect_exit(pid, report.read)


def end_if_it_hangs(seconds: float) -> None:
    """Have the kernel end this process, a forked child, after a time; the handler of pytest-timeout would raise instead."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(round(seconds))


def expect_exit(pid: int, report: Callable[[], bytes] = lambda: b"") -> None:
    """Wait for a forked child, reap it, and fail unless its exit code is 0."""
    wait_for(process_exited(pid), 2 * LIMIT, message="the forked child")
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, report().decode() or f"the child ended with status {status}"


def python(code: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script in an interpreter of its own; its streams are kept apart."""
    return subprocess.run(
        [sys.executable, "-S", *args, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path) or str(ROOT), **env},
        cwd=ROOT,
    )


@contextlib.contextmanager
def handler(number: int, function: Callable[[], object]) -> Iterator[None]:
    """Have *function* called by a signal, for the length of a block."""
    previous = signal.signal(number, lambda *_: function())
    try:
        yield
    finally:
        signal.signal(number, previous)


def send_to_main(number: int, handled: threading.Event) -> None:
    """Send a signal to the main thread, and see to it that its handler runs.

    CPython runs a handler between two bytecodes. Where the signal comes after the last one, but before the thread rests
    in the kernel, nothing interrupts that rest (a bare ``Event.wait`` too; measured: 15 % of tightly timed signals of
    another thread). So signals that do nothing follow, until the test says that it was heard.
    """
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, number)
    while not handled.wait(0.002):
        signal.pthread_kill(main, signal.SIGUSR2)


@contextlib.contextmanager
def nudges() -> Iterator[None]:
    """Let :func:`send_to_main` send its signals that do nothing."""
    with handler(signal.SIGUSR2, lambda: None):
        yield


@contextlib.contextmanager
def ctrl_c_when(condition: object) -> Iterator[None]:
    """Interrupt the main thread in this block, as Ctrl-C does, when *condition* holds."""
    heard = threading.Event()

    def interrupted() -> None:
        heard.set()
        raise KeyboardInterrupt

    def send() -> None:
        until(condition)
        send_to_main(signal.SIGINT, heard)

    with nudges(), handler(signal.SIGINT, interrupted):
        sending = Running(send)
        yield
        sending.result()


# For multiprocessing with "spawn", which imports the function by its name.


def wait_for_line(connection: object) -> None:
    """End when told so, or when the other side is gone."""
    with contextlib.suppress(EOFError):
        connection.recv()


def leave_grandchild(connection: object) -> None:
    """Start a process that inherits all our descriptors, tell its pid, and end before it."""
    grandchild = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    connection.send(grandchild.pid)
    os._exit(7)


def set_shared(event: object) -> None:
    """Set a shared event."""
    event.set()
