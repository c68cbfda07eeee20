"""From a socket to the processes that have it open: through ``/proc/<pid>/fd``, for the sockets that are wanted."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator

from waitkit.ports.sockets import Socket

__all__ = ["owners_of", "owns_one_of"]


def owns_one_of(pids: Iterable[int], sockets: Iterable[Socket]) -> bool | None:
    """Whether one of these processes has one of these sockets open. The rest of the system is not looked at.

    Some 2 us for each descriptor of the processes, up to the first that fits.

    Returns:
        ``None`` where nobody can say: none of those that could be asked has it, and some could not (they belong to another
        user), or the system does not tell whose the sockets are. A process that has ended has nothing.
    """
    sockets = tuple(sockets)
    known = {found.pid for found in sockets if found.pid is not None}
    links = {f"socket:[{found.inode}]" for found in sockets if found.inode}
    unknown = bool(sockets) and not known and not links
    for pid in pids:
        if pid in known:
            return True
        if not links:
            continue
        try:
            if any(link in links for link in _links(pid)):
                return True
        except PermissionError:
            unknown = True
    return None if unknown else False


def owners_of(sockets: Collection[Socket]) -> dict[Socket, list[int]]:
    """For each of these sockets the processes that have it open, in order: more than one where a child inherited it.

    All processes are looked at; those of other users tell nothing, unless we are root. Sockets of nobody are left out.
    """
    by_link = {f"socket:[{found.inode}]": found for found in sockets if found.inode}
    owners: dict[Socket, list[int]] = {found: [found.pid] for found in sockets if found.pid is not None}
    if not by_link:
        return owners
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            for link in by_link.keys() & set(_links(int(name))):
                owners.setdefault(by_link[link], []).append(int(name))
        except PermissionError:
            continue  # another user's
    return {found: sorted(pids) for found, pids in owners.items()}


def _links(pid: int) -> Iterator[str]:
    """Where the descriptors of a process lead. One that ends meanwhile has none.

    Raises:
        PermissionError: it is not for us to know.
    """
    folder = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return
    for number in numbers:
        try:
            yield os.readlink(f"{folder}/{number}")
        except (FileNotFoundError, ProcessLookupError):
            continue  # closed meanwhile
