"""The program of the guardian: told of trees through a pipe, it kills those that are left when its other side is gone.

It is run as a file, by an interpreter that looks at nothing else of this machine, and imports next to nothing.
"""

from __future__ import annotations

import os
import select
import signal
import sys

TYPE_CHECKING = False  # as of typing, which is not imported
if TYPE_CHECKING:
    from waitkit.processes import tree
else:
    # Not as a part of waitkit, whose own files would be loaded; and not by running that file, which would compile it anew.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import tree

    del sys.path[0]

_LINGER = 3  # seconds
_MOMENT = 20  # milliseconds


def guard(fd: int) -> None:
    """Be told of trees through a pipe, and kill those that are left when its other side is gone.

    The lines are ``+mark`` before a process is started, ``=mark pid start`` after, and ``-mark`` when it is gone. After some it
    rests for a moment, which the end of the other side cuts short: of a process that is over by then nothing need be done, and
    the processor is left to it (a start and end of ``true`` took a twelfth more time).
    """
    trees: dict[int, tree.Root] = {}
    rest = b""
    ended = select.poll()
    ended.register(fd, 0)
    while True:
        # With nothing to guard it ends by itself. Should a tree be announced at that very moment, its owner notices.
        signal.alarm(0 if trees else _LINGER)
        ended.poll(_MOMENT)
        chunk = os.read(fd, 65_536)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number, *identity = map(int, line[1:].split())
            if line[:1] == b"-":
                trees.pop(number, None)
            else:
                trees[number] = tree.Root(number, *identity)
        for root in trees.values():
            if root.pid and not root.start and (facts := tree.facts_of(root.pid)) is not None:
                root.start = facts.start if tree.Search(root).is_root(tree.mark_of(root.pid)) else -1
    killed: dict[int, tree.Facts] = {}
    for root in trees.values():
        killed |= tree.kill_members(root)
    _see_them_go(killed)


def _see_them_go(killed: dict[int, tree.Facts]) -> None:
    """Who waits for the guardian to be gone may think the trees gone as well."""
    for pid, facts in killed.items():
        fd = tree.pidfd_of(pid, facts)
        if fd is not None:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(_LINGER * 1_000)  # who is in an uninterruptible call may take longer
            os.close(fd)


def _close_all_but(fd: int) -> None:
    """Close what its starter has open for its children: a listener, a lock, a pipe would be kept by the guardian."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > max(2, fd):
            try:
                os.close(int(name))
            except OSError:  # that of this list
                pass


if __name__ == "__main__":
    _close_all_but(int(sys.argv[1]))
    os.chdir("/")
    for _signal in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(_signal, signal.SIG_IGN)
    guard(int(sys.argv[1]))
