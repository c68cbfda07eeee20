"""``managed_process``: readiness that is this process's own: ports, sockets, output, functions of the process."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import signal
import socket
import sys
import threading
from pathlib import Path

import children
import psutil
import pytest
from children import LONG, http_server, nothing_left, program  # noqa: F401

from waitkit import (
    WaitFailed,
    WaitTimeout,
    all_of,
    any_of,
    http_ok,
    managed_process,
    output_matches,
    port_free,
    port_listening,
    process_exited,
    reserved_port,
    unix_socket_listening,
    wait_for,
)
from waitkit.ports import holders, owners

pytestmark = pytest.mark.usefixtures("nothing_left")

STAY = ["sleep", "infinity"]
LISTEN = "import socket, signal, sys, os\ns = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"


def test_stale_server_on_the_port_does_not_count() -> None:
    """A port that somebody else listens at does not make a process ready; the error says who answers instead."""
    with socket.create_server(("127.0.0.1", 0)) as stale:
        port = stale.getsockname()[1]
        with pytest.raises(WaitTimeout) as caught:
            managed_process(STAY, ready=port_listening(port), ready_timeout="300ms").start()
    assert re.search(
        r"last: who answers is not this process, but pid \d+ \(.*\), LISTEN on 127.0.0.1", str(caught.value)
    )


def test_whose_the_stale_server_is_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It means to go through all descriptors of the machine: not every look does."""
    asked: list[object] = []
    monkeypatch.setattr(holders, "owners_of", lambda sockets: (asked.append(sockets), owners.owners_of(sockets))[1])
    with socket.create_server(("127.0.0.1", 0)) as stale:
        port = stale.getsockname()[1]
        with pytest.raises(WaitTimeout, match=r" (\d+) looks, last: who answers is not this process") as caught:
            managed_process(STAY, ready=port_listening(port), ready_timeout="300ms").start()
    looks = re.search(r" (\d+) looks", str(caught.value))
    assert looks is not None
    assert int(looks[1]) > 4
    assert len(asked) <= 2, "once by a look, and once for the error"


def test_stale_server_behind_http_does_not_count() -> None:
    """A page that somebody else serves does not make a process ready."""
    with reserved_port() as port:
        argv = http_server(port)
        url = f"http://127.0.0.1:{port}/"
        with managed_process(argv, ready=http_ok(url), ready_timeout=LONG) as stale:
            with pytest.raises(WaitTimeout, match=rf"who answers is not this process, but pid {stale.pid} "):
                managed_process(STAY, ready=http_ok(url), ready_timeout="1s").start()


def test_stale_server_at_a_unix_socket_does_not_count(tmp_path: Path) -> None:
    """A unix socket that somebody else listens at does not make a process ready."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
        stale.listen()
        with pytest.raises(WaitTimeout, match=r"who answers is not this process, but process \d+"):
            managed_process(STAY, ready=unix_socket_listening(path), ready_timeout="300ms").start()


def own_address() -> str:
    """An address of this machine that is not loopback; where it has none, another one of that."""
    found = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ]
    return found[0] if found else "127.0.0.3"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "LOCALHOST", "own"])
def test_stale_server_at_any_address_of_this_machine(host: str) -> None:
    """A server that somebody else has left at all addresses does not make a process ready, by whatever name it is asked for."""
    host = own_address() if host == "own" else host
    with reserved_port() as port:
        argv = http_server(port, "0.0.0.0")
        with managed_process(argv, ready=port_listening(port), ready_timeout=LONG) as stale:
            # What goes through the name service or HTTP is looked at in a thread of its own, which may be late.
            for ready, limit in ((port_listening(port, host), "500ms"), (http_ok(f"http://{host}:{port}/"), "700ms")):
                with pytest.raises(WaitTimeout, match=rf"who answers is not this process, but pid {stale.pid} "):
                    managed_process(STAY, ready=ready, ready_timeout=limit).start()


def test_stale_server_at_another_address_of_the_same_port() -> None:
    """Who listens at one address of a port is not who answers at another: only the one that is asked for is judged."""
    with reserved_port() as port, socket.create_server(("127.0.0.1", port)):
        argv = [*program(LISTEN.replace("127.0.0.1", "127.0.0.2") + "signal.pause()"), str(port)]
        with managed_process(argv, ready=port_listening(port, "127.0.0.2"), ready_timeout=LONG):
            pass
        either = any_of(port_listening(port, "127.0.0.1"), http_ok(f"http://127.0.0.1:{port}/", look_timeout="50ms"))
        with pytest.raises(WaitTimeout, match=rf"but pid {os.getpid()} \(.*\), LISTEN on 127.0.0.1"):
            managed_process(argv, ready=either, ready_timeout="500ms").start()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6 here")
def test_stale_server_at_one_address_of_localhost() -> None:
    """Where a client of a name may be led to somebody else's server, that counts against it, though ours listens, too."""
    with reserved_port() as port, socket.create_server(("::1", port), family=socket.AF_INET6):
        argv = [*program(LISTEN + "signal.pause()"), str(port)]
        with managed_process(argv, ready=port_listening(port, "127.0.0.1"), ready_timeout=LONG):
            pass
        with pytest.raises(WaitTimeout, match=r"who answers is not this process, but pid .*, LISTEN on ::1"):
            managed_process(argv, ready=port_listening(port), ready_timeout="500ms").start()


