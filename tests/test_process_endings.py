"""The end of a managed process: on every way out of its block it is gone, with what it had started."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import children
import psutil
import pytest
from children import LONG, START_METHODS, no_descriptor_left, nothing_left, own_children, program  # noqa: F401
from support import ctrl_c_when

from waitkit import ManagedProcess, managed_process, process_exited, wait_for

pytestmark = pytest.mark.usefixtures("nothing_left")

STAY = ["sleep", "infinity"]
DEAF = ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep infinity; done"]


def deaf(stop_timeout: str) -> ManagedProcess:
    """A process that ignores SIGTERM, and is ready only when it does."""
    process = managed_process(DEAF, ready=lambda: process.output.stdout, stop_timeout=stop_timeout)
    return process


def assert_gone(pid: int) -> None:
    """The process has ended, or will without anybody's help; if not, it is ended here, so that it harms no other test."""
    try:
        wait_for(process_exited(pid), "5s")
    finally:
        children.end(pid)


def test_exception_in_the_block() -> None:
    """A block that raises ends its process, and the exception comes through."""
    with pytest.raises(LookupError, match="in the block"):
        with managed_process(STAY) as process:
            raise LookupError("in the block")
    assert process.exit_code == -signal.SIGTERM


@pytest.mark.parametrize("start_method", START_METHODS)
def test_sigterm_ignored_by_a_callable(start_method: str) -> None:
    """A callable that ignores SIGTERM is killed when ``stop_timeout`` is over."""
    with managed_process(
        children.ignore_termination, ready="event", stop_timeout="50ms", start_method=start_method
    ) as process:
        pass
    assert process.exit_code == -signal.SIGKILL


def test_sigterm_ignored_by_a_program() -> None:
    """A program that ignores SIGTERM is killed when ``stop_timeout`` is over, and its own child with it."""
    with deaf("50ms") as process:
        (sleeper,) = wait_for(lambda: psutil.Process(process.pid).children(), LONG)
    assert process.exit_code == -signal.SIGKILL
    assert_gone(sleeper.pid)


def test_no_grace() -> None:
    """With ``stop_timeout=0`` the kill follows the stop signal at once, for a callable that has not even begun, too."""
    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # inherited by the child
    try:
        process = managed_process(children.stay, stop_timeout=0).start()
        try:
            assert process.stop() == -signal.SIGKILL
        finally:
            children.end(process.pid)
            wait_for(process.exited, LONG)
    finally:
        signal.signal(signal.SIGTERM, previous)
        process.stop()


def test_own_stop_signal() -> None:
    """The signal that asks the process to end is the one that was chosen."""
    code = "trap 'exit 9' INT; echo ready; while :; do sleep 0.01; done"
    process = managed_process(["sh", "-c", code], ready=lambda: process.output.stdout, stop_signal=signal.SIGINT)
    with process:
        pass
    assert process.exit_code == 9


def test_graceful_end() -> None:
    """A process that tidies up when asked is left to do so: its exit code and last words are kept."""
    code = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    process = managed_process(["sh", "-c", code], ready=lambda: process.output.stdout)
    with process:
        pass
    assert process.exit_code == 0
    assert process.output.stdout == "ready\nbye\n"


def test_stopped_process_is_ended() -> None:
    """A process that is suspended (SIGSTOP) cannot hear the stop signal, and is killed."""
    with managed_process(STAY, stop_timeout="50ms") as process:
        process.send_signal(signal.SIGSTOP)
        wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, LONG)
    assert process.exit_code == -signal.SIGKILL


def test_stop_twice() -> None:
    """Stopping again does nothing, and returns how it ended."""
    process = managed_process(["sh", "-c", "exit 4"]).start()
    wait_for(process.exited, LONG)
    assert process.stop() == 4
    assert process.stop() == 4
    with managed_process(STAY) as process:
        assert process.stop() == -signal.SIGTERM
    assert process.exit_code == -signal.SIGTERM


def test_stopped_from_several_threads() -> None:
    """Several threads that stop one process at once all return how it ended."""
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            process = managed_process(STAY).start()
            together = threading.Barrier(4)

            def stop(process: ManagedProcess = process, together: threading.Barrier = together) -> int | None:
                together.wait(30)
                return process.stop()

            stopping = [pool.submit(stop) for _ in range(4)]
            assert [wait_for(each, LONG).result() for each in stopping] == [-signal.SIGTERM] * 4


