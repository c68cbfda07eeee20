"""``managed_process``: a block that begins when the process is ready, and what is said when it is not."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import children
import psutil
import pytest
from children import LONG, START_METHODS, nothing_left, own_children, program  # noqa: F401

from waitkit import (
    Cancelled,
    CancelScope,
    ProcessExit,
    WaitFailed,
    WaitTimeout,
    any_of,
    fail_after,
    http_ok,
    managed_process,
    path_exists,
    port_listening,
    reserved_port,
    wait_for,
    wait_for_async,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

STAY = ["sleep", "infinity"]


def test_program_without_readiness() -> None:
    """A program is started, runs during the block in a session of its own, and is gone after it."""
    with managed_process(STAY) as process:
        running = psutil.Process(process.pid)
        assert running.name() == "sleep"
        assert os.getsid(process.pid) == process.pid
        assert process.exit_code is None
    assert not running.is_running()
    assert process.exit_code == -signal.SIGTERM


@pytest.mark.parametrize("start_method", START_METHODS)
def test_callable_ready_by_event(start_method: str) -> None:
    """A callable is ready when it says so, by each of multiprocessing's start methods."""
    with reserved_port() as port:
        with managed_process(children.listen, port, ready="event", start_method=start_method) as process:
            # Its word is enough: no look at the port is needed in between.
            socket.create_connection(("127.0.0.1", port)).close()
            assert process.pid != os.getpid()
            assert os.getsid(process.pid) == process.pid
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    assert process.exit_code == -signal.SIGTERM


def test_event_set_twice() -> None:
    """Setting the event again does nothing, and it knows that it is set."""
    with managed_process(children.ready_many_times, ready="event") as process:
        wait_for(lambda: process.output.stdout == "is_set=True\n", LONG)


def test_callable_without_readiness() -> None:
    """A callable without ``ready`` gets no event, and its block begins at once."""
    with managed_process(children.stay, 1, "two") as process:
        assert process.exit_code is None


def test_partial() -> None:
    """A functools.partial is a callable like any other."""
    with managed_process(functools.partial(children.stay, 1), 2, ready="event") as process:
        assert process.exit_code is None


def test_ready_by_port() -> None:
    """A server is ready when its port listens."""
    with reserved_port() as port:
        argv = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
        with managed_process(argv, ready=port_listening(port), ready_timeout=LONG):
            socket.create_connection(("127.0.0.1", port)).close()


def test_ready_by_http(tmp_path: Path) -> None:
    """A server is ready when it answers, in the directory it was told to work in."""
    (tmp_path / "health").write_text("well")
    with reserved_port() as port:
        argv = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
        ready = http_ok(f"http://127.0.0.1:{port}/health")
        with managed_process(argv, ready=ready, ready_timeout=LONG, cwd=tmp_path) as process:
            wait_for(lambda: '"GET /health HTTP/1.1" 200' in process.output.stderr, LONG)


def test_ready_by_path(tmp_path: Path) -> None:
    """A process is ready when its file is there."""
    path = tmp_path / "pid"
    with managed_process(children.touch, path, ready=path_exists(path)):
        assert path.exists()


def test_ready_by_any_of(tmp_path: Path) -> None:
    """Of several signs of readiness one is enough."""
    path = tmp_path / "pid"
    with reserved_port() as port:
        ready = any_of(port_listening(port), path_exists(path))
        with managed_process(["sh", "-c", f"touch {path}; exec sleep infinity"], ready=ready):
            assert path.exists()


def test_ready_by_callable() -> None:
    """A process is ready when a function of ours says so; it may look at the process itself."""
    process = managed_process(
        program("print('the banner'); import signal; signal.pause()"),
        ready=lambda: "the banner" in process.output.stdout,
        ready_timeout=LONG,
    )
    with process as entered:
        assert entered is process


@pytest.mark.parametrize("start_method", START_METHODS)
def test_callable_that_ends_before_it_is_ready(start_method: str) -> None:
    """A callable that ends first fails the start at once, with its exit code and the end of both its streams."""
    process = managed_process(children.leave, 3, ready="event", ready_timeout=None, start_method=start_method)
    with pytest.raises(WaitFailed) as caught:
        process.start()
    message = str(caught.value)
    assert re.search(
        rf"waiting for leave \(pid {process.pid}\) to be ready: its ready_event to be set, "
        r"as first came its exit \(exit code 3\)",
        message,
    )
    assert "the end of its stdout:\n    the last word to stdout" in message
    assert "the end of its stderr:\n    the last word to stderr" in message
    assert process.exit_code == 3


