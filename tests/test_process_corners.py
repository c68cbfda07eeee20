"""``managed_process`` where something else in the program, or the system, interferes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from children import LONG, nothing_left, own_children, program  # noqa: F401
from support import Running, until

from waitkit import (
    Backoff,
    Event,
    ManagedProcess,
    RestartPolicy,
    WaitFailed,
    WaitTimeout,
    all_of,
    managed_process,
    output_matches,
    port_free,
    port_listening,
    process_exited,
    reserved_port,
    started,
    wait_for,
    who_holds,
)
from waitkit.processes import guardian, lending, life

pytestmark = pytest.mark.usefixtures("nothing_left")

STAY = ["sleep", "infinity"]


def test_a_function_that_hangs_in_its_first_call() -> None:
    """It is overtaken by the deadline, and by the end of the process, as any check is; and asked by no thread of the caller."""
    over, threads = threading.Event(), []

    def hangs(process: ManagedProcess) -> bool:
        threads.append(threading.current_thread())
        return over.wait(600)

    try:
        with pytest.raises(WaitTimeout, match="a look has not come back for"):
            managed_process(STAY, ready=hangs, ready_timeout="200ms").start()
        with pytest.raises(WaitFailed, match=r"as first came its exit \(exit code 3\)"):
            managed_process(["sh", "-c", "exit 3"], ready=hangs, ready_timeout=None).start()
    finally:
        over.set()
    assert threading.current_thread() not in threads


def test_a_function_is_asked_of_one_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """However soon a process ends, its function is asked before that end counts."""
    begins = life.Ready

    def begins_late(*args: Any) -> Any:
        wait_for(process.exited, LONG)
        return begins(*args)

    monkeypatch.setattr(life, "Ready", begins_late)
    process = managed_process(["sh", "-c", "exit 5"], ready=lambda p: p.exited, ready_timeout=LONG)
    with process:
        assert process.exit_code == 5


def test_a_function_that_names_a_pattern_late() -> None:
    """All output counts that came before the function said that it is to be searched, however much it was."""
    written = 3_000_000
    code = f"import sys; print('the first word'); print('x' * {written}); print('all', flush=True); sys.stdin.read()"

    def named(process: ManagedProcess) -> object:
        until(lambda: "all" in process.output.tail(1)[-10:])
        return output_matches("the first word")

    with managed_process(["sh", "-c", f'{sys.executable} -S -c "{code}"; exec sleep infinity'], ready=named) as process:
        assert process.ready_after is not None


def test_all_is_handed_on_when_the_block_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a process has written is in the file, and in the log, as soon as the block is left."""
    caplog.set_level(logging.INFO, "of the test")
    lines = 3_000
    for number in range(5):
        path = tmp_path / f"{number}"
        caplog.clear()
        write = ["sh", "-c", f"yes line | head -{lines}"]
        with (
            managed_process(write, tee=path) as one,
            managed_process(write, tee=logging.getLogger("of the test")) as two,
        ):
            wait_for(one.exited, LONG)
            wait_for(two.exited, LONG)
        assert path.read_text().count("line\n") == lines
        assert len(caplog.records) == lines


def test_a_log_that_hangs_does_not_hold_up_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that never comes back is waited for some seconds, and told of."""
    monkeypatch.setattr(life, "_PATIENCE", 10**8)
    over = threading.Event()

    class Hangs:
        def write(self, text: bytes) -> None:
            over.wait(600)

        def flush(self) -> None:
            pass

    with managed_process(["echo", "up"], tee=Hangs()) as process:  # type: ignore[arg-type]
        wait_for(process.exited, LONG)
    assert "some of the output of echo" in caplog.text
    over.set()


def test_the_guardian_keeps_nothing_of_ours() -> None:
    """A listener, and a lock, that children inherit are not kept by the guardian, which outlives them."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.set_inheritable(True)
        port = server.getsockname()[1]
        with managed_process(["true"]) as process:
            wait_for(process.exited, LONG)
    os.close(writer)
    wait_for(port_free(port), LONG)
    assert wait_for(lambda: os.read(reader, 1) == b"", LONG)  # nobody else has the other end
    os.close(reader)