def test_more_exact_than_a_stranger() -> None:
    """Where strangers share the port at all addresses, the process is ready that is bound to the very one that is asked for."""
    with socket.socket() as stale:
        stale.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stale.bind(("0.0.0.0", 0))
        stale.listen()
        port = stale.getsockname()[1]
        share = LISTEN.replace("int(sys.argv[1]))", "int(sys.argv[1])), reuse_port=True") + "signal.pause()"
        with managed_process([*program(share), str(port)], ready=port_listening(port, "127.0.0.1"), ready_timeout=LONG):
            pass
        shared = managed_process(
            [*program(share.replace("127.0.0.1", "0.0.0.0")), str(port)],
            ready=port_listening(port, "127.0.0.1"),
            ready_timeout="500ms",
        )
        with pytest.raises(WaitTimeout, match=rf"who answers is not this process, but pid {os.getpid()} "):
            shared.start()


def test_whose_port_it_is_under_other_conditions() -> None:
    """Whose port it is is asked under ``held_for`` and ``~``, too: a stranger's is not there, for this process."""
    with socket.create_server(("127.0.0.1", 0)) as stale:
        strangers = port_listening(stale.getsockname()[1])
        with pytest.raises(WaitTimeout, match="who answers is not this process"):
            managed_process(STAY, ready=strangers.held_for("1ms"), ready_timeout="300ms").start()
        with managed_process(STAY, ready=~strangers, ready_timeout=LONG):
            pass


def test_descendant_listens() -> None:
    """A port counts where a descendant listens, in a session of its own too."""
    with reserved_port() as port:
        code = LISTEN + "signal.pause()"
        line = f'setsid {sys.executable} -S -c "{code}" {port} & sleep 1000'
        with managed_process(["sh", "-c", line], ready=port_listening(port), ready_timeout=LONG):
            socket.create_connection(("127.0.0.1", port)).close()
        assert wait_for(port_free(port), 0) == port


def test_ports_are_free_when_the_block_is_left() -> None:
    """The ports of a tree can be bound right after the block, though a client is still connected."""
    with reserved_port() as port:
        code = LISTEN + "s.listen(); c = s.accept(); signal.pause()"
        for _ in range(20):
            with managed_process([*program(code), str(port)], ready=port_listening(port), ready_timeout=LONG):
                client = socket.create_connection(("127.0.0.1", port))
            with client, socket.create_server(("127.0.0.1", port)):
                pass