def test_program_that_ends_before_it_is_ready() -> None:
    """A program that ends first fails the start at once, in a wait without any limit."""
    with reserved_port() as port:
        process = managed_process(
            ["sh", "-c", "echo one; echo two >&2; exit 3"], ready=port_listening(port), ready_timeout=None
        )
        with pytest.raises(WaitFailed, match=r"as first came its exit \(exit code 3\)") as caught:
            process.start()
    message = str(caught.value)
    assert f"sh (pid {process.pid}) to be ready: port {port} to listen" in message
    assert "last: connection refused" in message
    assert "    one\n" in message
    assert "    two" in message


def test_exit_code_0_before_it_is_ready() -> None:
    """A program that ends well before it is ready has failed all the same."""
    with pytest.raises(WaitFailed, match=r"\(exit code 0\)(.|\n)*it wrote nothing"):
        managed_process(["true"], ready=lambda: False, ready_timeout=None).start()


def test_killed_before_it_is_ready() -> None:
    """A process that a signal ends before it is ready fails the start with the name of the signal."""
    with pytest.raises(WaitFailed, match=r"as first came its exit \(killed by SIGABRT\)"):
        managed_process(children.die_of, int(signal.SIGABRT), ready="event", ready_timeout=None).start()


def test_exception_before_it_is_ready() -> None:
    """A callable that raises fails the start with its traceback."""
    with pytest.raises(WaitFailed, match=r"(?s)exit code 1.*raise LookupError.*LookupError: no such table: orders"):
        managed_process(children.raise_error, ready="event", ready_timeout=None).start()


def test_not_ready_in_time() -> None:
    """A process that is not ready in time is ended; the error says what was missing and what it had written."""
    process = managed_process(children.never_ready, ready="event", ready_timeout="1s")
    with pytest.raises(WaitTimeout) as caught:
        process.start()
    message = str(caught.value)
    assert f"waiting for never_ready (pid {process.pid}) to be ready: its ready_event to be set" in message
    assert "    warming the cache" in message
    assert "    the cache is cold" in message
    assert caught.value.facts.limit == 1.0
    assert process.exit_code == -signal.SIGTERM


def test_not_ready_in_time_of_several() -> None:
    """Where several signs were awaited the error tells of each what was seen last."""
    with reserved_port() as port:
        ready = port_listening(port) & path_exists("/dev/null") & path_exists("/none/such")
        with pytest.raises(WaitTimeout) as caught:
            managed_process(STAY, ready=ready, ready_timeout="20ms").start()
    assert f"missing: port {port} to listen (connection refused); /none/such to exist" in caught.value.last
    assert "/dev/null" not in caught.value.last


def test_error_in_readiness_ends_the_process() -> None:
    """An exception of the user's check comes through, and the process is ended."""

    def check() -> bool:
        raise LookupError("mistake in the check")

    process = managed_process(STAY, ready=check)
    with pytest.raises(LookupError, match="mistake in the check"):
        process.start()
    assert process.exit_code == -signal.SIGTERM


def test_cancelled_during_readiness() -> None:
    """Cancelling a scope ends the start, and the process with it, where there is no other limit."""
    scope = CancelScope()
    process = managed_process(STAY, ready=lambda: scope.cancel(), ready_timeout=None)
    with scope:
        process.start()
    assert scope.cancelled_caught
    assert process.exit_code == -signal.SIGTERM


def test_scope_cancelled_before() -> None:
    """In a scope that is cancelled already the start fails, the process is ended, and that is not cut short."""
    scope = CancelScope()
    scope.cancel()
    process = managed_process(children.stay, ready="event", ready_timeout=None)
    with scope:
        with pytest.raises(Cancelled):
            process.start()
        assert process.exit_code == -signal.SIGTERM


def test_deadline_of_a_scope() -> None:
    """The deadline of a scope limits the start too, and the block then raises the timeout with its facts."""
    process = managed_process(STAY, ready=lambda: False, ready_timeout=None)
    with pytest.raises(WaitTimeout, match="to be ready"), fail_after("50ms"):
        process.start()
    assert process.exit_code == -signal.SIGTERM


