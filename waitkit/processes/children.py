"""Children: a program (``subprocess``) or a Python callable (``multiprocessing``), with one face for both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from waitkit.processes.output import Output
from waitkit.processes.ready_event import ReadyEvent, ReadySignalled

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["KILL", "CallableChild", "Child", "ProgramChild", "kill_session", "send"]

KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


class Child(Protocol):
    """A process that was started by us, in a session of its own."""

    name: str
    output: Output

    @property
    def pid(self) -> int: ...

    @property
    def process(self) -> Any:
        """What the condition of its exit is made of."""

    @property
    def ready_signalled(self) -> ReadySignalled | None:
        """Its ready event, where it got one."""

    def exit_code(self) -> int | None:
        """How it ended, or minus the signal; ``None`` while it runs."""

    def release(self) -> None:
        """Give back what it held in this process, once it is gone."""


class ProgramChild:
    """A program, started from its arguments."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None, cwd: str | None) -> None:
        self.name = os.path.basename(argv[0])
        environment = dict(os.environ if env is None else env)
        # A Python child would otherwise keep its output to itself until 8 KiB have gathered.
        environment.setdefault("PYTHONUNBUFFERED", "1")
        self._process = subprocess.Popen(
            argv,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None and self._process.stderr is not None
        self.output = Output(_detached(self._process.stdout), _detached(self._process.stderr))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self._process

    @property
    def ready_signalled(self) -> None:
        return None

    def exit_code(self) -> int | None:
        return self._process.poll()

    def release(self) -> None:
        self.output.finish()


class CallableChild:
    """A Python callable in a process of its own."""

    def __init__(
        self, target: Callable[..., object], args: Sequence[object], start_method: str, *, event: bool
    ) -> None:
        import multiprocessing

        self.name = getattr(target, "__name__", type(target).__name__)
        context: Any = multiprocessing.get_context(start_method)
        ours: list[Connection] = []
        theirs: list[Connection | None] = []
        for wanted in (True, True, event):
            if wanted:
                receiver, sender = context.Pipe(duplex=False)
                ours.append(receiver)
                theirs.append(sender)
            else:
                theirs.append(None)
        self._process = context.Process(target=_run_in_child, args=(target, args, *theirs), name=self.name)
        try:
            self._process.start()
        except BaseException as error:
            for receiver in ours:
                receiver.close()
            if "pickle" in f"{type(error).__name__} {error}".lower():
                error.add_note(
                    f"a child started by {start_method!r} gets its callable by pickle: give a function at the top of a "
                    "module, or a functools.partial of one, with arguments that can be pickled"
                )
            raise
        finally:
            for sender in theirs:
                if sender is not None:
                    sender.close()
        self.output = Output(_detached(ours[0]), _detached(ours[1]))
        self._ready_pipe = ours[2] if event else None
        self._ready = ReadySignalled(ours[2]) if event else None

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert isinstance(pid, int)
        return pid

    @property
    def process(self) -> Any:
        return self._process

    @property
    def ready_signalled(self) -> ReadySignalled | None:
        return self._ready

    def exit_code(self) -> int | None:
        code: int | None = self._process.exitcode
        return code

    def release(self) -> None:
        self.output.finish()
        if self._ready_pipe is not None:
            self._ready_pipe.close()


def _run_in_child(
    target: Callable[..., object],
    args: Sequence[object],
    stdout: Connection,
    stderr: Connection,
    ready: Connection | None,
) -> None:
    if hasattr(os, "setsid"):
        os.setsid()
    for pipe, number, name in ((stdout, 1, "stdout"), (stderr, 2, "stderr")):
        os.dup2(pipe.fileno(), number)
        pipe.close()
        # A new stream: a forked child may have inherited one that leads elsewhere, or holds what the parent wrote.
        setattr(sys, name, open(number, "w", buffering=1, closefd=False, errors="backslashreplace"))  # noqa: SIM115
    if ready is None:
        target(*args)
    else:
        target(*args, ready_event=ReadyEvent(ready))


def _detached(pipe: Any) -> int:
    """The descriptor of a pipe or connection, now ours to close."""
    fd = os.dup(pipe.fileno())
    pipe.close()
    return fd


def send(pid: int, number: int) -> None:
    """Send a signal to a process that is ours; nothing happens where it has just ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def kill_session(child: Child) -> None:
    """Kill a child and all that stayed in its session, whatever group they moved to; nothing happens where all are gone."""
    if child.exit_code() is None:
        send(child.pid, KILL)  # also before it has made its session
    if not hasattr(os, "getsid"):
        return
    before: set[int] = set()
    while True:
        # A process that forks while we go through the list has a child we have not seen: go on until nobody is new. Those
        # killed before may still be listed, as zombies.
        members = _members_of_session(child.pid)
        for pid in members:
            try:
                os.kill(pid, KILL)
            except (ProcessLookupError, PermissionError):
                pass  # it has ended meanwhile; it became another user's, which is not ours to end
        if members <= before:
            return
        before |= members


def _members_of_session(session: int) -> set[int]:
    """The processes of a session, without its leader."""
    import psutil

    members = set()
    for pid in psutil.pids():
        try:
            if pid != session and os.getsid(pid) == session:
                members.add(pid)
        except (ProcessLookupError, PermissionError):
            pass
    return members
