"""The tree of a process, found again whatever its members did to leave it, and ended.

A member is who descends from the root, is in its session, or carries its mark. The mark is a number in the soft limit
``RLIMIT_LOCKS``, which Linux has kept without a meaning since 2.4.25: a fork inherits it, and neither ``exec``, ``setsid``, a
second fork, another user, an overwritten environment nor closed descriptors take it away. Programs also carry it as a name
in their first environment, which is there from their first instruction on. Who sets that limit anew *and* overwrites its
environment *and* leaves the session *and* has lost its ancestors is not found.

A member may begin trees of its own, which have marks of their own, and belong to this one with all that they have grown into.
The guardian of such a tree is not killed but awaited: it knows best what is to go, and goes when its owner does.

This file is the program of the guardian, too (see :mod:`waitkit.processes.guardian`), so it imports next to nothing.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # as of typing, which is not imported
if TYPE_CHECKING:
    from collections.abc import Callable

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = [
    *("MARK", "Facts", "Root", "facts_of", "kill_members", "last_pid", "mark", "mark_guardian", "mark_of", "members"),
    "new_mark",
]

#: The beginning of the name that stands in the environment of a program; the number of its mark follows.
MARK = "WAITKIT_TREE_"

_LOCKS = 10  # RLIMIT_LOCKS, which the resource module does not name
_FIRST_MARK = 1 << 60  # so that a limit somebody has set for another reason is no mark
_LAST_MARK = (1 << 60) + (1 << 48)
_GUARDS = 1 << 50  # added to the mark of a guardian
_LINGER = 3  # seconds
_MOST_PASSES = 1_000
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


class Facts:
    """What the system tells of a process. *start* is in clock ticks since the boot: with the pid it is its identity.

    Not *living* is one that has ended and was not reaped yet: it forks no more, but may have done so a moment ago.
    """

    __slots__ = ("living", "parent", "session", "start")

    def __init__(self, parent: int, session: int, start: int, *, living: bool) -> None:
        self.parent = parent
        self.session = session
        self.start = start
        self.living = living


class Root:
    """The process a tree grew from. *pid* is 0 where nobody has told it yet, and *start* where its mark identifies it.

    *marked* is known true where it carried the mark from its first instruction on: then so do all that came from it.
    """

    __slots__ = ("mark", "marked", "pid", "start")

    def __init__(self, mark: int, pid: int = 0, start: int = 0) -> None:
        self.mark = mark
        self.marked = False
        self.pid = pid
        self.start = start


def new_mark() -> int:
    """A mark that nobody else has."""
    return _FIRST_MARK + int.from_bytes(os.urandom(6), "little")


def mark(pid: int, number: int) -> int | None:
    """Have a process (0: this one), and all that it will fork, carry a mark.

    Returns:
        What stood there before, to be put back by another call; ``None`` where the system does not let us.
    """
    if not hasattr(resource, "prlimit"):
        return None
    try:
        before, hard = resource.prlimit(pid, _LOCKS)
        resource.prlimit(pid, _LOCKS, (number, hard))
    except (OSError, ValueError):  # gone, another user's, or a hard limit below the mark
        return None
    return before


def mark_of(pid: int) -> int:
    """The mark of a process, or 0."""
    number = _limit_of(pid)
    if number & _GUARDS:
        number -= _GUARDS
    return number if _FIRST_MARK <= number < _LAST_MARK else 0


def mark_guardian(pid: int) -> None:
    """Have a process that carries our mark be known as a guardian; nothing happens where we carry none."""
    if number := mark_of(0):
        mark(pid, number + _GUARDS)


def _is_guardian(pid: int) -> bool:
    return _FIRST_MARK <= _limit_of(pid) - _GUARDS < _LAST_MARK


def _limit_of(pid: int) -> int:
    try:
        return resource.prlimit(pid, _LOCKS)[0]
    except (OSError, AttributeError, ValueError):
        return 0


def facts_of(pid: int) -> Facts | None:
    """What the system tells of a process; ``None`` where it is gone, or there is no ``/proc``."""
    text = _read(f"/proc/{pid}/stat")
    fields = text[text.rfind(b")") + 2 :].split()  # the name before it may hold blanks and brackets
    if len(fields) < 20:
        return None
    # The state is that of the first thread: where that one has ended and others run on, the process lives.
    living = fields[0] not in (b"Z", b"X") or int(fields[17]) > 1
    return Facts(int(fields[1]), int(fields[3]), int(fields[19]), living=living)


def _exists(pid: int) -> bool:
    """Whether there is a process of this number, ended or not: a twentieth of the price of its facts."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        text = b""
        while part := os.read(fd, 65_536):
            text += part
        return text
    except OSError:
        return b""
    finally:
        os.close(fd)