def test_port_that_a_stranger_holds_on_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a process outside of the tree has the listening socket too, the error at the end names the port and the holder."""
    monkeypatch.setenv("WAITKIT_TIMEOUT_SCALE", "0.05")
    ours, theirs = socket.socketpair()
    with ours, theirs, reserved_port() as port:
        theirs.set_inheritable(True)
        code = (
            LISTEN
            + "u = socket.socket(fileno=int(sys.argv[2]))\nsocket.send_fds(u, [b'x'], [s.fileno()])\nsignal.pause()"
        )

        def serve() -> None:
            sys.argv = ["", str(port), str(theirs.fileno())]
            exec(code, {})

        process = managed_process(serve, ready=port_listening(port), ready_timeout=LONG, start_method="fork").start()
        _, (kept,), _, _ = socket.recv_fds(ours, 1, 1)
        with socket.socket(fileno=kept):
            with pytest.raises(WaitTimeout) as caught:
                process.stop()
        assert f"port {port} of serve (pid {process.pid}) to be given up" in str(caught.value)
        assert re.search(rf"port {port} is held by pid \d+ \(", str(caught.value))
        assert process.exit_code == -signal.SIGTERM
        assert process.stop() == -signal.SIGTERM


def test_output() -> None:
    """A process is ready when its output matches; the value of the wait is the match, across lines and reads."""
    code = "import os, signal\nfor c in 'one\\ntwo: 42\\n': os.write(1, c.encode())\nsignal.pause()"
    with managed_process(program(code), ready=output_matches(r"one\ntwo: \d"), ready_timeout=LONG) as process:
        assert process.wait_for_output(r"two: (\d+)\n", LONG)[1] == "42"
        with pytest.raises(
            WaitTimeout, match=r"to write what matches 'three'.*the last line of its stdout is 'two: 42'"
        ):
            process.wait_for_output("three", "100ms")
        with pytest.raises(WaitTimeout):
            process.wait_for_output("two", "100ms", stream="stderr")


def test_output_wakes() -> None:
    """A wait for output is woken by it: it does not look while nothing is written."""
    looks: list[int] = []
    from waitkit import subscribe

    code = "import sys, signal\nsys.stdin.read()\nprint('x')\nsignal.pause()"
    with managed_process(["sh", "-c", "trap 'echo heard' USR1; echo up; while :; do sleep 0.01; done"]) as process:
        process.wait_for_output("up", LONG)
        with subscribe(lambda record: looks.append(record.looks)):
            timer = threading.Timer(0.5, process.send_signal, [signal.SIGUSR1])
            timer.start()
            process.wait_for_output("heard", LONG)
    assert looks[0] <= 4, code


def test_last_words_of_a_process_that_ends() -> None:
    """What a process writes right before it ends is found, every time; what it did not write fails the wait at once."""
    for _ in range(20):
        with managed_process(["sh", "-c", "echo done; exit 3"]) as process:
            assert process.wait_for_output("done", LONG)
    with managed_process(["sh", "-c", "exit 3"]) as process:
        with pytest.raises(WaitFailed, match=r"exit code 3"):
            process.wait_for_output("done", timeout=None)


def test_function_of_the_process(tmp_path: Path) -> None:
    """Readiness may depend on the process: a function of it returns a condition, or looks at it."""
    with managed_process(
        ["sh", "-c", f"touch {tmp_path}/$$; exec sleep infinity"],
        ready=lambda p: lambda: (tmp_path / str(p.pid)).exists(),
        ready_timeout=LONG,
    ) as process:
        assert (tmp_path / str(process.pid)).exists()
    with managed_process(
        ["sh", "-c", "echo up; exec sleep infinity"], ready=lambda p: "up" in p.output.stdout, ready_timeout=LONG
    ) as process:
        assert process.output.stdout == "up\n"
    with managed_process(["sh", "-c", "exit 5"], ready=lambda p: p.exited, ready_timeout=LONG) as process:
        assert process.exit_code == 5


def test_function_that_returns_nonsense() -> None:
    """A function of the process that returns no condition is a mistake, and nothing stays."""
    process = managed_process(STAY, ready=lambda p: p.pid)
    with pytest.raises(TypeError, match=r"lambda p: p.pid returned \d+: .* is not a condition"):
        process.start()
    assert process.exit_code == -signal.SIGTERM


def test_check_that_hangs() -> None:
    """A check that never comes back is overtaken by the deadline, and by the end of the process."""
    over = threading.Event()
    try:
        with pytest.raises(WaitTimeout, match=r"a look has not come back for") as caught:
            managed_process(STAY, ready=lambda: over.wait(600), ready_timeout="200ms").start()
        assert caught.value.looks >= 1
        with pytest.raises(WaitFailed, match=r"as first came its exit \(exit code 3\)"):
            managed_process(["sh", "-c", "exit 3"], ready=lambda: over.wait(600), ready_timeout=None).start()
    finally:
        over.set()


def test_server_that_accepts_and_does_not_answer() -> None:
    """A server that accepts and says nothing is not ready by http, and the deadline is kept though a look waits for it."""
    with reserved_port() as port:
        code = LISTEN + "s.listen(); signal.pause()"
        ready = all_of(port_listening(port), http_ok(f"http://127.0.0.1:{port}/", look_timeout="1h"))
        process = managed_process([*program(code), str(port)], ready=ready, ready_timeout="1s")
        with pytest.raises(WaitTimeout, match=r"missing: (port .* \(it listens\); )?http://127.0.0.1"):
            process.start()


def test_error_of_a_check() -> None:
    """A check that raises ends the start with its exception."""

    def check() -> bool:
        raise LookupError("no table")

    process = managed_process(STAY, ready=check)
    with pytest.raises(LookupError, match="no table"):
        process.start()
    assert process.exit_code == -signal.SIGTERM


def test_dies_just_after() -> None:
    """A process that dies right after it was ready gives a block, whose process has ended."""
    with managed_process(
        ["sh", "-c", "echo ready; exit 7"], ready=output_matches("ready"), ready_timeout=LONG
    ) as process:
        assert wait_for(process.exited, LONG).code == 7
    assert process.stop() == 7


def test_async_block() -> None:
    """``async with`` starts, proves and ends a process while the loop goes on."""

    async def main() -> tuple[int | None, int]:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        busy = asyncio.create_task(others())
        async with managed_process(STAY, ready=lambda: turns > 10, ready_timeout=LONG) as process:
            assert process.exit_code is None
        busy.cancel()
        return process.exit_code, turns

    code, turns = asyncio.run(main())
    assert code == -signal.SIGTERM
    assert turns > 10


def test_async_block_that_is_cancelled() -> None:
    """A task that is cancelled while its process becomes ready, or while it ends, leaves nothing."""
    deaf = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done"]

    async def main() -> None:
        starting = managed_process(STAY, ready=lambda: False, ready_timeout=None)
        task = asyncio.create_task(starting.__aenter__())
        await asyncio.sleep(0)
        assert starting.exit_code is None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert starting.exit_code == -signal.SIGTERM
        ending = managed_process(deaf, ready=output_matches("up"), stop_timeout="1h")
        await ending.__aenter__()
        task = asyncio.create_task(ending.__aexit__(None, None, None))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ending.exit_code == -signal.SIGKILL

    asyncio.run(main())


def test_failed_async_start() -> None:
    """A process that ends before it is ready fails an ``async with`` as it fails a ``with``."""

    async def main() -> None:
        async with managed_process(["sh", "-c", "exit 3"], ready=any_of(process_exited(1), lambda: False)):
            raise AssertionError("not ready")

    with pytest.raises(WaitFailed, match="exit code 3"):
        asyncio.run(main())


def test_ready_after_and_partial() -> None:
    """How long it took to be ready is known afterwards, for each start anew."""
    process = managed_process(functools.partial(children.stay, 1), ready="event", ready_timeout=LONG)
    with process:
        first = process.ready_after
        assert first is not None
        assert first > 0
        pid = process.pid
        process.restart()
        assert process.pid != pid
        assert process.ready_after not in (None, first)
