"""Children: a program (``subprocess``) or a Python callable (``multiprocessing``), with one face for both."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from waitkit.conditions.processes import ProcessExit, ProcessExited, popen_ended
from waitkit.ground.durations import SECOND
from waitkit.ground.settings import scaled
from waitkit.ports.handover import socket_activation
from waitkit.processes import tree
from waitkit.processes.guardian import Guarded
from waitkit.processes.identity import Identity
from waitkit.processes.in_child import Setup, run_in_child
from waitkit.processes.output import Output, Sink
from waitkit.processes.ready_signalled import ReadySignalled
from waitkit.processes.surroundings import Surroundings, environment_for, environment_of_program, popen_options
from waitkit.waits.drivers import block
from waitkit.waits.scopes import outside_scopes
from waitkit.waits.wait import Wait

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

__all__ = ["CallableChild", "Child", "NothingToRead", "ProgramChild"]


class Child(Protocol):
    """A process that was started by us, in a session of its own."""

    name: str
    output: Output
    identity: Identity
    #: the inodes of the sockets it was given: these stay open here when it is gone
    handed_over: frozenset[int]

    @property
    def process(self) -> Any:
        """What the condition of its exit is made of."""

    @property
    def ready_signalled(self) -> ReadySignalled | None:
        """Its ready event, where it got one."""

    def has_ended(self) -> bool:
        """Whether it has ended."""

    def exit_code(self) -> int | None:
        """How it ended, or minus the signal; ``None`` while it runs, and where somebody else has reaped it: nobody knows then."""

    def release(self) -> None:
        """Give back what it held in this process, once it is gone."""


class _Streams:
    """The pipes of the two output streams: our ends, and those of the child."""

    def __init__(self) -> None:
        self.ours: list[int] = []
        self.theirs: list[int] = []
        try:
            for _ in range(2):
                reader, writer = os.pipe()
                self.ours.append(reader)
                self.theirs.append(writer)
        except BaseException:
            self.close()
            raise

    def close_theirs(self) -> None:
        while self.theirs:
            os.close(self.theirs.pop())

    def close(self) -> None:
        self.close_theirs()
        while self.ours:
            os.close(self.ours.pop())

    def read_by(self, sink: Sink | None) -> Output:
        """Begin to read; the descriptors are the output's from now on."""
        ours, self.ours = self.ours, []
        return Output(ours[0], ours[1], sink)


class NothingToRead(_Streams):
    """The same for a child that writes elsewhere: both streams are at their end."""

    def __init__(self) -> None:
        super().__init__()
        self.close_theirs()


class _OurStreams(NothingToRead):
    """Our own output streams, which the child writes to itself."""

    def __init__(self) -> None:
        super().__init__()
        for number in (1, 2):
            try:
                self.theirs.append(os.dup(number))
            except OSError:  # it is closed here
                self.theirs.append(os.open(os.devnull, os.O_WRONLY))


def _reap(process: Any) -> None:
    """Wait for a child that was killed, so that no zombie stays."""
    with outside_scopes():
        block(Wait(ProcessExited(process), scaled(10 * SECOND)))