def last_pid() -> int:
    """The number that was given away last, to a process or a thread; 0 where the system does not tell."""
    fields = _read("/proc/loadavg").split()
    return int(fields[4]) if len(fields) == 5 else 0


def members(root: Root, candidates: list[int] | None = None) -> dict[int, Facts]:
    """The living members of a tree, the root among them.

    Args:
        root: where it begins.
        candidates: who else may be a member, where that is known; otherwise all processes are looked at.
    """
    return {pid: facts for pid, facts in _look_for_members(root, candidates)[0].items() if facts.living}


def _look_for_members(root: Root, candidates: list[int] | None) -> tuple[dict[int, Facts], bool]:
    """The members, those that have ended and were not reaped among them, and whether that is certain.

    It is not where somebody who was on the list was gone when we came to him: he may have forked a member first, who got
    his number after the list was made.
    """
    listed = candidates is None
    if candidates is None:
        candidates = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
        if root.marked and (quickly := _members_by_mark(root, candidates)) is not None:
            return quickly
    elif root.pid:
        candidates = [root.pid, *candidates]
    certain = True
    young = {}
    for pid in candidates:
        facts = facts_of(pid)
        if facts is None and listed:
            certain = False
        # A descendant is never older than its root. We are no member, though a mistake in a mark may say so.
        if facts is not None and facts.start >= root.start and pid != os.getpid() and pid > 1:
            young[pid] = facts
    leader = young.get(root.pid)
    reused = leader is not None and (leader.start != root.start if root.start else mark_of(root.pid) != root.mark)
    found = {
        pid
        for pid, facts in young.items()
        if (facts.session == root.pid and root.pid and not reused) or (pid == root.pid and not reused)
    }
    found = _with_marks(root, young, found)
    if listed and not all(pid in found or os.path.exists(f"/proc/{pid}") for pid in young):
        certain = False  # gone after its facts were read, so its mark could not be
    return {pid: young[pid] for pid in found}, certain


def _members_by_mark(root: Root, pids: list[int]) -> tuple[dict[int, Facts], bool] | None:
    """The same by two cheap questions to each process, and one to each member; ``None`` where the kernel lists no children."""
    marks = {pid: mark_of(pid) for pid in pids}
    session = root.pid if root.pid and marks.get(root.pid, root.mark) == root.mark else None  # 0 is the kernel's own
    no_inner = {0, root.mark, mark_of(os.getpid())}
    found = {
        pid
        for pid, number in marks.items()
        if number == root.mark or _session_of(pid) == session or (number not in no_inner and _is_named(root, pid))
    }
    unasked = set(found)
    while unasked:
        pid = unasked.pop()
        children = _children_of(pid)
        if children is None:
            return None
        number = marks.get(pid, 0)
        more = children | (set() if number in no_inner else {pid for pid, its in marks.items() if its == number})
        unasked |= more - found
        found |= more
    known = {pid: facts for pid in found if (facts := facts_of(pid)) is not None}
    certain = len(known) == len(found) and all(marks[pid] or os.path.exists(f"/proc/{pid}") for pid in pids)
    return {pid: facts for pid, facts in known.items() if pid != os.getpid() and pid > 1}, certain


def _is_named(root: Root, pid: int) -> bool:
    """Whether the mark stands in the environment a process was given."""
    return f"{MARK}{root.mark}=".encode() in _read(f"/proc/{pid}/environ")


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:  # gone; not ours to know
        return -1


def _children_of(pid: int) -> set[int] | None:
    """Whom a process has started that still runs; ``None`` where the kernel does not list them."""
    folder = f"/proc/{pid}/task"
    try:
        tasks = os.listdir(folder)
    except OSError:  # gone
        return set()
    if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        return None
    return {int(child) for task in tasks for child in _read(f"{folder}/{task}/children").split()}


