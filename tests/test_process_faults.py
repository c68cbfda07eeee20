"""``managed_process`` under faults: whatever happens to it or to us, nothing is left running."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from children import LONG, nothing_left, own_children, program  # noqa: F401
from support import ctrl_c_when, in_child

from waitkit import (
    CancelScope,
    ManagedProcess,
    WaitFailed,
    after,
    managed_process,
    output_matches,
    port_listening,
    reserved_port,
    wait_for,
)
from waitkit.processes import tree

pytestmark = pytest.mark.usefixtures("nothing_left")

STAY = ["sleep", "infinity"]
DEAF = ["sh", "-c", "trap 'echo asked' TERM; echo deaf; while :; do sleep 0.01; done"]


def deaf() -> ManagedProcess:
    """A process that hears the stop signal, and does not go."""
    return managed_process(DEAF, ready=output_matches("deaf"), ready_timeout=LONG, stop_timeout="1h")


def test_interrupted_twice() -> None:
    """A second Ctrl-C, while the process is being killed because of the first, changes nothing: it is gone, and so is its tree."""
    process = deaf().start()
    tree_of_it = list(process._started().child.identity.members())
    kill = process._started().child.identity.kill_tree
    killed: list[int] = []

    def kill_and_be_interrupted() -> dict[int, tree.Facts]:
        found = kill()
        killed.append(len(found))
        if len(killed) == 1:
            signal.raise_signal(signal.SIGINT)
        return found

    process._started().child.identity = Interrupting(process._started().child.identity, kill_and_be_interrupted)  # type: ignore[assignment]

    with ctrl_c_when(lambda: "asked" in process.output.stdout), pytest.raises(KeyboardInterrupt):
        process.stop()
    assert len(killed) >= 2
    for pid in tree_of_it:
        facts = tree.facts_of(pid)
        assert facts is None or not facts.living
    assert process.exit_code == -signal.SIGKILL
    assert process.stop() == -signal.SIGKILL


class Interrupting:
    """An identity whose tree is killed by another function."""

    def __init__(self, inner: object, kill_tree: object) -> None:
        self._inner = inner
        self.kill_tree = kill_tree

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


def test_cancelled_during_readiness() -> None:
    """A scope that is cancelled from another thread ends the start, and the process."""
    scope = CancelScope()
    looking = threading.Event()
    process = managed_process(STAY, ready=lambda: looking.set(), ready_timeout=None)

    def cancel() -> None:
        wait_for(looking, LONG)
        scope.cancel("enough")

    thread = threading.Thread(target=cancel)
    thread.start()
    with scope:
        process.start()
    wait_for(thread, LONG)
    assert scope.cancelled_caught
    assert process.exit_code == -signal.SIGTERM


def test_cancelled_scope_does_not_shorten_the_end() -> None:
    """A block that is left by cancellation still gives its process the grace to end well."""
    code = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done"
    scope = CancelScope()
    with scope, managed_process(["sh", "-c", code], ready=output_matches("up"), ready_timeout=LONG) as process:
        scope.cancel()
        wait_for(lambda: False)
    assert process.exit_code == 0
    assert process.output.stdout == "up\nbye\n"


def test_fork_in_the_middle() -> None:
    """A fork of ours inside the block neither ends the process nor keeps anything of it; it may manage its own."""

    def child() -> None:
        assert process.stop() is None
        with managed_process(STAY) as own:
            assert own.exit_code is None
        assert own.exit_code == -signal.SIGTERM

    with managed_process(STAY) as process:
        in_child(child)
        assert process.exit_code is None
    assert process.exit_code == -signal.SIGTERM


def test_pipes_that_are_full_before_it_is_ready() -> None:
    """A server that writes megabytes to both streams before it listens is not held up."""
    code = (
        "import os, signal, socket, sys\nfor _ in range(32):\n os.write(1, b'o' * 65_536); os.write(2, b'e' * 65_536)\n"
        "s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\nsignal.pause()"
    )
    with reserved_port() as port:
        with managed_process([*program(code), str(port)], ready=port_listening(port), ready_timeout=LONG):
            pass


def test_port_stolen_between_reservation_and_start() -> None:
    """A port that was given up and taken by somebody else fails the start: with the server's words, and the thief's name."""
    reservation = reserved_port()
    with reservation as port:
        reservation.release()
        with socket.create_server(("127.0.0.1", port)):
            code = f"import socket, signal\ntry: s = socket.create_server(('127.0.0.1', {port}))\nexcept OSError as e: print(e)\nsignal.pause()"
            process = managed_process(program(code), ready=port_listening(port), ready_timeout="2s")
            with pytest.raises(TimeoutError) as caught:
                process.start()
    message = str(caught.value)
    assert f"who answers is not this process, but pid {os.getpid()} (" in message
    assert "Address already in use" in message


def test_foreign_reaper() -> None:
    """Where somebody else reaps all children of this program, a process still ends, and the block is left."""
    code = f"""
