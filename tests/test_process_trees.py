"""``managed_process``: the whole tree ends, whatever its members did to leave it, and however we end ourselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from children import LONG, START_METHODS, ended_afterwards, is_living, nothing_left, own_children, program  # noqa: F401

from waitkit import managed_process, wait_for
from waitkit.processes import guardian, identity, tree
from waitkit.processes.lending import mark, new_mark

pytestmark = pytest.mark.usefixtures("nothing_left")

STAY = ["sleep", "infinity"]

#: How a program may leave: each line starts a process that has left in this way, and tells its pid.
WAYS_OUT = {
    "another group": "set -m; sleep 1000 & echo $!",
    "another session": "setsid sleep 1000 & echo $!",
    "another parent": "(sleep 1000 & echo $!)",
    "a daemon": "(setsid sh -c 'sleep 1000 & echo $!')",
    "a daemon without environment": "(env -i setsid sh -c 'sleep 1000 & echo $!')",
    "a daemon without environment and descriptors": "(env -i setsid sh -c 'sleep 1000 <&- 2>&- & echo $!')",
    "a daemon without the mark": "(ulimit -S -x unlimited; setsid sh -c 'sleep 1000 & echo $!')",
    "another parent without mark and environment": "(ulimit -S -x unlimited; env -i sh -c 'sleep 1000 & echo $!')",
    "another parent, from a root without the mark": "ulimit -S -x unlimited; env -i sh -c 'sleep 1000 & echo $!'",
}


@pytest.fixture(params=["the young", "all", "all, by their parents"])
def looked_at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ways to look for members, of which the age of a tree and the kernel decide."""
    if request.param != "the young":
        monkeypatch.setattr(identity, "_YOUNG", -1)
    if request.param == "all, by their parents":
        monkeypatch.setattr(tree, "_kernel_lists_children", lambda: False)


@pytest.mark.usefixtures("looked_at")
@pytest.mark.parametrize("way", WAYS_OUT)
def test_descendant_that_left(way: str) -> None:
    """What a program has started is gone when the block is left, however it left the program."""
    pids: list[int] = []
    with ended_afterwards(pids):
        with managed_process(["bash", "-c", WAYS_OUT[way] + "; exec sleep 1000"]) as process:
            pids.append(int(process.wait_for_output(r"(\d+)\n", LONG)[1]))
            assert is_living(pids[0])
        assert not is_living(pids[0])


def daemonize_twice(*, ready_event: object) -> None:
    """Fork twice, leave the session, close all descriptors; the grandchild stays, and no environment tells of it."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, str(os.getpid()).encode())
            os.closerange(0, 100)
            signal.pause()
        os._exit(0)
    os.wait()
    print(os.read(reading, 100).decode())
    ready_event.set()  # type: ignore[attr-defined]
    signal.pause()


@pytest.mark.parametrize("method", START_METHODS)
def test_daemon_of_a_callable(method: str) -> None:
    """A daemon that a callable forked is gone with it, though it runs no program of its own that could carry a name."""
    pids: list[int] = []
    with ended_afterwards(pids):
        with managed_process(daemonize_twice, ready="event", start_method=method) as process:
            pids.append(int(process.wait_for_output(r"(\d+)\n", LONG)[1]))
            assert is_living(pids[0])
        assert not is_living(pids[0])


def test_program_that_daemonizes_itself() -> None:
    """A program whose first process ends at once, and whose daemon goes on, is gone when the block is left."""
    pids: list[int] = []
    with ended_afterwards(pids):
        with managed_process(["sh", "-c", "env -i setsid sh -c 'sleep 1000 & echo $!' & "]) as process:
            wait_for(process.exited, LONG)
            pids.append(int(wait_for(lambda: process.output.stdout, LONG)))
            assert is_living(pids[0])
        assert not is_living(pids[0])


def test_mark_that_cannot_be_set() -> None:
    """Where the hard limit leaves no room for a mark, those who left the session are found by the name of their tree."""
    code = f"""
        import resource, sys
        sys.path[:0] = {sys.path!r}
        from waitkit import managed_process
        resource.setrlimit(10, (1000, 1000))
        way = "(setsid sh -c 'sleep 1000 & echo $!'); exec sleep 1000"
        with managed_process(["bash", "-c", way]) as process:
            print(process.wait_for_output(r"(\\d+)\\n")[1], flush=True)
            process._started().child.identity._born -= 1000
    """
    command = program(textwrap.dedent(code))
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert not is_living(int(run.stdout))


def test_others_are_left_alone() -> None:
    """Neither another managed process, nor a child of ours that is none, ends with a tree that is killed."""
    other = subprocess.Popen(STAY, start_new_session=True)
    try:
        with managed_process(STAY) as neighbour:
            with managed_process(STAY):
                pass
            with managed_process(["true"]) as short:
                wait_for(short.exited, LONG)
            assert neighbour.exit_code is None
            assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_number_that_was_given_to_another_process() -> None:
    """A process that has got the number of a root, or of a member, since is not taken for it."""
    stranger = subprocess.Popen(["sleep", "infinity"], start_new_session=True)
    try:
        facts = tree.facts_of(stranger.pid)
        assert facts is not None
        reused = tree.Root(new_mark(), stranger.pid, facts.start - 1)
        assert tree.members(reused) == {}
        facts.start -= 1
        tree._kill(stranger.pid, facts)
        assert stranger.poll() is None
        assert set(tree.members(tree.Root(new_mark(), stranger.pid, facts.start + 1))) == {stranger.pid}
    finally:
        stranger.kill()
        stranger.wait()


FORK_AND_END = """
import os, sys
os.read(0, 1)  # told to
if os.fork() == 0:
    os.close(0), os.close(1)
    os.read(2, 1)  # until we are gone
    os._exit(0)