def _environment() -> None:
    print(os.environ.get("WAITKIT_OF_THE_TEST"), flush=True)


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_our_environment_is_that_of_now(start_method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ``env`` a callable has our environment of the moment it is started, also where a server of forks is older."""
    for value in ("one", "two"):
        monkeypatch.setenv("WAITKIT_OF_THE_TEST", value)
        with managed_process(_environment, start_method=start_method) as process:  # type: ignore[arg-type]
            wait_for(process.exited, LONG)
        assert process.output.stdout == f"{value}\n"


def test_limits_that_the_system_refuses() -> None:
    """They are named, with those that we have ourselves."""
    with pytest.raises(
        PermissionError, match=r"refuses these ulimits .* nofile=\(1000000000, 1000000000\), where ours is"
    ):
        managed_process(["true"], ulimits={"nofile": 10**9}).start()
    assert own_children() == []


def test_several_threads_start_one() -> None:
    """One of them starts it, and the others are told; nothing is left but that one."""
    gate, ready = threading.Barrier(4), Event()
    process = managed_process(STAY, ready=ready, ready_timeout=None)

    def start() -> object:
        gate.wait(60)
        try:
            return process.start()
        except RuntimeError as error:
            return str(error)

    starting = [Running(start) for _ in range(4)]
    until(lambda: sum(not one.thread.is_alive() for one in starting) == 3)
    ready.set()
    results = [one.result() for one in starting]
    assert results.count(process) == 1
    assert all(result is process or "is being started already" in str(result) for result in results)
    process.stop()
    assert own_children() == []
    process.start().stop()


def test_a_good_end_is_not_answered() -> None:
    """Who waits until a process is started no more learns of a good end, too, which ``on_failure`` does not answer."""
    told: list[object] = []
    policy = RestartPolicy(when="on_failure", on_give_up=lambda *told_of: told.append(told_of))
    with managed_process(["sh", "-c", "exit 0"], restart=policy) as process:
        wait_for(process.gave_up, LONG)
        assert (process.exit_code, told) == (0, [])


@contextmanager
def nobody_keeps_exits() -> Iterator[None]:
    """``SIGCHLD`` is ignored, so that the system reaps each child itself."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_an_exit_that_nobody_keeps() -> None:
    """Where the system, or somebody else, has reaped it, its exit code is unknown, and not 0; nothing hangs."""
    with nobody_keeps_exits():
        with managed_process(["sh", "-c", "exit 3"]) as process:
            assert wait_for(process.exited, LONG) == (process.pid, None)
            assert process.exit_code is None
        assert process.stop() is None
        with pytest.raises(WaitFailed, match="exit code unknown"):
            managed_process(["sh", "-c", "exit 3"], ready=output_matches("up")).start()
    child = subprocess.Popen(["sh", "-c", "exit 3"])
    os.waitpid(child.pid, 0)
    assert wait_for(child, LONG) == (child.pid, None)
    child.returncode = 3


def test_an_exit_that_nobody_keeps_is_no_good_end() -> None:
    """``on_failure`` answers an end of which nobody knows how it was."""
    with nobody_keeps_exits():
        policy = RestartPolicy(when="on_failure", limit="2/h", backoff=Backoff(base="1ms", max_delay="1ms"))
        with managed_process(["sh", "-c", "exit 3"], restart=policy) as process:
            wait_for(process.gave_up, LONG)
        assert process.restarts.get() == 2


@pytest.mark.parametrize("path", ["/no/such/program", "/etc/passwd"])
def test_a_socket_for_no_program(path: str) -> None:
    """A program that is not there, or is none, is told when it is written, though a shim would start."""
    reservation = reserved_port()
    kind = FileNotFoundError if "no" in path else PermissionError
    with reservation, pytest.raises(kind, match=path):
        managed_process([path], sockets=[reservation.listen()])


@pytest.mark.parametrize("in_a_loop", [False, True])
def test_those_that_are_ready_end_beside_those_that_are_not(tmp_path: Path, in_a_loop: bool) -> None:
    """Where one fails, all others are asked to end at once, those that were ready too: here each waits for the other."""
    go = tmp_path / "go"

    def one(name: str, other: str, ready: Callable[[], bool]) -> ManagedProcess:
        asked = f"touch {name}; while ! [ -e {other} ]; do sleep 0.01; done; exit 0"
        line = f"trap '{asked}' TERM; echo up; while :; do sleep 0.01; done"
        return managed_process(
            ["sh", "-c", line],
            cwd=tmp_path,
            ready=all_of(output_matches("up"), ready),
            ready_timeout=None,
            stop_timeout=LONG,
        )

    is_ready = one("a", "b", lambda: go.touch() is None)
    waits = one("b", "a", lambda: False)
    fails = managed_process(
        ["sh", "-c", f"while ! [ -e {go} ]; do sleep 0.01; done; exit 3"], ready=output_matches("up")
    )

    async def in_loop() -> None:
        async with started(is_ready, waits, fails):
            raise AssertionError("not all are ready")

    with pytest.raises(WaitFailed, match="exit code 3"):
        if in_a_loop:
            asyncio.run(in_loop())
        with started(is_ready, waits, fails):
            raise AssertionError("not all are ready")
    assert (is_ready.exit_code, waits.exit_code) == (0, 0)


def test_a_reservation_in_a_forked_child() -> None:
    """It holds nothing there, and says so; a listener is inherited, so that the child may serve by it."""
    reservation = reserved_port()
    with reservation as port:
        listener = reservation.listen()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writer, f"{reservation.released} {listener.getsockname()[1] == port}".encode())
            os._exit(0)
        os.close(writer)
        wait_for(process_exited(pid), LONG)
        os.waitpid(pid, 0)
        assert os.read(reader, 99) == b"True True"
        os.close(reader)
        assert {holder.pid for holder in who_holds(port)} == {os.getpid()}


