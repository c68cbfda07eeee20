"""The guardian: one small process that outlives this one for a moment, and kills what it has left behind.

It reads a pipe whose other side is here. However this process ends, ``kill -9`` included, the kernel closes that side, and the
guardian kills every tree it was told of and not told to forget. It is started with the first managed process, while that
one starts, ends by itself when there has been nothing to guard for a while, and is replaced where somebody kills it.

``PR_SET_PDEATHSIG`` would not do: it is tied to the *thread* that started a child, and reaches the child alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, Self

from waitkit.engine.clock import SystemClock
from waitkit.engine.descriptors import CannotStart, DescriptorSubscription, watch_descriptor
from waitkit.engine.forks import on_fork_in_child
from waitkit.engine.locks import ForkSafeLock
from waitkit.engine.owned import OwnedDescriptor
from waitkit.ground.durations import SECOND
from waitkit.processes import lending, tree
from waitkit.processes.lending import Loan

__all__ = ["Guarded", "announce_self", "descriptors_of_guardian", "pipe_for_child"]

_FIT_INTO_A_PIPE: Final = 64  # lines of at most 64 bytes
#: A guardian that ended so soon may not have come to run; after so many in a row no other is started.
_TOO_SOON: Final = SECOND
_MOST_FAILURES: Final = 5


class _Guardian:
    """This process's side. ``_lock`` guards everything; nothing is called under it but the system."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._lines: dict[int, bytes] = {}
        self._writer: OwnedDescriptor | None = None
        self._pid = 0
        self._pidfd: OwnedDescriptor | None = None
        self._watching: DescriptorSubscription | None = None
        self._started_at = 0
        self._failures = 0

    def tell(self, mark: int, line: bytes) -> None:
        """Have a tree guarded, or what is known of it replaced."""
        with self._lock:
            self._lines[mark] = line
            self._say(line)

    def forget(self, mark: int) -> None:
        """A tree is gone."""
        with self._lock:
            if self._lines.pop(mark, None) is not None and self._writer is not None:
                self._say(b"-%d\n" % mark)

    def duplicate(self) -> int | None:
        """Another descriptor of the pipe, for a child that tells of itself."""
        with self._lock:
            return None if self._writer is None else os.dup(self._writer.fileno())

    def own_descriptors(self) -> set[int]:
        """What is kept open as long as there is a guardian."""
        with self._lock:
            return {owned.fileno() for owned in (self._writer, self._pidfd) if owned is not None}

    def _say(self, line: bytes) -> None:
        try:
            if self._writer is None:
                self._start()
            elif self._writer is not None:
                os.write(self._writer.fileno(), line)
        except BrokenPipeError:  # it has ended; those still to be guarded are told to the next one
            self._close()
            if self._lines:
                self._start()

    def _start(self) -> None:
        """Start the guardian, and tell it of all trees. What we write waits in the pipe until it reads."""
        program = os.path.join(os.path.dirname(tree.__file__), "guard.py")
        if self._failures >= _MOST_FAILURES or not _can_be_started(program):
            return
        self._started_at = SystemClock.now()
        reader, writer = os.pipe()
        actions = [
            (os.POSIX_SPAWN_DUP2, reader, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        argv = [sys.executable, "-I", "-S", program, "0"]
        lines = list(self._lines.values())
        # What fits into any pipe is there before its reader is: no moment in which we could be killed with nothing told.
        for line in lines[:_FIT_INTO_A_PIPE]:
            os.write(writer, line)
        try:
            with lending.while_nothing_is_lent():
                self._pid = os.posix_spawn(sys.executable, argv, os.environ, file_actions=actions, setsid=True)
        except NotImplementedError:  # a C library that cannot give it a session of its own
            os.close(writer)
            return
        except BaseException:
            os.close(writer)
            raise
        finally:
            os.close(reader)
        lending.mark_guardian(self._pid)
        self._writer = OwnedDescriptor(writer)
        for line in lines[_FIT_INTO_A_PIPE:]:
            os.write(writer, line)
        try:
            self._pidfd = OwnedDescriptor(os.pidfd_open(self._pid))
            self._watching = watch_descriptor(self._pidfd.fileno(), self._ended)
        except (OSError, CannotStart, AttributeError):
            pass  # its end is then noticed at the next write

    def _ended(self) -> None:
        """It has ended: by itself, when there was nothing to guard for a while, or because somebody killed it."""
        with self._lock:
            # One that cannot run (what should be Python is another program) ends again and again, and at once.
            self._failures = self._failures + 1 if SystemClock.now() - self._started_at < _TOO_SOON else 0
            if self._failures == _MOST_FAILURES:
                import logging  # here, as each spawned child imports this file

                logging.getLogger("waitkit").warning(
                    "%s does not run the guardian: what is managed is not ended where this process is killed",
                    sys.executable,
                )
            self._close()
            if self._lines:
                self._start()

    def _close(self) -> None:
        if self._watching is not None:
            self._watching.close()
        ours = (self._writer, self._pidfd)
        self._writer = self._pidfd = self._watching = None
        for owned in ours:
            if owned is not None:
                owned.close()
        if self._pid:
            try:
                os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:
                pass  # somebody who reaps all children has reaped it
            self._pid = 0

    def inherit(self) -> None:
        """In a forked child: the trees are the parent's, and our copy of the pipe would keep it from being noticed."""
        for owned in (self._writer, self._pidfd):
            if owned is not None:
                owned.close()


_guardian = _Guardian()


@on_fork_in_child
def _reset() -> None:
    global _guardian
    inherited, _guardian = _guardian, _Guardian()
    inherited.inherit()


def _can_be_started(program: str) -> bool:
    """Not by an interpreter in another program, or in an archive, of which nobody knows how to start it."""
    return (
        bool(sys.executable)
        and os.access(sys.executable, os.X_OK)
        and not getattr(sys, "frozen", False)
        and hasattr(os, "posix_spawn")
        and os.path.isfile(program)
        and os.path.isdir("/proc/self")
    )


class Guarded:
    """A tree in the guardian's care, from before its root is started until it is gone."""

    def __init__(self) -> None:
        self.root = tree.Root(lending.new_mark())
        #: descriptors of pipes that nobody but the root is given
        self.pipes: Sequence[int] = ()
        self._loan = Loan(self.root.mark)
        _guardian.tell(self.root.mark, b"+%d\n" % self.root.mark)

    @property
    def name(self) -> str:
        """What a program of this tree has in its environment."""
        return f"{tree.MARK}{self.root.mark}"

    def __enter__(self) -> Self:
        """What is started in this block carries the mark from its first instruction on."""
        self._loan.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._loan.end()
        if kind is not None:  # there is no root, and so nobody to be found but strangers
            self._loan.take_back_from_strangers(self.root, ())

    def started(self, pid: int) -> None:
        """Its root has been started."""
        self.root.pid = pid
        self._loan.take_back_from_strangers(self.root, self.pipes)
        if tree.mark_of(pid) != self.root.mark and lending.mark(pid, self.root.mark) is None:
            facts = tree.facts_of(pid)
            self.root.start = 0 if facts is None else facts.start
        # Where it carries the mark, that identifies it. To ask for more would wait for its exec, which takes a while.
        _guardian.tell(self.root.mark, _line(self.root))

    def gone(self) -> None:
        """Nothing is left of it."""
        _guardian.forget(self.root.mark)


def pipe_for_child() -> int | None:
    """A descriptor by which a forked or spawned child can tell the guardian of itself; the caller closes it."""
    return _guardian.duplicate()


def descriptors_of_guardian() -> set[int]:
    """What this process keeps open for its guardian, which goes some seconds after the last tree."""
    return _guardian.own_descriptors()


def announce_self(fd: int, mark: int) -> None:
    """In a child: tell the guardian who we are, so that it knows us also where our parent is killed before it could."""
    facts = tree.facts_of(os.getpid())
    root = tree.Root(mark, os.getpid(), 0 if facts is None else facts.start)
    lending.mark(0, mark)
    try:
        os.write(fd, _line(root))
    except BrokenPipeError:
        pass  # nobody guards any more


def _line(root: tree.Root) -> bytes:
    return b"=%d %d %d\n" % (root.mark, root.pid, root.start)
