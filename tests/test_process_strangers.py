"""Who gets the mark of a tree because he is forked at the wrong moment: he loses it again, and nobody else does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from children import (  # noqa: F401
    LONG,
    ended_afterwards,
    is_living,
    nothing_left,
    program,
)

from waitkit import any_of, wait_for
from waitkit.processes import lending, tree
from waitkit.processes.forkers import Forkers
from waitkit.processes.guardian import Guarded

pytestmark = pytest.mark.usefixtures("nothing_left", "another_thread")


@pytest.fixture
def another_thread() -> Iterator[None]:
    """A thread that may fork: without one nobody but a root can get the mark, and nobody is looked for."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    yield
    over.set()
    thread.join()


#: Whom another thread may start: each tells the pid of the one that stays.
STRANGERS = {
    "a child": ["sh", "-c", "echo $$; exec sleep 1000"],
    "its child": ["sh", "-c", "sleep 1000 & echo $!; wait"],
    "its orphan": ["sh", "-c", "sleep 1000 & echo $!"],
    "a daemon": ["setsid", "sh", "-c", "sleep 1000 & echo $!"],
    "a daemon without environment": ["env", "-i", "setsid", "sh", "-c", "sleep 1000 & echo $!"],
    "a child in Python": program("import os, sys; print(os.getpid(), flush=True); os.execlp('sleep', 'sleep', '1000')"),
}


def started(argv: list[str], **options: Any) -> tuple[subprocess.Popen[bytes], int]:
    """A program, and the pid that it tells first."""
    process = subprocess.Popen(argv, **options | {"stdout": subprocess.PIPE})
    return process, int(process.stdout.readline())


def started_with_output(argv: list[str], **options: Any) -> tuple[subprocess.Popen[bytes], int]:
    """The same for one that tells no more."""
    process, pid = started(argv, **options)
    process.stdout.close()
    return process, pid


@pytest.mark.parametrize("order", ["before the root", "after the root"])
@pytest.mark.parametrize("stranger", STRANGERS)
def test_stranger_that_was_born_while_the_mark_was_lent(stranger: str, order: str) -> None:
    """Who got the mark because he was forked at the wrong moment loses it again, and outlives the tree; members do not."""
    guarded = Guarded()
    both: dict[str, tuple[subprocess.Popen[bytes], int]] = {}

    def start_stranger() -> None:
        thread = threading.Thread(target=lambda: both.update(stranger=started_with_output(STRANGERS[stranger])))
        thread.start()
        wait_for(thread, LONG)

    with guarded:
        if order == "before the root":
            start_stranger()
        way = "env -i sh -c 'sleep 1000 & echo $!'; sleep 1000"
        both["root"] = started_with_output(["sh", "-c", way], start_new_session=True)
        if order == "after the root":
            start_stranger()
        assert [tree.mark_of(pid) for _, pid in both.values()] == [guarded.root.mark] * 2
    (root, member), (other, survivor) = both["root"], both["stranger"]
    with ended_afterwards([member, survivor]):
        guarded.started(root.pid)
        assert tree.mark_of(survivor) == 0
        killed = tree.kill_members(guarded.root)
        assert {root.pid, member} <= killed.keys()
        assert is_living(survivor)
    guarded.gone()
    root.wait()
    other.wait()


def others_rest() -> bool:
    """Whether all other threads of this process sleep."""
    tasks = [task for task in os.listdir("/proc/self/task") if int(task) != threading.get_native_id()]
    return all(tree.read(f"/proc/self/task/{task}/stat").rpartition(b") ")[2][:1] == b"S" for task in tasks)


@pytest.mark.parametrize("others", ["run", "sleep"])
def test_daemon_that_left_before_the_launch_was_over(others: str) -> None:
    """A daemon with no more than its output from the root is a member, though it was born when others might have got the mark.

    Where the other threads slept meanwhile it needs not even that.
    """
    guarded = Guarded()
    # The guardian may just have been started, and with it a thread that hears of its end and first waits for its turn.
    wait_for(any_of(others_rest).held_for("50ms"), LONG)
    reading, writing = os.pipe()
    with open(reading, encoding="ascii") as output:
        guarded.pipes = [reading]
        with guarded:
            away = "2>&-" if others == "run" else ">&- 2>&-"
            way = f"env -i setsid sh -c 'sleep 1000 {away} & echo $!'"
            if others == "run":
                with ThreadPoolExecutor(1) as other:
                    other.submit(str)
            root = subprocess.Popen(["sh", "-c", way], stdout=writing, start_new_session=True)
            daemon = int(output.readline())
            wait_for(lambda: not is_living(root.pid), LONG)
        with ended_afterwards([daemon]):
            os.close(writing)
            guarded.started(root.pid)
            assert tree.mark_of(daemon) == guarded.root.mark
            assert daemon in tree.kill_members(guarded.root)
    guarded.gone()
    root.wait()