print("ended", flush=True)
"""


def test_member_that_forks_and_ends_while_it_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was listed, forks and has ended when it is looked at, may have left a child that is not on the list: look again.

    It stays a zombie, as its parent does not reap it: it is there, and yet says nothing of its child.
    """
    root = tree.Root(new_mark())
    reading, writing = os.pipe()
    before = mark(0, root.mark)
    assert before is not None
    member = subprocess.Popen(program(FORK_AND_END), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=reading)
    mark(0, before)
    assert member.stdin is not None and member.stdout is not None
    listdir = os.listdir

    def list_then_fork(path: str) -> list[str]:
        found = listdir(path)
        if path == "/proc" and not member.stdin.closed:
            member.stdin.close()
            assert member.stdout.read() == b"ended\n"
            wait_for(lambda: not is_living(member.pid), LONG)
        return found

    monkeypatch.setattr(os, "listdir", list_then_fork)
    with member.stdout:
        killed = tree.kill_members(root)
    os.close(reading)
    os.close(writing)  # ends the child, should it have got away
    assert member.wait() == 0
    assert len(killed) == 1 and member.pid not in killed


def test_process_whose_first_thread_has_ended() -> None:
    """A process goes on when its first thread ends, though the system then calls it a zombie; it is ended like any other."""
    code = """
        import ctypes, signal, threading
        threading.Thread(target=lambda: (print("on", flush=True), signal.sigwait([signal.SIGUSR1]))).start()
        ctypes.CDLL(None).pthread_exit(None)
    """
    with managed_process(program(textwrap.dedent(code)), stop_signal=signal.SIGUSR2) as process:
        process.wait_for_output("on", LONG)
        wait_for(lambda: "Z" in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2], LONG)
        assert is_living(process.pid)
        assert process.pid in tree.members(process._started().child.identity.guarded.root)
    assert process.exit_code == -signal.SIGUSR2


@pytest.mark.usefixtures("looked_at")
@pytest.mark.parametrize("grace", [0, LONG], ids=["killed", "asked to end"])
@pytest.mark.parametrize("rest", ["exec sleep 1000", "exit 0"], ids=["its root stays", "its root has ended"])
def test_tree_in_a_tree(rest: str, grace: float) -> None:
    """A member that manages processes of its own goes with all of them, those that left included, however it goes itself."""
    code = f"""
        import os, sys
        sys.path[:0] = {sys.path!r}
        from waitkit import managed_process, wait_for
        inner = managed_process(["bash", "-c", {WAYS_OUT["a daemon without environment"]!r} + "; {rest}"])
        inner.start()
        pid = inner.wait_for_output(r"(\\d+)\\n")[1]
        if "exit" in {rest!r}:
            wait_for(inner.exited)
        print("daemon", pid, flush=True)
        import signal
        signal.pause()
    """
    pids: list[int] = []
    with ended_afterwards(pids):
        with managed_process(program(textwrap.dedent(code)), stop_timeout=grace) as process:
            pids.append(int(process.wait_for_output(r"daemon (\d+)\n", LONG)[1]))
            assert is_living(pids[0])
            pids += process._started().child.identity.members()
        assert [pid for pid in pids if is_living(pid)] == []


SUPERVISOR = """
import os, signal, sys
sys.path[:0] = {path!r}
from waitkit import managed_process
import callables as children

if __name__ == "__main__":
    way = sys.argv[1]
    program = managed_process(["bash", "-c", sys.argv[2] + "; exec sleep 1000"], stop_timeout=60).start()
    print(program.wait_for_output(r"(\\d+)\\n")[1], program.pid)
    for method in sys.argv[3:]:
        one = managed_process(children.start_grandchild, ready="event", start_method=method).start()
        print(one.wait_for_output(r"(\\d+)\\n")[1], one.pid)
    print("all", flush=True)
    signal.pause()
"""