def _serve(listener: socket.socket) -> None:
    while True:
        listener.accept()[0].close()


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_a_callable_that_gets_its_socket(start_method: str) -> None:
    """A listener of ours, given as an argument, stays open here when the callable is gone: it is not one to become free."""
    reservation = reserved_port()
    with reservation as port:
        listener = reservation.listen()
        with managed_process(_serve, listener, start_method=start_method, ready=port_listening(port)) as process:  # type: ignore[arg-type]
            socket.create_connection(("127.0.0.1", port), 30).close()
        assert process.exit_code == -signal.SIGTERM
        assert listener.fileno() >= 0


@pytest.mark.parametrize("fails", ["others_may_fork", "mark"])
def test_a_start_that_fails_while_it_asks_holds_up_no_other(monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """Where no descriptor is left to ask with, that start fails, and later ones in other threads go on."""

    def no_descriptor(*_: object) -> bool:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(lending, fails, no_descriptor)
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        managed_process(STAY).start()
    monkeypatch.undo()

    def starts() -> int | None:
        return managed_process(STAY).start().stop()

    assert Running(starts).result() == -signal.SIGTERM


@pytest.mark.parametrize("number", ["99999999999999999999", "٣", "-1", "1" * 4_000])
def test_an_errno_that_is_none(number: str) -> None:
    """What a child says is no reason for its error not to be told."""
    send = (
        "import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); name = os.environ['NOTIFY_SOCKET']\n"
        f"s.sendto('ERRNO={number}\\nSTATUS=told'.encode(), name.replace('@', '\\0', 1)); raise SystemExit(3)"
    )
    process = managed_process(program(send), ready="notify")
    with pytest.raises(WaitFailed, match=r"exit code 3\)(.|\n)*its last status: told"):
        process.start()
    assert process.errno is None


def test_a_process_in_a_fork_of_ours() -> None:
    """In a forked child, which is not its parent, a process runs for as long as it does; how it ended is not known there."""
    with managed_process(STAY) as process:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                told = [process.exit_code]
                with contextlib.suppress(WaitTimeout):
                    told.append(wait_for(process.exited, "50ms"))  # type: ignore[arg-type]
                os.write(writer, repr(told).encode())
                wait_for(process.exited, LONG)
                os.write(writer, repr(process.exit_code).encode())
            finally:
                os._exit(0)
        assert os.read(reader, 99) == b"[None]"
        process.stop()
        assert os.read(reader, 99) == b"None"
        os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)