class ProgramChild:
    """A program, started from its arguments."""

    _ended: ProcessExit | None = None

    def __init__(
        self,
        argv: Sequence[str],
        surroundings: Surroundings,
        additions: Mapping[str, str],
        sink: Sink | None,
        *,
        sockets: Sequence[socket.socket] = (),
        passed_through: bool = False,
    ) -> None:
        self.name = os.path.basename(argv[0])
        self.handed_over = frozenset(os.fstat(sock.fileno()).st_ino for sock in sockets)
        guarded = Guarded()
        additions = {**additions, guarded.name: ""}
        # A Python child would otherwise keep its output to itself until 8 KiB have gathered.
        defaults = {} if passed_through else {"PYTHONUNBUFFERED": "1"}
        streams = None
        try:
            streams = _OurStreams() if passed_through else _Streams()
            options: dict[str, Any] = {"stdin": subprocess.DEVNULL} | popen_options(surroundings, guarded.root.mark)
            if sockets:
                environment = {**defaults, **environment_for(surroundings.env, additions)}
                start = socket_activation(argv, *sockets, env=environment)
                argv, options = start.argv, options | start.options
            else:
                options["env"] = environment_of_program(surroundings.env, additions, defaults)
            options |= {"cwd": surroundings.cwd, "start_new_session": True}
            options |= {"stdout": streams.theirs[0], "stderr": streams.theirs[1]}
            self._launch(argv, guarded, streams, sink, options)
        except BaseException as error:
            self._abandon(streams, guarded)
            # What runs in the child before its program are the limits.
            if isinstance(error, subprocess.SubprocessError):
                raise surroundings.refused() from error
            raise

    def _launch(
        self, argv: Sequence[str], guarded: Guarded, streams: _Streams, sink: Sink | None, options: Mapping[str, Any]
    ) -> None:
        """Start it in the guardian's care, and begin to read its streams. Whoever calls this abandons it where it fails."""
        guarded.pipes = streams.ours
        self._owner = os.getpid()
        with guarded:
            self._process = subprocess.Popen(argv, **options)
        streams.close_theirs()
        self.identity = Identity(self._process.pid, guarded)
        self.output = streams.read_by(sink)

    def _abandon(self, streams: _Streams | None, guarded: Guarded) -> None:
        if streams is not None:
            streams.close()
        process = getattr(self, "_process", None)
        if process is not None:
            process.kill()
            tree.kill_members(guarded.root)
            _reap(process)
        identity = getattr(self, "identity", None)
        if identity is not None:
            identity.close()
        guarded.gone()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def process(self) -> ProgramChild:
        return self  # and not the Popen, which makes a 0 of an exit code that it does not know

    @property
    def ready_signalled(self) -> None:
        return None

    def how_it_ended(self) -> ProcessExit | None:
        """``None`` while it runs."""
        if self._ended is None:
            if os.getpid() == self._owner:
                self._ended = popen_ended(self._process)
            elif (facts := tree.facts_of(self._process.pid)) is None or not facts.living:
                self._ended = ProcessExit(self._process.pid, None)  # in a fork of ours, which is not its parent
        return self._ended

    def has_ended(self) -> bool:
        return self.how_it_ended() is not None

    def exit_code(self) -> int | None:
        ended = self.how_it_ended()
        return None if ended is None else ended.code

    def release(self) -> None:
        self._process.poll()  # whatever it says: it knows now that nothing runs
        self.identity.close()
        self.output.finish()


class CallableChild:
    """A Python callable in a process of its own."""

    handed_over: frozenset[int] = frozenset()

    def __init__(
        self,
        target: Callable[..., object],
        args: Sequence[object],
        start_method: str,
        surroundings: Surroundings,
        additions: Mapping[str, str],
        sink: Sink | None,
        *,
        event: bool,
    ) -> None:
        import multiprocessing

        self.name = getattr(target, "__name__", type(target).__name__)
        self._start_method = start_method
        context: Any = multiprocessing.get_context(start_method)
        guarded = Guarded()
        lent: list[Connection] = []
        streams = None
        self._process: Any = None
        self._ready_pipe: Connection | None = None
        try:
            streams = _Streams()
            if start_method == "forkserver":  # its environment is that of the time when the server was started
                surroundings = surroundings.with_our_environment()
            setup = Setup(surroundings, {**additions, guarded.name: ""}, guarded.root.mark, streams.theirs, lent)
            ready = None
            if event:
                self._ready_pipe, ready = context.Pipe(duplex=False)
                lent.append(ready)
            self._process = context.Process(target=run_in_child, args=(target, args, setup, ready), name=self.name)
            self._process.start()
            self.identity = Identity(self._process.pid, guarded)
            self.output = streams.read_by(sink)
        except BaseException as error:
            self._abandon(streams, guarded)
            if "pickle" in f"{type(error).__name__} {error}".lower():
                error.add_note(
                    f"a child started by {start_method!r} gets its callable by pickle: give a function at the top of a "
                    "module, or a functools.partial of one, with arguments that can be pickled"
                )
            raise
        finally:
            for pipe in lent:
                pipe.close()
        self._ready = None if self._ready_pipe is None else ReadySignalled(self._ready_pipe)

    def _abandon(self, streams: _Streams | None, guarded: Guarded) -> None:
        if streams is not None:
            streams.close()
        if self._ready_pipe is not None:
            self._ready_pipe.close()
        if self._process is not None and self._process.pid is not None:
            self._process.kill()
            tree.kill_members(guarded.root)
            _reap(self._process)
            self._process.close()  # its sentinel, which the traceback of the error would keep
        identity = getattr(self, "identity", None)
        if identity is not None:
            identity.close()
        guarded.gone()

    @property
    def process(self) -> Any:
        return self._process

    @property
    def ready_signalled(self) -> ReadySignalled | None:
        return self._ready

    def has_ended(self) -> bool:
        return self._process.exitcode is not None

    def exit_code(self) -> int | None:
        code: int | None = self._process.exitcode
        return code

    def never_ran(self) -> bool:
        """Whether it ended as a spawned child does whose main module starts processes while it is imported."""
        return self._start_method != "fork" and self.exit_code() == 1 and not self.output.stdout + self.output.stderr

    def release(self) -> None:
        self.identity.close()
        self.output.finish()
        if self._ready_pipe is not None:
            self._ready_pipe.close()
