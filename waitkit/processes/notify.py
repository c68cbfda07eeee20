"""What a child tells its parent, in the protocol of ``sd_notify(3)``: for any program that is written in Python.

Whoever starts the program may listen: :func:`waitkit.managed_process` with ``ready="notify"``, systemd, a container runtime.
Nobody listens where ``NOTIFY_SOCKET`` is not set, and then nothing is sent.
"""

from __future__ import annotations

import os

from waitkit.ground.checks import check_text

__all__ = ["notify_ready", "notify_status", "notify_stopping"]


def notify_ready(status: str = "") -> bool:
    """Tell whoever started this process that it is ready: ``READY=1``.

    Args:
        status: what it does now, in words, one line; it stands in the errors of those who wait.

    Returns:
        Whether somebody listens. A listener that is gone, or whose queue is full, counts as none.

    Raises:
        TypeError, ValueError: *status* is no text of one line.
    """
    return _send(["READY=1"], status)


def notify_status(status: str) -> bool:
    """Tell whoever started this process what it does now: ``STATUS=``.

    Args:
        status: in words, one line.

    Returns:
        Whether somebody listens.

    Raises:
        TypeError, ValueError: *status* is no text of one line.
    """
    return _send([], status)


def notify_stopping(status: str = "", *, errno: int | None = None) -> bool:
    """Tell whoever started this process that it is about to end: ``STOPPING=1``.

    Args:
        status: why, in words, one line.
        errno: the number of the system's error that is the cause, where there is one: ``ERRNO=``.

    Returns:
        Whether somebody listens.

    Raises:
        TypeError, ValueError: *status* is no text of one line, or *errno* is no number above 0.
    """
    if errno is not None and (isinstance(errno, bool) or not isinstance(errno, int) or errno <= 0):
        raise ValueError(f"errno={errno!r} is not the number of an error: give one of the module errno")
    return _send(["STOPPING=1"] if errno is None else ["STOPPING=1", f"ERRNO={errno}"], status)


def _send(lines: list[str], status: str) -> bool:
    if "\n" in check_text(status, "status"):
        raise ValueError(f"status={status!r} has several lines: the protocol allows one")
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):  # not set; or a virtual machine's, which is its service manager's to answer
        return False
    import socket

    message = "\n".join([*lines, f"STATUS={status}"] if status or not lines else lines)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        try:
            sock.sendto(message.encode(), "\0" + address[1:] if address[0] == "@" else address)
        except OSError:
            return False
    return True
