"""The tree of a process, found again whatever its members did to leave it, and ended.

A member is who descends from the root, is in its session, has the name of the tree in its environment, or carries its mark.
The name is in the first environment of a program from its first instruction on. The mark is a number in the soft limit
``RLIMIT_LOCKS``, which Linux has kept without a meaning since 2.4.25: a fork inherits it, and neither ``exec``, ``setsid``, a
second fork, another user, an overwritten environment nor closed descriptors take it away. Who sets that limit anew *and* loses
that name *and* leaves the session *and* has lost its ancestors is not found.

A member may begin trees of its own, which have marks of their own, and belong to this one with all that they have grown into.
The guardian of such a tree is not killed but awaited: it knows best what is to go, and goes when its owner does.

The program of the guardian imports this file, too (see :mod:`waitkit.processes.guard`), so the file imports next to nothing.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # as of typing, which is not imported
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = [
    *("FIRST_MARK", "GUARDS", "LOCKS", "MARK", "Facts", "Root", "Search"),
    *("exists", "facts_of", "is_process", "kill_members", "last_pid", "mark_of", "members", "pidfd_of", "read"),
]

#: The beginning of the name that stands in the environment of a program; the number of its mark follows.
MARK = "WAITKIT_TREE_"

#: RLIMIT_LOCKS, which the resource module does not name.
LOCKS = 10
#: So high that a limit somebody has set for another reason is no mark; 48 bits of chance are added.
FIRST_MARK = 1 << 60
_LAST_MARK = FIRST_MARK + (1 << 48)
#: Added to the mark of a guardian.
GUARDS = 1 << 50
_MOST_PASSES = 1_000
_LONGEST_EXEC = 50  # looks
#: So many looks in a row find nobody new, and somebody gone: on a busy machine that goes on for ever.
_MOST_IN_DOUBT = 20
_GONE = -1
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
    """The process a tree grew from. *pid* is 0 where nobody has told it yet, and *start* where its mark identifies it."""

    __slots__ = ("mark", "pid", "start")

    def __init__(self, mark: int, pid: int = 0, start: int = 0) -> None:
        self.mark = mark
        self.pid = pid
        self.start = start


def mark_of(pid: int) -> int:
    """The mark of a process, or 0."""
    number = _limit_of(pid)
    if number & GUARDS:
        number -= GUARDS
    return number if FIRST_MARK <= number < _LAST_MARK else 0


def _is_guardian(pid: int) -> bool:
    return FIRST_MARK <= _limit_of(pid) - GUARDS < _LAST_MARK


def _limit_of(pid: int) -> int:
    """What stands where a mark would; 0 where that cannot be read."""
    try:
        return resource.prlimit(pid, LOCKS)[0]
    except (OSError, AttributeError, ValueError):
        return 0


def facts_of(pid: int) -> Facts | None:
    """What the system tells of a process; ``None`` where it is gone, or there is no ``/proc``."""
    text = read(f"/proc/{pid}/stat")
    fields = text[text.rfind(b")") + 2 :].split()  # the name before it may hold blanks and brackets
    if len(fields) < 20:
        return None
    # The state is that of the first thread: where that one has ended and others run on, the process lives.
    living = fields[0] not in (b"Z", b"X") or int(fields[17]) > 1
    return Facts(int(fields[1]), int(fields[3]), int(fields[19]), living=living)


def exists(pid: int) -> bool:
    """Whether there is a process of this number, ended or not: a twentieth of the price of its facts."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def is_process(pid: int) -> bool:
    """Whether this is no thread of another number: threads have numbers out of the same row, which no list of processes has."""
    return f"\nTgid:\t{pid}\n".encode() in read(f"/proc/{pid}/status")


def read(path: str) -> bytes:
    """What a file holds; nothing where it is gone, or not ours to know."""
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
    try:
        fd = os.open("/proc/loadavg", os.O_RDONLY)
    except OSError:
        return 0
    try:
        return int(os.read(fd, 100).rpartition(b" ")[2])  # at once: this is asked thrice for each launch
    except (OSError, ValueError):
        return 0
    finally:
        os.close(fd)