@pytest.mark.slow
def test_signal_races_with_the_end() -> None:
    """A process may end, and be reaped by somebody who waits for it, while it is sent a signal: that is no error."""
    for _ in range(100):
        with managed_process(["true"]) as process:
            waiter = threading.Thread(target=wait_for, args=(process.exited, LONG))
            waiter.start()
            while process.exit_code is None:
                process.send_signal(signal.SIGCONT)
            wait_for(waiter, LONG)


@pytest.mark.parametrize("start_method", START_METHODS)
def test_grandchild_is_killed(start_method: str) -> None:
    """What a callable has started is killed with it, though it never heard the stop signal."""
    with managed_process(children.start_grandchild, ready="event", start_method=start_method) as process:
        grandchild = int(wait_for(lambda: process.output.stdout, LONG))
        assert psutil.pid_exists(grandchild)
    assert_gone(grandchild)


def test_grandchild_of_a_process_that_ended_by_itself() -> None:
    """What is left of a process that has ended by itself is killed when the block is left."""
    with managed_process(["sh", "-c", "sleep infinity & echo $!"]) as process:
        wait_for(process.exited, LONG)
        grandchild = int(wait_for(lambda: process.output.stdout, LONG))
        assert psutil.pid_exists(grandchild)
    assert_gone(grandchild)


def test_grandchild_in_another_group_of_the_session() -> None:
    """A shell with job control puts its jobs into groups of their own: they are in its session, and are killed too."""
    with managed_process(["bash", "-c", "set -m; sleep infinity & echo $!; wait"]) as process:
        grandchild = int(wait_for(lambda: process.output.stdout, LONG))
        assert os.getsid(grandchild) == process.pid
        assert os.getpgid(grandchild) == grandchild
    assert_gone(grandchild)


def living_in_session(sid: int) -> list[psutil.Process]:
    """The processes of a session, those left out that have ended and wait for nobody."""
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == sid and (process := psutil.Process(pid)).status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass
    return found


