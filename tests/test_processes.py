"""``managed_process``: what it is started with, what it can be asked, and which mistakes are refused."""

from __future__ import annotations

import asyncio
import functools
import io
import logging
import os
import pwd
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import children
import psutil
import pytest
from children import LONG, START_METHODS, no_descriptor_left, nothing_left, own_children, program  # noqa: F401
from support import python

from waitkit import (
    ProcessExit,
    WaitTimeout,
    managed_process,
    started,
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


def test_partial() -> None:
    """A functools.partial is a callable like any other."""
    with managed_process(functools.partial(children.stay, 1), 2, ready="event") as process:
        assert process.exit_code is None


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


@pytest.mark.parametrize("kept_as", ["bytes", "text"])
def test_our_environment(kept_as: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program gets what ours is at its start, names and values that are no text included, but not what was meant for us."""
    monkeypatch.setenv("NOTIFY_SOCKET", "/of/our/manager")
    monkeypatch.setenv("PYTHONUNBUFFERED", "yes")
    monkeypatch.setenv("ORDERS", "before")
    monkeypatch.setitem(os.environb, b"NO_TEXT_\xff", b"\xfe")
    if kept_as == "text":
        monkeypatch.setattr(os, "environ", dict(os.environ))
    process = managed_process(["env", "-0"])
    os.environ["ORDERS"] = "since"
    with process:
        wait_for(process.exited, LONG)
    given = dict(line.split("=", 1) for line in process.output.stdout.split("\0")[:-1])
    assert [name for name in given if name.startswith("WAITKIT_TREE_")] != []
    assert (given["ORDERS"], given["PYTHONUNBUFFERED"], given["NO_TEXT_\ufffd"]) == ("since", "yes", "\ufffd")
    assert "NOTIFY_SOCKET" not in given
    assert given.items() >= {n: v for n, v in os.environ.items() if n.isascii() and n != "NOTIFY_SOCKET"}.items()


def describe_self(*names: str) -> None:
    """Tell user, group, groups, folder, a limit and some of the environment."""
    import resource

    print(os.getuid(), os.getgid(), len(os.getgroups()), os.getcwd(), resource.getrlimit(resource.RLIMIT_NOFILE))
    print([os.environ.get(name) for name in names])


@pytest.mark.parametrize("start_method", START_METHODS)
def test_surroundings_of_a_callable(start_method: str, tmp_path: Path) -> None:
    """A callable has the environment, folder and limits it was given."""
    with managed_process(
        describe_self,
        "ORDERS",
        "HOME",
        env={"ORDERS": "12"},
        cwd=tmp_path,
        ulimits={"nofile": (100, 200)},
        start_method=start_method,  # type: ignore[arg-type]
    ) as process:
        wait_for(process.exited, LONG)
    assert process.output.stdout.endswith(f"{tmp_path} (100, 200)\n['12', None]\n"), process.output.stderr


def test_limits_of_a_program() -> None:
    """A program has the limits it was given, soft and hard, and no others."""
    line = "ulimit -Sn; ulimit -Hn; ulimit -Sc"
    with managed_process(line, shell=True, ulimits={"nofile": (64, 128), "core": 0}) as process:
        wait_for(process.exited, LONG)
    assert process.output.stdout == "64\n128\n0\n"


@pytest.mark.skipif(os.getuid() != 0, reason="root alone may choose a user")
def test_another_user() -> None:
    """A program, and a callable, runs as the user it was given, in that user's group unless another one is named."""
    nobody = pwd.getpwnam("nobody")
    with managed_process(["id"], user="nobody") as process:
        wait_for(process.exited, LONG)
    assert f"uid={nobody.pw_uid}(nobody) gid={nobody.pw_gid}" in process.output.stdout
    with managed_process(["id"], user=nobody.pw_uid, group="daemon") as process:
        wait_for(process.exited, LONG)
    assert "(nobody) gid=1(daemon)" in process.output.stdout
    with managed_process(describe_self, user="nobody", cwd="/", start_method="fork") as process:
        wait_for(process.exited, LONG)
    assert process.output.stdout.startswith(f"{nobody.pw_uid} {nobody.pw_gid} "), process.output.stderr


def test_shell() -> None:
    """A command line is run by the shell, on request, and all that it starts ends with it."""
    with managed_process("echo $((6 * 7)) | cat; sleep 1000 | sleep 1000", shell=True) as process:
        assert process.wait_for_output("42\n", LONG)


def test_tee(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a process writes goes on to a file, by path or open, or line by line to a logger; all of it, in order."""
    code = "import os\nfor n in range(3): os.write(1, b'out %d\\n' % n)\nos.write(2, b'last, without end')"
    path = tmp_path / "log"
    with managed_process(program(code), tee=path) as process:
        wait_for(process.exited, LONG)
    wait_for(lambda: len(path.read_text()) == 35, LONG, ignore=FileNotFoundError)
    assert path.read_text().replace("last, without end", "") == "out 0\nout 1\nout 2\n"
    for mode in ("w", "wb"):
        with open(path, mode) as file:
            with managed_process(program(code), tee=file) as process:
                wait_for(process.exited, LONG)
            wait_for(lambda: len(path.read_text()) == 35, LONG)
    with caplog.at_level("INFO", "servers"):
        with managed_process(program(code), tee=logging.getLogger("servers")) as process:
            wait_for(process.exited, LONG)
        wait_for(lambda: len(caplog.messages) >= 4, LONG)
    assert [message for message in caplog.messages if "stdout" in message] == [
        f"{process._plan.name} stdout: out {number}" for number in range(3)
    ]
    assert f"{process._plan.name} stderr: last, without end" in caplog.messages


def test_tee_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """A file that cannot be written is told of, and neither the process nor its block cares."""
    with open(os.devnull, "w") as file:
        described = managed_process(["sh", "-c", "echo x"], tee=file)
    with caplog.at_level("ERROR", "waitkit"):
        with described as process:
            wait_for(process.exited, LONG)
        wait_for(lambda: caplog.messages, LONG)
    assert process.output.stdout == "x\n"
    assert "the output of sh could not be handed on" in caplog.messages[0]


def test_statistics() -> None:
    """A process and its descendants are told of together; one that has ended uses nothing."""
    with managed_process("sleep 1000 & sleep 1000 & echo up; wait", shell=True) as process:
        process.wait_for_output("up", LONG)
        wait_for(lambda: len(process.statistics().children) == 2, LONG)
        found = process.statistics()
        assert found.pid == process.pid
        assert found.threads == 3
        assert found.rss > 100_000
        assert found.descriptors >= 9
        assert found.cpu >= 0
        assert process.pid not in found.children
        process.send_signal(signal.SIGKILL)
        wait_for(process.exited, LONG)
        with pytest.raises(ProcessLookupError, match=rf"sh \(pid {process.pid}\) has ended"):
            process.statistics()


def test_statistics_of_a_member_that_left() -> None:
    """A daemon, which has another parent and another session, counts as well; a thread is no process."""
    code = (
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start(); print('up'); input()"
    )
    with managed_process(["bash", "-c", "(env -i setsid sh -c 'sleep 1000 & echo $!'); exec sleep 1000"]) as process:
        daemon = int(process.wait_for_output(r"(\d+)\n", LONG)[1])
        wait_for(lambda: process.statistics().children == (daemon,), LONG)
    with managed_process(["sh", "-c", f'sleep 1000 | exec {sys.executable} -S -u -c "{code}"']) as process:
        process.wait_for_output("up", LONG)
        found = process.statistics()
        assert len(found.children) == 2
        assert found.threads == 4


def test_import_is_cheap() -> None:
    """To import and use a managed process loads neither psutil nor asyncio, wrapt or attrs."""
    run = python("""
        import sys
        from waitkit import managed_process, output_matches, started
        with managed_process(["sh", "-c", "echo up; exec sleep 60"], ready=output_matches("up")) as one:
            pass
        with started(managed_process(["true"]), managed_process(["true"])):
            pass
        print({"psutil", "asyncio", "wrapt", "attr", "attrs"} & set(sys.modules))
        """)
    assert run.stdout == "set()\n", run.stderr


def test_no_such_program() -> None:
    """A program that does not exist is the system's error, and no descriptor stays open."""
    process = managed_process(["/none/such/program"])
    with no_descriptor_left():
        for _ in range(5):
            with pytest.raises(FileNotFoundError, match="/none/such/program"):
                process.start()
    assert process.stop() is None


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_callable_that_cannot_be_pickled(start_method: str) -> None:
    """A lambda cannot be sent to a child: the error carries a note that says what can, and nothing is left open."""
    process = managed_process(lambda: None, start_method=start_method)  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"(?i)pickle|local object") as caught:
        process.start()
    assert "give a function at the top of a module" in caught.value.__notes__[0]
    with no_descriptor_left():
        for _ in range(5):
            with pytest.raises(Exception, match=r"(?i)pickle|local object"):
                process.start()


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
        assert list(pool.map(use, range(12))) == [-signal.SIGTERM] * 12
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
        (("true",), {"shell": False}, TypeError, "shell=True"),
        ((["true"],), {"shell": True}, TypeError, "as one text"),
        ((children.stay,), {"shell": True}, TypeError, "not for a Python callable"),
        ((["true"],), {"env": ["A"]}, TypeError, "env="),
        ((["true"],), {"env": {"A": 1}}, TypeError, "'A': 1"),
        ((["true"],), {"user": "nobody-here"}, ValueError, "user='nobody-here' does not exist"),
        ((["true"],), {"group": "nobody-here"}, ValueError, "group='nobody-here' does not exist"),
        ((["true"],), {"user": True}, TypeError, "user=True"),
        ((["true"],), {"user": -1}, ValueError, "user=-1"),
        ((["true"],), {"group": -1}, ValueError, "group=-1"),
        ((["true"],), {"env": {"A=B": "1"}}, ValueError, "'A=B': '1'"),
        ((["true"],), {"env": {"A": "\0"}}, ValueError, "null character"),
        ((["true", "a\0b"],), {}, ValueError, "null character"),
        (([""],), {}, ValueError, "names no program"),
        ((["true"],), {"ulimits": [1]}, TypeError, r"ulimits=\[1\]"),
        ((["true"],), {"ulimits": {"nofile": (100, 10)}}, ValueError, "a soft limit above the hard one"),
        ((["true"],), {"ulimits": {"nofile": (-1, 10)}}, ValueError, "a soft limit above the hard one"),
        ((["true"],), {"sockets": 5}, TypeError, "sockets=5"),
        ((["true"],), {"stop_signal": True}, TypeError, "stop_signal=True"),
        ((["true"],), {"stop_signal": 15.0}, TypeError, "stop_signal=15.0"),
        ((["true"],), {"start_method": "x"}, ValueError, "start_method='x'"),
        (("true",), {"shell": "no"}, TypeError, "shell='no'"),
        ((["true"],), {"tee": io.BufferedReader(io.BytesIO())}, ValueError, "opened for reading"),
        (
            (["true"],),
            {"ulimits": {"files": 3}},
            ValueError,
            "'files', which is no limit of this system: there are as,",
        ),
        ((["true"],), {"ulimits": {"nofile": "3"}}, ValueError, r"ulimits\['nofile'\]='3'"),
        ((["true"],), {"tee": 3}, TypeError, "tee=3 cannot be written to"),
        ((children.stay,), {"start_method": "thread"}, ValueError, "start_method='thread'"),
    ],
)
def test_mistakes(arguments: tuple[object, ...], options: dict[str, object], kind: type[Exception], says: str) -> None:
    """A mistake in an argument is refused when it is written, before anything is started."""
    with pytest.raises(kind, match=says):
        managed_process(*arguments, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["/nonexistent/log", "/tmp"])