def members(root: Root, candidates: list[int] | None = None) -> dict[int, Facts]:
    """The living members of a tree, the root among them.

    Args:
        root: where it begins.
        candidates: who else may be a member, where that is known; otherwise all processes are looked at.
    """
    return {pid: facts for pid, facts in Search(root).look(candidates).items() if facts.living}


class Search:
    """One search for the members of a tree, in as many looks as it takes; *proof* is asked instead of the mark."""

    def __init__(self, root: Root, proof: Callable[[int], bool] | None = None) -> None:
        self._root = root
        self._proof = proof
        self._name = f"{MARK}{root.mark}=".encode()
        #: who was seen not to be a member by himself: he is not asked again, as he will not come to be one, and may go
        self._strangers: set[int] = set()
        #: how often somebody was found in the middle of an exec, where his environment is not there yet
        self._execs: dict[int, int] = {}
        #: whether in the last look somebody was gone before he was asked: he may have forked a member first
        self.missed = False
        #: and whether somebody was in the middle of an exec
        self.amid_exec = False

    def look(self, candidates: list[int] | None) -> dict[int, Facts]:
        """The members, those that have ended and were not reaped among them."""
        root = self._root
        self.missed = self.amid_exec = False
        if candidates is None:
            # The youngest first: of them most are about to go.
            pids = sorted((int(name) for name in os.listdir("/proc") if name.isdecimal()), reverse=True)
        else:
            pids = [root.pid, *candidates] if root.pid else candidates
        marks = {pid: mark_of(pid) if self._proof is None else 0 for pid in pids}
        sessions = {pid: _session_of(pid) for pid in pids}
        found = self._found_by_themselves(marks, sessions)
        _add_kin(found, marks, sessions, {0, root.mark, mark_of(os.getpid())})
        if candidates is not None:
            found = {pid for pid in found if pid == root.pid or is_process(pid)}
        known = {pid: facts for pid in found if (facts := facts_of(pid)) is not None}
        if len(known) != len(found):
            self.missed = True
        # A descendant is never older than its root.
        return {pid: facts for pid, facts in known.items() if facts.start >= root.start}

    def _found_by_themselves(self, marks: dict[int, int], sessions: dict[int, int]) -> set[int]:
        root = self._root
        is_there = sessions.get(root.pid, _GONE) != _GONE
        is_root = is_there and self.is_root(marks[root.pid])
        # Nobody joins a session, and its number is given to nobody else while it has a process: its leader may be gone.
        session = root.pid if root.pid and (is_root or not is_there) else None
        found = {
            pid
            for pid, number in marks.items()
            if number == root.mark or sessions[pid] == session or self._is_named(pid, sessions[pid])
        }
        if self._proof is not None:
            found |= {pid for pid in marks if self._proof(pid)}
        if is_root:
            found.add(root.pid)
        return found - _nobody()

    def is_root(self, number: int) -> bool:
        root = self._root
        if root.start:
            facts = facts_of(root.pid)
            return facts is not None and facts.start == root.start
        return number == root.mark or self._is_named(root.pid)

    def _is_named(self, pid: int, session: int | None = None) -> bool:
        if pid in self._strangers:
            return False
        if session == _GONE:
            self.missed = True
            return False
        # Kernel threads are in session 0, and have no environment.
        environment = read(f"/proc/{pid}/environ") if session != 0 else b""
        if self._name in environment:
            return True
        if environment or session == 0 or read(f"/proc/{pid}/cmdline"):  # it may have none
            self._strangers.add(pid)
        else:
            self._doubt(pid)
        return False

    def _doubt(self, pid: int) -> None:
        """Somebody has neither an environment nor arguments: he has ended, or is in the middle of an exec."""
        facts = facts_of(pid)
        if facts is None or not facts.living:
            self.missed = True
        else:
            self._execs[pid] = times = self._execs.get(pid, 0) + 1
            self.amid_exec |= times < _LONGEST_EXEC
            if times < _LONGEST_EXEC:
                return
        if facts is not None:  # he forks no more; or he has neither, and that is that
            self._strangers.add(pid)


