"""The mark of a tree: lent by us to the program that grows it while that is forked, and taken back from all others."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import partial

from waitkit.engine.background import others_may_fork
from waitkit.engine.forks import on_fork_in_child
from waitkit.engine.locks import ForkSafeLock
from waitkit.processes import tree
from waitkit.processes.forkers import Forkers

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = ["Loan", "mark", "mark_guardian", "new_mark", "while_nothing_is_lent"]

#: So many rounds in a row find no stranger, and somebody gone: on a busy machine that goes on for ever.
_MOST_GONE = 20


def new_mark() -> int:
    """A mark that nobody else has."""
    return tree.FIRST_MARK + int.from_bytes(os.urandom(6), "little")


def mark(pid: int, number: int) -> int | None:
    """Have a process (0: this one), and all that it will fork, carry a mark.

    Returns:
        What stood there before, to be put back by another call; ``None`` where the system does not let us.
    """
    if not hasattr(resource, "prlimit"):
        return None
    try:
        before, hard = resource.prlimit(pid, tree.LOCKS)
        resource.prlimit(pid, tree.LOCKS, (number, hard))
    except (OSError, ValueError):  # gone, another user's, or a hard limit below the mark
        return None
    return before


def mark_guardian(pid: int) -> None:
    """Have a process that carries our mark be known as a guardian; nothing happens where we carry none."""
    if number := tree.mark_of(0):
        mark(pid, number + tree.GUARDS)


class _Ours:
    """Our own limit, in which one mark at a time is lent. ``lock`` is held meanwhile."""

    def __init__(self) -> None:
        self.lock = ForkSafeLock()
        #: what stood there, while something else does
        self.before: int | None = None

    def put_back(self) -> None:
        before, self.before = self.before, None
        if before is not None:
            mark(0, before)


_ours = _Ours()


def while_nothing_is_lent() -> AbstractContextManager[bool]:
    """What is forked in this block is not meant for a tree, and gets no mark."""
    return _ours.lock


@on_fork_in_child
def _put_back() -> None:
    """A fork of ours that runs Python is nobody's root; the one that is to be marks itself."""
    _ours.put_back()


class Loan:
    """A mark, and who may have got it while it was lent.

    A limit belongs to the whole process, so what another thread forks meanwhile gets the mark as well. Whoever that is was born
    between two looks at the number that was given away last. Nothing keeps other threads from it: Python gives up the lock of
    the interpreter while it forks.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._before: int | None = None
        #: nobody can have got it, as no other thread can have forked, or come to be
        self._nobody_else = False
        self._born = (0, 0)
        self._switches = 0

    def begin(self) -> None:
        _ours.lock.__enter__()
        try:
            self._nobody_else = not hasattr(resource, "prlimit") or not others_may_fork()
            if not self._nobody_else:
                first = tree.last_pid()
                self._born = (first, first)
                self._switches = _switches_of_others()
            self._before = _ours.before = mark(0, self._number)
        except BaseException:  # no descriptor is left to ask with
            _ours.put_back()
            _ours.lock.release()
            raise

    def end(self) -> None:
        try:
            _ours.put_back()
            if not self._nobody_else:
                self._born = (self._born[0], tree.last_pid())
        finally:
            _ours.lock.release()

    def take_back_from_strangers(self, root: tree.Root, pipes: Iterable[int]) -> None:
        """Take the mark off whom it was not meant for; to be called before anybody may have reaped the root.

        Who got the mark in that time counts as a stranger, unless something else makes him a member too; *pipes* are descriptors
        of those that the root alone was given. Each round takes the mark off those that it finds. What they forked before, or
        were about to fork, has been born by the next one, and is looked at in it; what they fork afterwards has no mark. Who was
        there and is gone may have forked as well.
        """
        (first, last), self._born = self._born, (0, 0)
        if self._before is None or self._nobody_else:
            return
        forkers = Forkers()
        forkers.add(os.getpid())
        if not forkers and _switches_of_others() == self._switches:
            return  # no other thread has run since: who sleeps now has not fallen asleep meanwhile either
        all_born = False
        some_gone = 0
        while True:
            pids = _born_between(first, last)
            found = _strangers(root, pids, pipes)
            for pid in found:
                mark(pid, self._before)
                forkers.add(pid)
            gone = any(pid != root.pid and not tree.exists(pid) for pid in pids)
            if not found and all_born and not (gone and some_gone < _MOST_GONE):
                return
            some_gone = 0 if found else some_gone + 1
            all_born = not found
            forkers.let_finish()
            first, last = last, tree.last_pid()


def _switches_of_others() -> int:
    """How often another thread than this one has given up its processor."""
    if not hasattr(resource, "RUSAGE_THREAD"):
        return 0
    ours, mine = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_THREAD)
    return ours.ru_nvcsw + ours.ru_nivcsw - mine.ru_nvcsw - mine.ru_nivcsw


def _born_between(first: int, last: int) -> list[int]:
    """Who may have got a number since *first* was given away, up to *last*."""
    if first <= last:
        return list(range(first + 1, last + 1))
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # they began anew


def _strangers(root: tree.Root, suspects: list[int], pipes: Iterable[int]) -> set[int]:
    carriers = {pid for pid in suspects if pid != root.pid and tree.mark_of(pid) == root.mark and tree.is_process(pid)}
    if not carriers:
        return carriers
    facts = tree.facts_of(root.pid)
    known = tree.Root(root.mark, root.pid, -1 if facts is None else facts.start)
    writes = partial(_writes_to, frozenset(os.fstat(fd).st_ino for fd in pipes))
    return carriers - tree.Search(known, writes).look(list(carriers)).keys()


def _writes_to(pipes: frozenset[int], pid: int) -> bool:
    """Whether one of the output streams of a process is such a pipe. A fork of ours may have it, but under another number."""
    for number in (1, 2):
        try:
            if os.stat(f"/proc/{pid}/fd/{number}").st_ino in pipes:
                return True
        except OSError:  # closed; gone; not ours to know
            pass
    return False