def test_tee_that_cannot_be_written(target: str) -> None:
    """A file that cannot be written is found out when the process is to be started, which it then is not."""
    with pytest.raises(OSError, match=target), managed_process(["true"], tee=target):
        pytest.fail("it was started")
    with open("/dev/null", "w") as file:
        pass
    with pytest.raises(ValueError, match="was closed"):
        managed_process(["true"], tee=file)


def test_mistakes_with_one_that_runs() -> None:
    """No signal, and no number of lines, are refused with what was given."""
    with managed_process(["sleep", "infinity"]) as process:
        for number, kind in (("TERM", TypeError), (999, ValueError), (0, ValueError), (True, TypeError)):
            with pytest.raises(kind, match=f"number={number!r} is no signal"):
                process.send_signal(number)  # type: ignore[arg-type]
        for lines in ("x", -1, 0):
            with pytest.raises(ValueError, match=f"lines={lines!r} is not a whole number"):
                process.output.tail(lines)  # type: ignore[arg-type]


def test_who_waits_in_a_task() -> None:
    """The error of a start in a task of an event loop names the line of ours that began it, not one of asyncio."""

    async def main() -> None:
        process = managed_process(["sleep", "infinity"], ready=lambda: False, ready_timeout="10ms")
        with pytest.raises(WaitTimeout, match=r"waited at .*test_processes.py"):
            await asyncio.create_task(process.start_async())
        with pytest.raises(WaitTimeout, match=r"waited at .*test_processes.py"):
            await process.restart_async()
        with pytest.raises(WaitTimeout, match=r"waited at .*test_processes.py"):
            async with started(process):
                pytest.fail("it is not ready")

    asyncio.run(main())