class _Text:
    """Takes text alone, and does not say so."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("make", [io.StringIO, _Text])
def test_characters_that_lie_across_two_reads(make: Callable[[], Any]) -> None:
    """A tee of text gets each character whole, wherever a read ends."""
    written, target = "a" + "€" * 100_000, make()
    code = "import sys; sys.stdout.reconfigure(encoding='utf-8'); print('a' + '€' * 100_000)"
    with managed_process(program(code), tee=target) as process:
        wait_for(process.exited, LONG)
    assert (target.getvalue() if isinstance(target, io.StringIO) else target.text) == f"{written}\n"


def test_a_log_of_what_has_no_line_breaks(caplog: pytest.LogCaptureFixture) -> None:
    """A line without end is logged in pieces, none of which is lost."""
    caplog.set_level(logging.INFO, "of the test")
    size = 3_000_000
    with managed_process(
        ["sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x"], tee=logging.getLogger("of the test")
    ) as one:
        wait_for(one.exited, LONG)
    pieces = [record.args[2] for record in caplog.records if record.args]  # type: ignore[index]
    assert "".join(map(str, pieces)) == "x" * size
    assert max(map(len, map(str, pieces))) < 3 * 65_536


@pytest.mark.parametrize("executable", ["/bin/false", "/no/such/python", ""])
def test_no_guardian_where_there_is_no_python(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, executable: str
) -> None:
    """Where the interpreter is another program no guardian is started, or a few and then no more; all else works."""
    own = guardian._Guardian()
    monkeypatch.setattr(guardian, "_guardian", own)
    monkeypatch.setattr(sys, "executable", executable)
    with managed_process(STAY) as process:
        if executable == "/bin/false":
            until(lambda: "does not run the guardian" in caplog.text)
            assert own._failures == guardian._MOST_FAILURES
        assert process.exit_code is None
        assert own._writer is None
    assert process.exit_code == -signal.SIGTERM


def test_a_listener_of_an_ipv6_reservation() -> None:
    """It listens where its reservation holds the port."""
    reservation = reserved_port(family="ipv6")
    with reservation as port:
        assert reservation.listen().getsockname()[:2] == ("::1", port)


def test_who_waits_in_async_with() -> None:
    """The error names the line of the ``async with``."""

    async def main() -> None:
        async with managed_process(STAY, ready=lambda: False, ready_timeout="50ms"):
            pass

    with pytest.raises(WaitTimeout, match=r"waited at tests/test_process_corners.py:\d+"):
        asyncio.run(main())


def test_the_words_for_a_bad_limit() -> None:
    """The argument is named that there is."""
    with pytest.raises(ValueError, match="limit='0/min' is no limit"):
        RestartPolicy(limit="0/min")  # type: ignore[arg-type]


def test_one_that_goes_to_the_background() -> None:
    """A server that goes to the background by itself is told not to."""
    process = managed_process(["sh", "-c", "sleep 60 & exit 0"], ready=output_matches("never"))
    with pytest.raises(WaitFailed, match="goes to the background is to be told not to"):
        process.start()