import os, sys, threading
sys.path[:0] = {sys.path!r}
from waitkit import managed_process
def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            pass
        if over:
            return
over = []
with managed_process(["sh", "-c", "sleep 1000 & wait"]) as process:
    threading.Thread(target=reap, daemon=True).start()
print("left", process.pid, flush=True)
over.append(1)
os._exit(0)
"""
    run = subprocess.run(program(code), capture_output=True, text=True, timeout=60, check=False)
    assert run.stdout.startswith("left"), run.stderr
    assert not psutil.pid_exists(int(run.stdout.split()[1]))


def test_dies_during_readiness_with_a_client_waiting() -> None:
    """A server that dies while a look waits for its answer fails the start at once, in a wait without limit."""
    code = (
        "import os, socket, sys\ns = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "c = s.accept()\nprint('gone', file=sys.stderr)\nos._exit(9)"
    )
    from waitkit import http_ok

    with reserved_port() as port:
        ready = http_ok(f"http://127.0.0.1:{port}/", look_timeout="1h")
        with pytest.raises(WaitFailed, match="exit code 9") as caught:
            managed_process([*program(code), str(port)], ready=ready, ready_timeout=None).start()
    assert "    gone" in str(caught.value)


#: Forks, for each line it reads, a program that supervises a server whose members leave it in three ways. The line is a number
#: that the program and all that comes from it carry in a limit nobody uses, so that they are told from all others.
SUPERVISORS = """
import gc, os, resource, signal, sys
sys.path[:0] = {path!r}
from waitkit import Backoff, RestartPolicy, managed_process, output_matches, wait_for
import waitkit.processes.supervisor

def supervise(token):
    hard = resource.getrlimit(resource.RLIMIT_MSGQUEUE)[1]
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (token, hard))
    policy = RestartPolicy(when="always", backoff=Backoff(base=0, max_delay=0), limit=None)
    script = "(env -i setsid sleep 1000 &); setsid sleep 2000 & echo up; exec sleep 3000"
    while True:
        with managed_process(["bash", "-c", script], ready=output_matches("up"), restart=policy) as process:
            process.send_signal(9)
            wait_for(process.restarts.equals(1))

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os.close(0)
        supervise(int(line))
    print(pid, flush=True)
    os.waitpid(pid, 0)
"""

_TOKENS = resource.RLIMIT_MSGQUEUE if sys.platform == "linux" else 0


def carriers(tokens: range) -> dict[int, int]:
    """The living processes that carry one of these numbers, and which."""
    found = {}
    for pid in psutil.pids():
        try:
            carried = resource.prlimit(pid, _TOKENS)[0]
        except (ProcessLookupError, PermissionError):
            continue
        if carried in tokens and (facts := tree.facts_of(pid)) is not None and facts.living:
            found[pid] = carried
    return found


POINTS = 300
#: So many are under way at once: what keeps a point is mostly its random delay, and the start of its guardian.
AT_ONCE = 12


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_killed_at_any_point(tmp_path: Path) -> None:
    """A program is killed at 300 random points of the lives of a supervised server: none leaves anything running.

    Nobody looks after each of them, as each look goes through all processes: all must be gone at the end.
    """
    script = tmp_path / "supervisors.py"
    script.write_text(SUPERVISORS.format(path=sys.path))
    chance = random.Random(20)
    first = 100_000 + POINTS * (os.getpid() % 1_000)
    delays = {token: chance.uniform(0, 0.15) for token in range(first, first + POINTS)}

    def kill_many(tokens: range) -> None:
        command = [sys.executable, str(script)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as forking:
            assert forking.stdin is not None and forking.stdout is not None
            for token in tokens:
                forking.stdin.write(f"{token}\n")
                forking.stdin.flush()
                pid = int(forking.stdout.readline())
                # The random point is what this test is about: it is waited for, not guessed at.
                wait_for(after(delays[token]), LONG)
                os.kill(pid, signal.SIGKILL)

    every = range(first, first + POINTS)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(kill_many, [every[start::AT_ONCE] for start in range(AT_ONCE)]))
    try:
        wait_for(lambda: not carriers(every), "15s")
    except TimeoutError:
        pass
    leftovers = [(psutil.Process(pid), delays[token]) for pid, token in carriers(every).items()]
    told = [f"killed after {delay} s: {left.pid} {left.cmdline()}" for left, delay in leftovers]
    for left, _ in leftovers:
        left.kill()
    assert told == []
    assert own_children() == []
