"""The process that a condition of readiness is about: known to the conditions inside by the context of their wait."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from waitkit.ports.holders import holders_of
from waitkit.ports.owners import AnswersOfOne, owns_inode, owns_one_of, unix_listeners
from waitkit.ports.sockets import Socket
from waitkit.processes.output import Output
from waitkit.waits.watching import Context

if TYPE_CHECKING:
    from waitkit.processes.notifications import Notifications

__all__ = ["AboutProcess", "Subject", "subject_of"]


class Subject(Protocol):
    """What conditions of readiness ask of a process, and tell of it."""

    def pids(self, *, all_of_tree: bool) -> list[int]:
        """Its process id, or those of its whole tree."""

    def output(self) -> Output | None:
        """What it writes; ``None`` where it is not there yet."""

    def notifications(self) -> Notifications | None:
        """What it has notified; ``None`` where it has nothing to notify."""

    def is_to_use(self, port: int) -> None:
        """Its readiness hangs on this port."""

    def listens_at(self, found: Socket) -> None:
        """This socket, which listens, is one of its tree's."""


class AboutProcess(AnswersOfOne):
    """A context whose conditions are about a process: what answers must be of its tree."""

    __slots__ = ("_objection", "_strangers", "subject")

    def __init__(self, context: Context, subject: Subject) -> None:
        super().__init__(
            context.started, context.deadline, context.ignore, context.probe_cap, both_ways=context.both_ways
        )
        self.subject = subject
        #: who answered last and is none of the tree, and what was said of them
        self._strangers: list[Socket] = []
        self._objection = ""

    def for_both_ways(self) -> Context:
        return AboutProcess(super().for_both_ways(), self.subject)

    def asks_for_port(self, port: int) -> None:
        self.subject.is_to_use(port)

    def objection_to_listeners(self, found: Sequence[Socket]) -> str:
        left = list(found)
        # The process itself first: to find its tree means to look at all processes.
        for all_of_tree in (False, True):
            pids = self.subject.pids(all_of_tree=all_of_tree)
            strangers = []
            for one in left:
                if (owned := owns_one_of(pids, [one])) is False:
                    strangers.append(one)
                elif owned:
                    self.subject.listens_at(one)
            if not strangers:
                return ""
            left = strangers
        if left != self._strangers:  # to find out whose they are means to look at all descriptors of the machine
            holders = [str(holder) for holder in holders_of(left) if holder.pid not in pids]
            self._objection = f"who answers is not this process, but {' and '.join(holders[:2]) or 'another one'}"
            self._strangers = left
        return self._objection

    def objection_to_unix_listener(self, path: str, pid: int) -> str:
        if pid == 0 or pid in self.subject.pids(all_of_tree=False):
            return ""
        pids = self.subject.pids(all_of_tree=True)
        if pid in pids or self._has_open(pids, path):
            return ""
        return f"who answers is not this process, but process {pid}"

    def _has_open(self, pids: Sequence[int], path: str) -> bool:
        """Whether the socket at *path* is open in the tree, which then answers, though somebody else called ``listen()``.

        It was handed to the process, or by a process that has ended to its child. One that was bound to the path before, and
        lost it, may be in the list as well: then it is not known which of them answers.
        """
        place = os.path.realpath(path)
        at_path = [one.inode for one in unix_listeners() if os.path.realpath(one.path) == place]
        return bool(at_path) and all(owns_inode(pids, [inode]) is not False for inode in at_path)


def subject_of(context: Context, name: str) -> Subject:
    """The process that the wait is about.

    Raises:
        TypeError: there is none: *name* was used outside of ``ready=``.
    """
    if not isinstance(context, AboutProcess):
        raise TypeError(
            f"{name} is about a process that is being started: give it to managed_process(..., ready={name})"
            + (". To wait for what a running one writes there is p.wait_for_output(...)" if "output" in name else "")
        )
    return context.subject