def _with_marks(root: Root, young: dict[int, Facts], found: set[int]) -> set[int]:
    """Also those who carry the mark, those who descend from a member, and the trees which one of them began in its turn."""
    marks = {pid: mark_of(pid) for pid in young}
    found = found | {pid for pid, number in marks.items() if number == root.mark}
    found |= {pid for pid in young.keys() - found if _is_named(root, pid)}
    no_inner = {0, root.mark, mark_of(os.getpid())}
    while True:
        inner = {marks[pid] for pid in found} - no_inner
        more = {pid for pid, facts in young.items() if facts.parent in found or marks[pid] in inner} - found
        if not more:
            return found
        found = found | more


def _kill(pid: int, facts: Facts) -> None:
    """Kill just this process, not one that got its number since."""
    if not hasattr(os, "pidfd_open"):
        _quietly(os.kill, pid)
        return
    try:
        fd = os.pidfd_open(pid)
    except OSError:  # gone; or no descriptor is left, and then the number must do
        if (again := facts_of(pid)) is not None and again.start == facts.start:
            _quietly(os.kill, pid)
        return
    try:
        again = facts_of(pid)
        if again is not None and again.start == facts.start:
            _quietly(signal.pidfd_send_signal, fd)
    finally:
        os.close(fd)


def _quietly(send: object, target: int) -> None:
    try:
        send(target, _KILL)  # type: ignore[operator]
    except (ProcessLookupError, PermissionError):
        pass  # it has ended meanwhile; it became another user's, which is not ours to end


def kill_members(root: Root, who_else: Callable[[], list[int] | None] | None = None) -> dict[int, Facts]:
    """Kill all members of a tree, those they fork meanwhile included.

    Args:
        root: where it begins.
        who_else: tells who was started after the root, where that is known: nobody else need be looked at first.

    Returns:
        Whom it has killed, and the guardians of trees in this tree, which it leaves to themselves: they may all take a moment
        to be gone.
    """
    killed: dict[int, Facts] = {}
    #: those who fork no more from before the list was made on: they had ended, or were killed (by pid: their start)
    barren: dict[int, int] = {}
    facts = facts_of(root.pid) if root.pid and _exists(root.pid) else None
    if facts is not None and not facts.living:
        barren[root.pid] = facts.start
    candidates = None if who_else is None else who_else()
    if candidates == [] and (facts is None or not facts.living):
        return killed  # it had ended, and nobody was started since it was
    for _ in range(_MOST_PASSES):
        found, certain = _look_for_members(root, candidates)
        for pid, facts in found.items():
            if facts.living:
                if not _is_guardian(pid):
                    _kill(pid, facts)
                killed[pid] = facts
        if candidates is not None:
            certain = last_pid() == (candidates[-1] if candidates else root.pid)
            candidates = None
        # Who forks while we go through the list has a child that we have not seen, even if he has ended before we came to
        # him: go on until nobody is new, and nobody was gone.
        if certain and all(barren.get(pid) == facts.start for pid, facts in found.items()):
            break
        barren.update((pid, facts.start) for pid, facts in found.items())
    return killed


def _guard(fd: int) -> None:
    """Be told of trees through a pipe, and kill those that are left when its other side is gone.

    The lines are ``+mark`` before a process is started, ``=mark pid start`` after, and ``-mark`` when it is gone.
    """
    trees: dict[int, Root] = {}
    rest = b""
    while True:
        # With nothing to guard it ends by itself. Should a tree be announced at that very moment, its owner notices.
        signal.alarm(0 if trees else _LINGER)
        chunk = os.read(fd, 65_536)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number, *identity = map(int, line[1:].split())
            if line[:1] == b"-":
                trees.pop(number, None)
            else:
                trees[number] = root = Root(number, *identity)
                if root.pid and not root.start and (facts := facts_of(root.pid)) is not None:
                    root.start = facts.start if mark_of(root.pid) == number else -1
    killed: dict[int, Facts] = {}
    for tree in trees.values():
        killed |= kill_members(tree)
    _see_them_go(killed)


def _see_them_go(killed: dict[int, Facts]) -> None:
    """Who waits for the guardian to be gone may think the trees gone as well."""
    import select

    if not hasattr(os, "pidfd_open"):
        return
    for pid, facts in killed.items():
        try:
            fd = os.pidfd_open(pid)
        except OSError:  # gone; or no descriptor is left
            continue
        again = facts_of(pid)
        if again is not None and again.start == facts.start:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(_LINGER * 1_000)  # who is in an uninterruptible call may take longer
        os.close(fd)


if __name__ == "__main__":
    for _signal in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(_signal, signal.SIG_IGN)
    _guard(int(sys.argv[1]))