def supervisor(tmp_path: Path, *arguments: str) -> tuple[subprocess.Popen[str], list[int]]:
    """A program that manages processes, and the pids of those."""
    script = tmp_path / "supervisor.py"
    script.write_text(SUPERVISOR.format(path=sys.path))
    running = subprocess.Popen([sys.executable, script, *arguments], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    pids: list[int] = []
    with running.stdout as lines:
        for line in lines:
            if line == "all\n":
                return running, pids
            pids += map(int, line.split())
    raise AssertionError("the supervisor did not get so far")


@pytest.mark.parametrize("way", WAYS_OUT)
def test_parent_that_is_killed_with_a_tree_that_has_left(way: str, tmp_path: Path) -> None:
    """The guardian finds whom a program that is killed has left behind, whatever they did to leave it."""
    running, pids = supervisor(tmp_path, "x", WAYS_OUT[way])
    with ended_afterwards(pids):
        running.kill()
        wait_for(running, LONG)
        wait_for(lambda: not any(map(is_living, pids)), LONG)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_parent_that_is_killed(number: signal.Signals, tmp_path: Path) -> None:
    """A program that is killed leaves nothing of its managed processes behind, with their daemons, and no guardian."""
    running, pids = supervisor(tmp_path, "x", WAYS_OUT["a daemon without environment"], *START_METHODS)
    helpers = [child.pid for child in psutil.Process(running.pid).children() if child.pid not in pids]
    with ended_afterwards([*pids, *helpers]):
        assert len(pids) == 8
        running.send_signal(number)
        wait_for(running, LONG)
        wait_for(lambda: not any(map(is_living, [*pids, *helpers])), LONG)


def test_guardian_that_is_killed(tmp_path: Path) -> None:
    """A guardian that somebody kills is replaced, and the next one knows what there is to guard."""
    running, pids = supervisor(tmp_path, "x", WAYS_OUT["another session"])

    def guardians() -> list[int]:
        return [
            child.pid
            for child in psutil.Process(running.pid).children()
            if is_living(child.pid) and "guard.py" in str(child.cmdline())
        ]

    with ended_afterwards(pids):
        (first,) = guardians()
        os.kill(first, signal.SIGKILL)
        (second,) = wait_for(lambda: [pid for pid in guardians() if pid != first], LONG)
        running.kill()
        wait_for(running, LONG)
        wait_for(lambda: not any(map(is_living, [*pids, second])), LONG)


@pytest.mark.slow
def test_parent_killed_during_the_launch(tmp_path: Path) -> None:
    """A program that is killed before it could note what it has just started leaves that behind neither."""
    code = """
        import os, signal, sys
        sys.path[:0] = {path!r}
        from waitkit import managed_process
        from waitkit.processes import children as launching
        import callables as children

        def die(pid, guarded):
            print(pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        if __name__ == "__main__":
            if sys.argv[1] == "program":
                process = managed_process(["sleep", "1000"])
            else:
                process = managed_process(children.stay, start_method=sys.argv[1])
            launching.Identity = die
            process.start()
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code).format(path=sys.path))
    for kind in ("program", *START_METHODS):
        running = subprocess.Popen([sys.executable, script, kind], stdout=subprocess.PIPE, text=True)
        assert running.stdout is not None
        with running.stdout as lines:
            pid = int(lines.readline())
        wait_for(running, LONG)
        with ended_afterwards([pid]):
            wait_for(lambda pid=pid: not is_living(pid), LONG, message=f"the end of the {kind}")


def test_guardian_ends_when_there_is_nothing_to_guard() -> None:
    """A program that manages nothing any more has no guardian after a while, and a new one when it needs it."""
    with managed_process(["true"]):
        first = guardian._guardian._pid
        assert is_living(first)
    wait_for(lambda: not psutil.pid_exists(first), LONG)  # reaped, too
    with managed_process(["true"]):
        second = guardian._guardian._pid
        assert second != first
        assert is_living(second)


def test_forked_child_of_ours_does_not_keep_the_guardian_waiting(tmp_path: Path) -> None:
    """A fork of ours that lives on does not keep the guardian from noticing that we were killed."""
    code = """
        import os, signal, sys
        sys.path[:0] = {path!r}
        from waitkit import managed_process
        process = managed_process(["sleep", "1000"]).start()
        if (other := os.fork()) == 0:
            signal.pause()
        print(process.pid, other, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    running = subprocess.Popen(program(textwrap.dedent(code).format(path=sys.path)), stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    with running.stdout as lines:
        pid, other = map(int, lines.readline().split())
    wait_for(running, LONG)
    with ended_afterwards([pid, other]):
        wait_for(lambda: not is_living(pid), LONG)
        assert is_living(other)


def test_member_in_the_middle_of_an_exec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has no environment yet, as he is in the middle of an exec, is looked at again; whoever never has one is not."""
    root = tree.Root(tree.FIRST_MARK + 1)
    name = f"{tree.MARK}{root.mark}"
    member = subprocess.Popen(["sleep", "infinity"], env={**os.environ, name: ""}, start_new_session=True)
    bare = subprocess.Popen(["sleep", "infinity"], start_new_session=True)
    reads: list[str] = []

    def amid_exec(path: str, read: Callable[[str], bytes] = tree.read) -> bytes:
        if f"/{bare.pid}/" in path:
            return b""
        if f"/{member.pid}/" in path and "stat" not in path:
            reads.append(path)
            return b"" if len(reads) <= 10 else read(path)
        return read(path)

    try:
        wait_for(lambda: name.encode() in tree.read(f"/proc/{member.pid}/environ"))
        monkeypatch.setattr(tree, "read", amid_exec)
        assert list(tree.kill_members(root)) == [member.pid]
    finally:
        for process in (member, bare):
            process.kill()
            process.wait()