def test_stranger_of_a_launch_that_failed() -> None:
    """Where a program cannot be started, who got its mark loses it as well."""
    guarded = Guarded()
    with ThreadPoolExecutor(1) as other, pytest.raises(FileNotFoundError), guarded:
        stranger, survivor = other.submit(started_with_output, STRANGERS["a daemon"]).result()
        subprocess.Popen(["/nowhere"])
    with ended_afterwards([survivor]):
        assert tree.mark_of(survivor) == 0
    guarded.gone()
    stranger.wait()


FORKING_THREADS = """
import _thread, json, os, resource, subprocess, sys, threading
sys.path[:0] = {path!r}
from waitkit import managed_process
from waitkit.processes import tree

ends, daemons = [], []

def by_subprocess():
    ends.append(subprocess.run(["sh", "-c", "for i in 1 2 3; do /bin/true || exit 1; done"]).returncode)

def by_system():
    ends.append(os.system("/bin/true && /bin/true"))

def by_spawn():
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    ends.append(os.waitpid(pid, 0)[1])

def by_fork():
    pid = os.fork()
    if pid == 0:
        os._exit(tree.mark_of(0) != 0)
    ends.append(os.waitpid(pid, 0)[1])

def by_double_fork():
    if len(daemons) < 60:
        run = subprocess.run(["sh", "-c", "sleep 1000 >&- 2>&- & echo $!"], stdout=subprocess.PIPE)
        daemons.append(int(run.stdout))
    ends.append(os.system("setsid sh -c '/bin/true & '"))

def again_and_again(function, ended):
    while not over:
        function()
    ended.release()

over = False
all_ended = []
for function in (by_subprocess, by_system, by_spawn, by_fork, by_double_fork):
    all_ended.append(_thread.allocate_lock())
    all_ended[-1].acquire()
    _thread.start_new_thread(again_and_again, (function, all_ended[-1]))
for _ in range(20):
    with managed_process(["sleep", "1000"], stop_timeout=0):
        pass
over = True
for ended in all_ended:
    ended.acquire()
marks = [tree.mark_of(pid) for pid in daemons]
alive = [facts is not None and facts.living for facts in map(tree.facts_of, daemons)]
print(json.dumps([len(ends), sorted(set(ends)), sorted(set(marks)), sorted(set(alive)), daemons]))
"""