def _add_kin(found: set[int], marks: dict[int, int], sessions: dict[int, int], no_inner: set[int]) -> None:
    """Add who descends from a member, is in a session that one leads, or in a tree that one has begun in its turn."""
    children_of = _children_of if _kernel_lists_children() else _by_their_parents(marks)
    unasked = set(found)
    while unasked:
        pid = unasked.pop()
        more = children_of(pid)
        if sessions.get(pid) == pid:
            more |= {other for other, session in sessions.items() if session == pid}
        number = marks.get(pid, 0)
        if number not in no_inner:
            no_inner.add(number)
            more |= {other for other, its in marks.items() if its == number}
        more -= found | _nobody()
        found |= more
        unasked |= more


def _nobody() -> set[int]:
    """Who is no member though a mistake in a mark may say so: the parent of all orphans, and we."""
    return {1, os.getpid()}


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:  # gone; not ours to know
        return _GONE


def _kernel_lists_children() -> bool:
    return os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def _children_of(pid: int) -> set[int]:
    """Whom a process has started that still runs."""
    folder = f"/proc/{pid}/task"
    try:
        tasks = os.listdir(folder)
    except OSError:  # gone
        return set()
    return {int(child) for task in tasks for child in read(f"{folder}/{task}/children").split()}


def _by_their_parents(pids: Iterable[int]) -> Callable[[int], set[int]]:
    """The same for a kernel that lists no children."""
    parents = {pid: facts.parent for pid in pids if (facts := facts_of(pid)) is not None}
    return lambda pid: {child for child, parent in parents.items() if parent == pid}


def pidfd_of(pid: int, facts: Facts) -> int | None:
    """A descriptor of just this process, not of one that got its number since; ``None`` where there is none to be had."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        fd = os.pidfd_open(pid)
    except OSError:  # gone; or no descriptor is left
        return None
    if _is_still(pid, facts):
        return fd
    os.close(fd)
    return None


def _is_still(pid: int, facts: Facts) -> bool:
    again = facts_of(pid)
    return again is not None and again.start == facts.start


def _kill(pid: int, facts: Facts) -> None:
    fd = pidfd_of(pid, facts)
    try:
        if fd is not None:
            signal.pidfd_send_signal(fd, _KILL)
        elif _is_still(pid, facts):  # without a descriptor the number must do
            os.kill(pid, _KILL)
    except (ProcessLookupError, PermissionError):
        pass  # it has ended meanwhile; it became another user's, which is not ours to end
    finally:
        if fd is not None:
            os.close(fd)


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
    facts = facts_of(root.pid) if root.pid and exists(root.pid) else None
    if facts is not None and not facts.living:
        barren[root.pid] = facts.start
    candidates = None if who_else is None else who_else()
    if candidates == [] and (facts is None or not facts.living):
        return killed  # it had ended, and nobody was started since it was
    search = Search(root)
    in_doubt = 0
    for _ in range(_MOST_PASSES):
        found = search.look(candidates)
        for pid, facts in found.items():
            if facts.living:
                if not _is_guardian(pid):
                    _kill(pid, facts)
                killed[pid] = facts
        # Who forks while we go through the list has a child that we have not seen, even if he has ended before we came to
        # him: go on until nobody is new, and nobody was gone.
        if candidates is None:
            certain = not search.missed and not search.amid_exec
        else:
            certain = last_pid() == (candidates[-1] if candidates else root.pid) and not search.amid_exec
            candidates = None
        if any(barren.get(pid) != facts.start for pid, facts in found.items()):
            in_doubt = 0
        elif certain or in_doubt == _MOST_IN_DOUBT:
            break
        else:
            in_doubt += 1
        barren.update((pid, facts.start) for pid, facts in found.items())
    return killed
