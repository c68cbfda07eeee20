"""Handing a listening socket to a program by the protocol of systemd, ``sd_listen_fds(3)``."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

__all__ = ["Activation", "socket_activation"]

#: Comes in as descriptor 0, goes on as 3. A shell knows its own pid, which is that of the program it becomes; and it moves
#: no descriptor above 9, so this is the way for one socket.
_SHELL: Final = 'exec 3<&0 0</dev/null; LISTEN_PID=$$; export LISTEN_PID; exec "$@"'

#: For more sockets: first out of the way of the numbers they shall get, then there.
_PYTHON: Final = """
import fcntl, os, sys
count = int(sys.argv[1])
given = [int(text) for text in sys.argv[2 : 2 + count]]
argv = sys.argv[2 + count :]
high = [fcntl.fcntl(number, fcntl.F_DUPFD, 3 + count) for number in given]
for number in given:
    os.close(number)
for position, number in enumerate(high):
    os.dup2(number, 3 + position, inheritable=True)
    os.close(number)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(argv[0], argv)
"""


class Activation(NamedTuple):
    """How to start a program so that it is handed its sockets.

    Attributes:
        argv: what to start.
        options: what to give to ``subprocess.Popen`` beside it: ``env``, with ``stdin`` or ``pass_fds``.
    """

    argv: list[str]
    options: dict[str, Any]


Activation.__module__ = "waitkit"


def socket_activation(
    argv: Sequence[str | os.PathLike[str]],
    *sockets: socket.socket,
    names: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Activation:
    """Hand listening sockets to a program as systemd does: ``LISTEN_FDS``, ``LISTEN_PID``, ``LISTEN_FDNAMES``.

    ::

        with reservation as port, reservation.listen() as listener:
            start = socket_activation(["gunicorn", "service:app"], listener)
            process = subprocess.Popen(start.argv, **start.options)

    The program finds the sockets as its descriptors 3, 4, ...; ``LISTEN_PID`` has to be its own pid, which nobody knows
    before it runs. So a shim is started that sets it and then *becomes* the program: the pid stays, signals and exit codes
    are the program's. For one socket it is ``sh`` (under 1 ms, and the program's standard input is ``/dev/null``), for
    more a bare Python (15 ms).

    Args:
        argv: the program with its arguments.
        sockets: what to hand over, in this order; they stay open here.
        names: ``LISTEN_FDNAMES``, one for each socket; ``None`` leaves it out.
        env: the environment of the program; ``None`` for that of this process.

    Raises:
        TypeError, ValueError: *argv* is a text, or there is no socket, or not a good name for each.
        FileNotFoundError: there is no such program, on the ``PATH`` or at the absolute path.
        PermissionError: what is there cannot be run.
    """
    if isinstance(argv, str | bytes) or not argv:
        raise TypeError(f"argv={argv!r} is no program with arguments: give a list, such as ['gunicorn', 'service:app']")
    words = [os.fspath(word) for word in argv]
    if not sockets:
        raise ValueError("socket_activation needs a socket to hand over, such as reservation.listen()")
    for sock in sockets:
        if not isinstance(sock, socket.socket) or sock.fileno() < 0:
            raise TypeError(f"{sock!r} is no open socket: give what reservation.listen() returns")
    environment = dict(os.environ if env is None else env)
    _check_program(words[0], environment)
    environment.pop("LISTEN_PID", None)
    environment.pop("LISTEN_FDNAMES", None)
    environment["LISTEN_FDS"] = str(len(sockets))
    if names is not None:
        environment["LISTEN_FDNAMES"] = ":".join(_check_names(names, len(sockets)))
    if len(sockets) == 1:
        return Activation(["/bin/sh", "-c", _SHELL, "sh", *words], {"env": environment, "stdin": sockets[0]})
    numbers = [str(sock.fileno()) for sock in sockets]
    return Activation(
        [sys.executable, "-I", "-S", "-c", _PYTHON, str(len(numbers)), *numbers, *words],
        {"env": environment, "pass_fds": tuple(sock.fileno() for sock in sockets)},
    )


def _check_program(name: str, environment: Mapping[str, str]) -> None:
    """A shim starts also where it can become nothing. Relative paths count from a folder that is not known here."""
    import shutil  # which costs more than all of this file

    if os.path.isabs(name):
        if not os.path.exists(name):
            raise FileNotFoundError(errno.ENOENT, "there is no such program", name)
        if shutil.which(name) is None:
            raise PermissionError(errno.EACCES, "this is no program that can be run", name)
    elif "/" not in name and shutil.which(name, path=environment.get("PATH")) is None:
        raise FileNotFoundError(errno.ENOENT, "there is no such program on the PATH", name)


def _check_names(names: Sequence[str], count: int) -> Sequence[str]:
    if isinstance(names, str) or len(names) != count:
        raise ValueError(f"names={names!r} are not as many names as sockets: give a list of {count}")
    for name in names:
        if not isinstance(name, str) or not name or len(name) > 255 or ":" in name or not name.isprintable():
            raise ValueError(f"names={names!r}: {name!r} is no name of a socket: 1 to 255 characters, no colon")
    return names