@pytest.mark.slow
def test_threads_that_fork_during_launches() -> None:
    """While programs are started and killed, what other threads fork in any way is never killed, and keeps no mark."""
    script = FORKING_THREADS.format(path=sys.path)
    command = [sys.executable, "-W", "ignore", "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    count, ends, marks, alive, daemons = json.loads(run.stdout)
    with ended_afterwards(daemons):
        assert count > 20
        assert (ends, marks, alive, run.stderr) == ([0], [0], [True], "")


FORK_AND_END = """
exec 3<&0
read go
sh -c 'read go; sleep 1000 >&- 2>&- 3<&- & echo $!' <&3 &
echo $!
"""


def test_strangers_that_end_before_they_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stranger has forked is looked at though he himself is gone, and so is what that one has forked."""
    guarded = Guarded()
    told: list[int] = []
    seen, exists = lending._strangers, tree.exists

    def a_step_ahead(root: tree.Root, pids: list[int], pipes: Any) -> set[int]:
        if len(told) < 2:
            stranger.stdin.write(b"\n")
            stranger.stdin.flush()
            told.append(int(stranger.stdout.readline()))
            stranger.wait()
        # Whoever looks after orphans here may take a while.
        return seen(root, [pid for pid in pids if len(told) < 2 or pid != told[0]], pipes)

    monkeypatch.setattr(lending, "_strangers", a_step_ahead)
    monkeypatch.setattr(tree, "exists", lambda pid: exists(pid) and pid not in told[:1])
    with ThreadPoolExecutor(1) as other, guarded:
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        stranger = other.submit(subprocess.Popen, ["sh", "-c", FORK_AND_END], **options).result()
        root = subprocess.Popen(["sleep", "1000"])
    with ended_afterwards([root.pid]):
        guarded.started(root.pid)
        with ended_afterwards(told):
            assert tree.mark_of(told[1]) == 0
            assert is_living(told[1])
    guarded.gone()
    root.wait()
    stranger.communicate()


#: Its memory is of small pages, so that it takes some milliseconds to copy their table.
FORK_OF_MUCH = """
import mmap, os, sys
much = mmap.mmap(-1, 200 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
much.madvise(mmap.MADV_NOHUGEPAGE)
for page in range(0, 200 << 20, 4096):
    much[page] = 1
print(os.getpid(), flush=True)
sys.stdin.readline()
print("now", flush=True)
if (pid := os.fork()) == 0:
    os.execlp("sleep", "sleep", "1000")
print(pid, flush=True)
"""


def test_stranger_in_the_middle_of_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that gets its number only after the mark was taken off its parent has copied the mark before, and loses it."""
    guarded = Guarded()
    take_off = lending.mark

    def amid_a_fork(pid: int, number: int) -> int | None:
        if pid == stranger.pid:
            monkeypatch.undo()
            stranger.stdin.write(b"\n")
            stranger.stdin.flush()
            assert stranger.stdout.readline() == b"now\n"
        return take_off(pid, number)

    with ThreadPoolExecutor(1) as other, guarded:
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        stranger, _ = other.submit(started, program(FORK_OF_MUCH), **options).result()
        root = subprocess.Popen(["sleep", "1000"])
    monkeypatch.setattr(lending, "mark", amid_a_fork)
    guarded.started(root.pid)
    survivor = int(stranger.stdout.readline())
    with ended_afterwards([survivor, root.pid]):
        assert tree.mark_of(survivor) == 0
    guarded.gone()
    root.wait()
    stranger.communicate()


def test_looks_at_who_is_gone_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others come and go all the time, neither a launch nor an end of a tree goes on looking for what they may have left."""
    looks: list[object] = []
    seen, look = lending._strangers, tree.Search.look
    nobody = 1 << 22  # no number is that high

    def counted(root: tree.Root, pids: list[int], pipes: Any) -> set[int]:
        looks.append(pids)
        return seen(root, pids, pipes)

    def somebody_gone(search: tree.Search, candidates: list[int] | None) -> dict[int, tree.Facts]:
        looks.append(candidates)
        return look(search, candidates)

    monkeypatch.setattr(lending, "_strangers", counted)
    monkeypatch.setattr(lending, "_born_between", lambda *_: [nobody])
    monkeypatch.setattr(lending, "_switches_of_others", count(1).__next__)
    monkeypatch.setattr(tree.Search, "look", somebody_gone)
    list_folder = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: list_folder(path) + [str(nobody)] * (path == "/proc"))
    guarded = Guarded()
    with ThreadPoolExecutor(1) as other, guarded:
        other.submit(str)
        root = subprocess.Popen(["sleep", "1000"])
    guarded.started(root.pid)
    assert len(looks) <= 25
    looks.clear()
    assert root.pid in tree.kill_members(guarded.root)
    assert len(looks) <= 25
    guarded.gone()
    root.wait()


def test_threads_that_may_be_amid_a_fork() -> None:
    """Only who does not sleep, and only until he has had a processor for longer than a fork takes."""
    forkers = Forkers()
    with subprocess.Popen(["sleep", "1000"]) as sleeper, subprocess.Popen(program("while True: pass")) as busy:
        with ended_afterwards([sleeper.pid, busy.pid]):
            wait_for(lambda: tree.read(f"/proc/{sleeper.pid}/stat").split()[2] == b"S", LONG)
            forkers.add(sleeper.pid)
            forkers.add(1 << 22)  # nobody
            assert not forkers
            forkers.add(busy.pid)
            assert forkers
            forkers.let_finish()
            assert not forkers


OTHERS = """
import json, os, sys, _thread, threading
sys.path[:0] = {path!r}
from waitkit import wait_for
from waitkit.engine.background import others_may_fork
from waitkit.engine.descriptors import watch_descriptor

told = [others_may_fork()]
watch_descriptor(os.pipe()[0], print)
wait_for(lambda: len(os.listdir("/proc/self/task")) == 2, "30s")
wait_for(lambda: not others_may_fork(), "30s")
told.append(others_may_fork())
lock = _thread.allocate_lock()
with lock:
    _thread.start_new_thread(lock.acquire, ())
    told.append(others_may_fork())
    if os.fork() == 0:
        os._exit(others_may_fork())
    told.append(os.waitpid(-1, 0)[1] != 0)
print(json.dumps(told))
"""


def test_threads_that_may_fork() -> None:
    """Any thread, also one that Python does not list, but for that of ours which forks nothing."""
    command = [sys.executable, "-W", "ignore", "-c", OTHERS.format(path=sys.path)]
    run = subprocess.run(command, stdout=subprocess.PIPE, timeout=60, check=True)
    assert json.loads(run.stdout) == [False, False, True, False]