def test_scope_does_not_shorten_the_end() -> None:
    """A scope that is over when the block is left does not keep the process from its grace."""
    code = "trap 'echo graceful; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    scope = CancelScope()
    with scope:
        process = managed_process(["sh", "-c", code], ready=lambda: "ready" in process.output.stdout)
        with process:
            scope.cancel()
    assert process.exit_code == 0
    assert process.output.stdout == "ready\ngraceful\n"


def test_started_twice() -> None:
    """Starting what runs is refused, and leaves it running."""
    with managed_process(STAY) as process:
        with pytest.raises(RuntimeError, match=rf"sleep \(pid {process.pid}\) is running already"):
            process.start()
        assert process.exit_code is None


def test_restarted() -> None:
    """What has ended can be started again: another process, with output of its own."""
    process = managed_process(["sh", "-c", "echo $$; exec sleep infinity"], ready=lambda: process.output.stdout)
    pids = []
    for _ in range(3):
        with process:
            assert process.output.stdout == f"{process.pid}\n"
            pids.append(process.pid)
    assert len(set(pids)) == 3


def test_restarted_after_its_own_end() -> None:
    """Starting again what ended by itself leaves nothing of the first time: a grandchild of then is killed."""
    process = managed_process(["sh", "-c", "sleep infinity & echo $!"])
    process.start()
    wait_for(process.exited, LONG)
    wait_for(lambda: process.output.stdout, LONG)
    grandchild = psutil.Process(int(process.output.stdout))
    try:
        process.start()
        process.stop()
        wait_for(grandchild, "5s")
    finally:
        children.end(grandchild.pid)


def test_before_the_start() -> None:
    """What a process is asked before it is started is refused, and says what to do; stopping it does nothing."""
    process = managed_process(STAY)
    for ask in (
        lambda: process.pid,
        lambda: process.exit_code,
        lambda: process.output,
        lambda: process.exited,
        lambda: process.send_signal(signal.SIGINT),
    ):
        with pytest.raises(RuntimeError, match=r"sleep has not been started: enter its block, or call start\(\)"):
            ask()
    assert process.stop() is None
    assert str(process) == "sleep"


def test_exited_is_a_condition() -> None:
    """The end of the process can be waited for like anything else, with its exit code."""
    with managed_process(["sh", "-c", "exit 7"]) as process:
        assert wait_for(process.exited, LONG) == ProcessExit(process.pid, 7)
        assert process.exit_code == 7
    with managed_process(STAY) as process, pytest.raises(WaitTimeout, match=r"to exit: .*, last: still running"):
        wait_for(process.exited, timeout=0)


def test_exited_in_asyncio() -> None:
    """An asyncio program waits for the end of a process while its loop goes on."""

    async def main() -> ProcessExit:
        with managed_process(STAY) as process:
            waiting = asyncio.create_task(wait_for_async(process.exited, timeout=None))
            for _ in range(20):
                await asyncio.sleep(0)
            assert not waiting.done()
            process.send_signal(signal.SIGINT)
            return await asyncio.wait_for(waiting, 30)

    assert asyncio.run(main()).code == -signal.SIGINT


def test_exited_wakes_many() -> None:
    """Several threads wait for one process, and all of them hear how it ended."""
    with managed_process(children.stay, ready="event") as process, ThreadPoolExecutor(6) as pool:
        waiters = [pool.submit(wait_for, process.exited, LONG) for _ in range(6)]
        process.send_signal(signal.SIGKILL)
        assert {wait_for(waiter, LONG).result() for waiter in waiters} == {ProcessExit(process.pid, -signal.SIGKILL)}


def test_send_signal() -> None:
    """A signal reaches the process while it runs, and does nothing when it is gone."""
    code = "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.01; done"
    process = managed_process(["sh", "-c", code], ready=lambda: process.output.stdout)
    with process:
        process.send_signal(signal.SIGUSR1)
        wait_for(lambda: process.output.stdout == "ready\nusr1\n", LONG)
        process.send_signal(signal.SIGKILL)
        wait_for(process.exited, LONG)
        process.send_signal(signal.SIGUSR1)


