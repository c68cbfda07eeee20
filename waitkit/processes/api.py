"""``managed_process``: what is asked of a process, checked when it is written."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from waitkit.ground.callables import kind_of
from waitkit.ground.checks import check_bool
from waitkit.ground.durations import SECOND, Duration, to_nanoseconds, to_optional_nanoseconds
from waitkit.ground.settings import DEFAULT, DefaultTimeout, scaled
from waitkit.ground.signal_numbers import check_signal
from waitkit.ports.handover import socket_activation
from waitkit.processes.children import CallableChild, Child, ProgramChild
from waitkit.processes.life import Plan
from waitkit.processes.managed import ManagedProcess
from waitkit.processes.readiness import check_ready
from waitkit.processes.surroundings import Surroundings, check_surroundings
from waitkit.processes.tee import Tee, TeeTarget, check_tee

if TYPE_CHECKING:
    from waitkit.processes.restarting import RestartPolicy

__all__ = ["managed_process"]

StartMethod = Literal["spawn", "forkserver", "fork"]


def managed_process(
    target: Sequence[str | os.PathLike[str]] | str | Callable[..., object],
    *args: object,
    ready: object = None,
    ready_timeout: Duration | DefaultTimeout | None = DEFAULT,
    stop_timeout: Duration | DefaultTimeout = DEFAULT,
    stop_signal: int = signal.SIGTERM,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    user: str | int | None = None,
    group: str | int | None = None,
    ulimits: Mapping[str, int | tuple[int, int]] | None = None,
    sockets: Sequence[socket.socket] = (),
    shell: bool = False,
    tee: TeeTarget | None = None,
    restart: RestartPolicy | None = None,
    start_method: StartMethod = "spawn",
) -> ManagedProcess:
    """A process for the length of a block.

    ::

        with reserved_port() as port, managed_process(["redis-server", "--port", str(port)], ready=port_listening(port)) as p:
            ...

    The block begins when the process is ready, and is left when it is gone, with all that it has started, and the ports it
    listened at are free, see :meth:`ManagedProcess.stop`. ``async with`` does the same without blocking the event loop. Both
    output streams are read all the time, so the process never blocks on them, and their end is kept for errors. The process
    leads a session of its own. None of its tree outlives us, however we end: a guardian kills it where we are killed.

    What answers at a port or unix socket of this machine, by whatever name or address, makes a process ready only where it is a
    socket of the process itself, or of one of its descendants; one handed over by ``sockets=`` is. Where several addresses are
    asked for, as with ``"localhost"``, nobody else may answer at any of them. Where the system does not tell who listens,
    whoever answers will do.

    Args:
        target: the program and its arguments, or a Python callable for a process of its own; or, with *shell*, a text.
        args: arguments of the callable.
        ready: anything that adapts to a condition, :func:`output_matches` and :func:`ready_notified` among them; or a function
            of the process that returns one, or looks at it and returns a ``bool``; or ``"notify"``: it says ``READY=1`` by
            ``sd_notify``, as :func:`notify_ready` does; or ``"event"``: the callable gets a ``ready_event=`` argument and
            calls its ``set()``. ``None``: ready as soon as it is started.
        ready_timeout: how long that may take; left out: 10 s, stretched by ``WAITKIT_TIMEOUT_SCALE``. ``None``: no limit.
        stop_timeout: how long the process may take to end after the stop signal, before it is killed; left out: 5 s,
            stretched likewise.
        stop_signal: what asks it to end.
        env: its whole environment; ``None``: ours. It gets ``PYTHONUNBUFFERED`` and the mark of its tree on top.
        cwd: its working directory; ``None``: ours.
        user: whom it runs as, by name or number; as root alone can choose. It gets that user's groups.
        group: its group, likewise; ``None``: that of the user.
        ulimits: resource limits by name, as in ``{"nofile": 1024, "core": (0, -1)}``: a number for both, or the soft and the
            hard one; -1 for none. A program is then started by a plain fork, which takes longer in a large process.
        sockets: listening sockets that it gets by socket activation (``LISTEN_FDS``), as :func:`socket_activation` says: with
            ``reservation.listen()`` nobody can take the port in between, and clients may connect before it is ready.
        shell: *target* is a command line for ``/bin/sh``.
        tee: where its output goes as well, as it comes: the path of a file to append to, an open file, or a logger, which
            gets a line at a time at the level INFO.
        restart: whether it is started again when it dies, a :class:`RestartPolicy`. It is proven ready again each time.
        start_method: how ``multiprocessing`` starts a callable.

    Returns:
        The process, not started yet.

    Raises:
        TypeError, ValueError: an argument cannot be what it should be.
    """
    patience = (
        scaled(10 * SECOND) if ready_timeout is DEFAULT else to_optional_nanoseconds(ready_timeout, "ready_timeout")
    )
    grace = scaled(5 * SECOND) if stop_timeout is DEFAULT else to_nanoseconds(stop_timeout, "stop_timeout")
    number = check_signal(stop_signal, "stop_signal")
    surroundings = check_surroundings(env, cwd, user, group, ulimits)
    check_bool(shell, "shell")
    if start_method not in ("spawn", "forkserver", "fork"):
        raise ValueError(f"start_method={start_method!r} is none: give 'spawn', 'forkserver' or 'fork'")
    of_callable = callable(target)
    name, arguments, launch = (
        _callable(target, args, start_method, surroundings, check_tee(tee), shell=shell, event=ready == "event")
        if callable(target)
        else _program(target, args, surroundings, check_tee(tee), sockets, shell=shell)
    )
    if of_callable and sockets:
        raise TypeError("sockets= are for programs: a callable gets its sockets as arguments")
    if restart is not None and type(restart).__name__ != "RestartPolicy":
        raise TypeError(f'restart={restart!r} is no policy: give RestartPolicy(when="on_failure", limit="5/min")')
    awaited = check_ready(ready, of_callable=of_callable)
    return ManagedProcess(Plan(launch, name, awaited, patience, grace, number, restart, arguments, of_callable))


Launch = Callable[[Mapping[str, str]], Child]


def _callable(
    target: Callable[..., object],
    args: Sequence[object],
    start_method: StartMethod,
    surroundings: Surroundings,
    tee: TeeTarget | None,
    *,
    shell: bool,
    event: bool,
) -> tuple[str, str, Launch]:
    if shell:
        raise TypeError("shell=True is for a command line, not for a Python callable")
    name = getattr(target, "__name__", type(target).__name__)
    if (kind := kind_of(target)) != "plain":
        raise TypeError(f"{name} is {'an' if kind[0] == 'a' else 'a'} {kind} function: give a plain one that runs it")

    def launch(additions: Mapping[str, str]) -> Child:
        sink = None if tee is None else Tee(name, tee)
        return CallableChild(target, args, start_method, surroundings, additions, sink, event=event)

    return name, " ".join(str(one) for one in args if isinstance(one, int | str)), launch


def _program(
    target: object,
    args: Sequence[object],
    surroundings: Surroundings,
    tee: TeeTarget | None,
    sockets: Sequence[socket.socket],
    *,
    shell: bool,
) -> tuple[str, str, Launch]:
    if args:
        raise TypeError(f"a program takes its arguments in its list, not after it: {args!r}")
    argv = _check_line(target) if shell else _check_argv(target)
    name = "sh" if shell else os.path.basename(argv[0])
    if not isinstance(sockets, Sequence):
        raise TypeError(f"sockets={sockets!r} is no list of listening sockets")
    if sockets:
        socket_activation(argv, *sockets, env=surroundings.env)  # refuses now what it would refuse then

    def launch(additions: Mapping[str, str]) -> Child:
        sink = None if tee is None else Tee(name, tee)
        return ProgramChild(argv, surroundings, additions, sink, sockets=sockets)

    return name, " ".join(argv), launch


def _check_line(target: object) -> list[str]:
    if not isinstance(target, str) or not target.strip():
        raise TypeError(f"shell=True takes a command line as one text, not {target!r}")
    return ["/bin/sh", "-c", target]


def _check_argv(target: object) -> list[str]:
    if isinstance(target, str | bytes) or not isinstance(target, Sequence) or not target:
        raise TypeError(
            f"{target!r} is neither a list of a program and its arguments nor a callable: write "
            '["redis-server", "--port", "6379"]; for a command line there is shlex.split, or shell=True'
        )
    argv = []
    for part in target:
        if not isinstance(part, str | os.PathLike):
            raise TypeError(f"{part!r} in {target!r} is no text: write str(...) around it")
        argv.append(os.fspath(part))
        if "\0" in argv[-1]:
            raise ValueError(f"{part!r} in {target!r} has a null character, which no argument can have")
    if not argv[0]:
        raise ValueError(f"{target!r} names no program: its first part is empty")
    return argv
