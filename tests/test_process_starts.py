"""``managed_process``: nothing leaks where a start is interrupted or fails half-way."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import children
import psutil
import pytest
from children import LONG, START_METHODS, no_descriptor_left, nothing_left, own_children  # noqa: F401
from support import handler

from waitkit import ManagedProcess, WaitFailed, managed_process, wait_for
from waitkit.processes import children as launching
from waitkit.processes import guardian, managed, output
from waitkit.processes.signals_held import SignalsHeld

pytestmark = pytest.mark.usefixtures("nothing_left")

STAY = ["sleep", "infinity"]


def makers() -> dict[str, Callable[[], ManagedProcess]]:
    """A program, and a callable by each start method."""
    found: dict[str, Callable[[], ManagedProcess]] = {"program": lambda: managed_process(STAY)}
    for method in START_METHODS:
        found[method] = lambda method=method: managed_process(children.stay, ready="event", start_method=method)  # type: ignore[misc]
    return found


def after(function: Callable[..., object], then: Callable[[], object]) -> Callable[..., object]:
    """The same function, and *then* right after it."""

    def both(*args: object, **options: object) -> object:
        result = function(*args, **options)
        then()
        return result

    return both


@pytest.mark.parametrize("kind", makers())
@pytest.mark.parametrize("point", ["known to the guardian", "read", "noted"])
def test_interrupt_between_launch_and_note(kind: str, point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at any point between the launch of a child and the note that it is ours ends it, and goes on."""
    process = makers()[kind]()
    started: list[int] = []
    note = guardian.Guarded.started
    monkeypatch.setattr(guardian.Guarded, "started", lambda guarded, pid: (started.append(pid), note(guarded, pid)))

    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)

    places = {
        "known to the guardian": (guardian.Guarded, "started"),
        "read": (output.Output, "__init__"),
        "noted": (managed, "Life"),
    }
    where, name = places[point]
    monkeypatch.setattr(where, name, after(getattr(where, name), interrupt))
    with pytest.raises(KeyboardInterrupt):
        process.start()
    (pid,) = started
    assert process.exit_code is not None or process.stop() is None
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("kind", makers())
@pytest.mark.parametrize("where", ["streams", "identity"])
def test_failure_after_the_launch(kind: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where something fails after a child was launched, the child is ended and reaped, and no descriptor stays open."""

    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with makers()[kind]():
        pass  # so that what multiprocessing starts once is there
    if where == "streams":
        monkeypatch.setattr(output.Stream, "start", fail)
    else:
        monkeypatch.setattr(launching, "Identity", fail)
    process = makers()[kind]()
    with no_descriptor_left():
        for _ in range(3):
            with pytest.raises(OSError, match="Too many open files"):
                process.start()
    assert own_children() == []
    zombies = [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]
    assert zombies == []


def test_signals_are_held_and_delivered() -> None:
    """Handlers that are held run at the end of the block, once each; those of other threads are left alone."""
    heard: list[str] = []
    with handler(signal.SIGUSR1, lambda: heard.append("usr1")):
        with SignalsHeld():
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
            assert heard == []
        assert heard == ["usr1"]
        signal.raise_signal(signal.SIGUSR1)
        assert heard == ["usr1", "usr1"]


def test_child_hears_its_signals() -> None:
    """A forked callable has the handlers of its parent, not those that hold signals back during its start."""
    with managed_process(children.stay, ready="event", start_method="fork") as process:
        process.send_signal(signal.SIGINT)
        wait_for(process.exited, LONG)
    assert process.exit_code == 1
    assert "KeyboardInterrupt" in process.output.stderr


UNGUARDED = """
    from waitkit import managed_process
    import callables as children
    managed_process(children.stay, ready="event", ready_timeout=20, start_method={method!r}).start()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_main_module_without_its_guard(method: str, tmp_path: Path) -> None:
    """A script that starts a spawned child while it is imported is told what it lacks."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(UNGUARDED.format(method=method)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    run = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert run.returncode == 1
    assert "a main module lacks its \"if __name__ == '__main__':\"" in run.stderr.replace("\n", " ")


def test_exit_1_of_a_callable_is_not_mistaken(tmp_path: Path) -> None:
    """A callable that ends with 1 and said something is not told of a guard it may have."""
    with pytest.raises(WaitFailed) as caught:
        managed_process(children.leave, 1, ready="event").start()
    assert "__main__" not in str(caught.value)