@pytest.mark.slow
def test_tree_that_grows_while_it_is_killed() -> None:
    """A descendant that starts processes all the time, also while the tree is killed, leaves none of them behind."""
    code = """
        for n in $(seq 200); do sleep infinity & done
        for m in 1 2; do (for n in $(seq 1500); do sleep infinity & done; wait) & done
        wait
    """
    for _ in range(2):
        with managed_process(["bash", "-c", code]) as process:
            wait_for(lambda sid=process.pid: len(living_in_session(sid)) > 240, LONG)
        try:
            wait_for(lambda sid=process.pid: not living_in_session(sid), LONG)
        finally:
            for left in living_in_session(process.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()


def test_interrupt_during_the_grace() -> None:
    """Ctrl-C while the process has its grace takes the grace away, not the end: it is killed, and the interrupt goes on."""
    code = "trap 'echo asked' TERM; echo deaf; while :; do sleep 0.01; done"
    process = managed_process(["sh", "-c", code], ready=lambda: process.output.stdout, stop_timeout="1h")
    process.start()
    with ctrl_c_when(lambda: "asked" in process.output.stdout), pytest.raises(KeyboardInterrupt):
        process.stop()
    assert process.exit_code == -signal.SIGKILL


def test_interrupt_during_readiness() -> None:
    """Ctrl-C while the process is not ready yet ends it, and goes on."""
    looking = threading.Event()
    process = managed_process(STAY, ready=lambda: looking.set(), ready_timeout=None)
    with ctrl_c_when(looking), pytest.raises(KeyboardInterrupt):
        process.start()
    assert process.exit_code == -signal.SIGTERM


def forget(processes: list[ManagedProcess], filters: str) -> list[str]:
    """Drop the only reference to a process; what was heard of it."""
    heard: list[str] = []
    hook, sys.unraisablehook = sys.unraisablehook, lambda what: heard.append(str(what.exc_value))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter(filters, ResourceWarning)  # type: ignore[arg-type]
            processes.clear()
            gc.collect()
            heard += [str(warning.message) for warning in caught]
            caught.clear()  # a warning refers to its source, and keeps it alive
            gc.collect()
    finally:
        sys.unraisablehook = hook
    return heard


@pytest.mark.parametrize("filters", ["always", "error"])
def test_forgotten_process(filters: str) -> None:
    """A process that nobody refers to any more is killed with a ResourceWarning, also where warnings are errors."""
    processes = [managed_process(STAY).start()]
    pid = processes[0].pid
    heard = forget(processes, filters)
    assert_gone(pid)
    assert f"sleep (pid {pid}) was never stopped" in heard
    wait_for(lambda: not psutil.pid_exists(pid), LONG, message="its reaping")


@pytest.mark.parametrize("filters", ["always", "error"])
def test_forgotten_callable(filters: str) -> None:
    """A callable that is forgotten right after its start, before it runs, is killed as well."""
    processes = [managed_process(children.stay).start()]
    pid = processes[0].pid
    heard = forget(processes, filters)
    assert_gone(pid)
    assert f"stay (pid {pid}) was never stopped" in heard


EXIT = """
import sys
from waitkit import managed_process
import callables as children

def start(target, **options):
    process = managed_process(target, **options)
    process.start()
    print(process.pid, flush=True)
    return process

if __name__ == "__main__":
    kept = {start}
    {ending}
"""


@pytest.mark.parametrize("ending", ["pass", "sys.exit(3)", "raise LookupError"])
@pytest.mark.parametrize(
    "start",
    [
        "start(['sleep', 'infinity'])",
        "start(children.stay, ready='event')",
        "start(children.stay, ready='event', start_method='fork')",
        "start(children.stay)",
    ],
)
def test_interpreter_that_ends_with_a_block_open(start: str, ending: str, tmp_path: Path) -> None:
    """A program that ends without stopping its process ends, and leaves no process behind."""
    script = tmp_path / "script.py"
    script.write_text(EXIT.replace("{start}", start).replace("{ending}", ending))
    errors = tmp_path / "errors"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    with errors.open("w") as stderr:
        interpreter = subprocess.Popen(
            [sys.executable, script], stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
        )
    assert interpreter.stdout is not None
    with interpreter.stdout as stdout:
        line = stdout.readline()
    assert line, errors.read_text()
    pid = int(line)
    try:
        code = wait_for(interpreter, "15s").code
    finally:
        interpreter.kill()
        wait_for(interpreter, LONG)
        assert_gone(pid)
    assert code == {"pass": 0, "sys.exit(3)": 3}.get(ending, 1)


def test_generator_that_is_not_finished() -> None:
    """A block in a generator that nobody goes on with is left when the generator is dropped."""

    def serve() -> object:
        with managed_process(STAY) as process:
            yield process.pid

    generator = serve()
    pid = next(generator)  # type: ignore[call-overload]
    del generator
    gc.collect()
    assert_gone(pid)


@pytest.mark.parametrize("use", ["stop", "leave", "forget"])
def test_forked_child_leaves_the_process_to_its_parent(use: str) -> None:
    """A fork of this process that stops, leaves or forgets the process ends nothing: it belongs to the parent."""
    process = managed_process(STAY)
    with process:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                if use == "stop":
                    status = 0 if process.stop() is None else 2
                elif use == "leave":
                    process.__exit__(None, None, None)
                    status = 0
                else:
                    process.__del__()
                    status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert process.exit_code is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda: managed_process(STAY),
        lambda: managed_process(["true"]),
        lambda: managed_process(children.stay, ready="event", start_method="fork"),
    ],
    ids=["program", "program that ends", "callable"],
)
def test_nothing_is_left_of_fifty_blocks(make: Callable[[], ManagedProcess]) -> None:
    """Fifty processes, started and stopped one after the other, leave no process, descriptor or thread."""
    with make():
        pass
    with no_descriptor_left():
        before = threading.active_count()
        for _ in range(50):
            with make():
                pass
        assert own_children() == []
        assert threading.active_count() <= before


def test_nothing_is_left_of_fifty_failed_starts() -> None:
    """Fifty processes that die before they are ready leave no process or descriptor."""
    process = managed_process(["false"], ready=lambda: False)
    with no_descriptor_left():
        for _ in range(50):
            with pytest.raises(Exception, match="exit code 1"):
                process.start()
    assert own_children() == []


def test_program_that_closes_its_output() -> None:
    """A daemon that closes its streams is not taken for ended, and is ended like any other."""
    code = "import os, signal\nprint('closing')\nos.close(1); os.close(2)\nsignal.pause()"
    with managed_process(program(code)) as process:
        wait_for(lambda: process.output.stdout == "closing\n", LONG)
        assert process.exit_code is None
    assert process.exit_code == -signal.SIGTERM