def test_environment_and_folder(tmp_path: Path) -> None:
    """``env`` is the whole environment and ``cwd`` the folder; left out, both are ours."""
    code = "import os; print(os.getcwd(), os.environ.get('HOME'), os.environ.get('ORDERS'))"
    with managed_process(program(code), env={"ORDERS": "12"}, cwd=tmp_path) as process:
        wait_for(process.exited, LONG)
    assert process.output.stdout == f"{tmp_path} None 12\n"
    with managed_process(program(code)) as process:
        wait_for(process.exited, LONG)
    assert process.output.stdout == f"{os.getcwd()} {os.environ.get('HOME')} None\n"


def test_no_such_program() -> None:
    """A program that does not exist is the system's error, and no descriptor stays open."""
    process = managed_process(["/none/such/program"])
    with pytest.raises(FileNotFoundError, match="/none/such/program"):
        process.start()
    before = psutil.Process().num_fds()
    for _ in range(5):
        with pytest.raises(FileNotFoundError):
            process.start()
    assert psutil.Process().num_fds() == before
    assert process.stop() is None


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_callable_that_cannot_be_pickled(start_method: str) -> None:
    """A lambda cannot be sent to a child: the error carries a note that says what can, and nothing is left open."""
    process = managed_process(lambda: None, start_method=start_method)  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"(?i)pickle|local object") as caught:
        process.start()
    assert "give a function at the top of a module" in caught.value.__notes__[0]
    before = psutil.Process().num_fds()
    for _ in range(5):
        with pytest.raises(Exception, match=r"(?i)pickle|local object"):
            process.start()
    assert psutil.Process().num_fds() == before


def test_argument_that_cannot_be_pickled() -> None:
    """An argument that cannot be sent gets the same note as a callable."""
    with pytest.raises(TypeError, match="pickle") as caught:
        managed_process(children.stay, threading.Lock()).start()
    assert "arguments that can be pickled" in caught.value.__notes__[0]


def test_lambda_by_fork() -> None:
    """By fork anything callable can be started."""
    with managed_process(lambda: os._exit(5), start_method="fork") as process:
        assert wait_for(process.exited, LONG).code == 5


def test_from_several_threads() -> None:
    """Processes can be started, waited for and stopped from several threads at once, callables and programs alike."""

    def use(number: int) -> int | None:
        if number % 2:
            process = managed_process(children.stay, ready="event", ready_timeout=LONG)
        else:
            process = managed_process(["sh", "-c", "echo x; exec sleep infinity"], ready=lambda: process.output.stdout)
        with process:
            assert process.exit_code is None
        return process.exit_code

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(use, range(18))) == [-signal.SIGTERM] * 18
    assert own_children() == []


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "says"),
    [
        (("redis-server --port 1",), {}, TypeError, "shlex.split"),
        ((b"redis-server",), {}, TypeError, "neither a list"),
        (([],), {}, TypeError, "neither a list"),
        ((["redis-server", 6379],), {}, TypeError, r"str\(\.\.\.\)"),
        ((["true"], "x"), {}, TypeError, "in its list"),
        ((["true"],), {"ready": "event"}, ValueError, "for a Python callable"),
        ((["true"],), {"ready": "evnt"}, ValueError, "is no condition"),
        ((children.stay,), {"ready": "port"}, ValueError, "is no condition"),
        ((["true"],), {"ready": 8080}, TypeError, r"port_listening\(8080\)"),
        ((["true"],), {"ready_timeout": "soon"}, ValueError, "ready_timeout"),
        ((["true"],), {"stop_timeout": -1}, ValueError, "stop_timeout"),
        ((["true"],), {"stop_timeout": None}, TypeError, "stop_timeout"),
        ((["true"],), {"stop_signal": 4_000}, ValueError, "4000"),
        ((children.stay,), {"env": {}}, TypeError, "for programs"),
        ((children.stay,), {"cwd": "/"}, TypeError, "for programs"),
        ((children.stay,), {"start_method": "thread"}, ValueError, "start_method='thread'"),
    ],
)
def test_mistakes(arguments: tuple[object, ...], options: dict[str, object], kind: type[Exception], says: str) -> None:
    """A mistake in an argument is refused when it is written, before anything is started."""
    with pytest.raises(kind, match=says):
        managed_process(*arguments, **options)  # type: ignore[arg-type]
