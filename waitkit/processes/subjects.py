"""The process that a condition of readiness is about: known to the conditions inside by the context of their wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from waitkit.ports.holders import who_holds
from waitkit.ports.owners import owns_one_of
from waitkit.ports.sockets import listeners
from waitkit.processes.output import Output
from waitkit.waits.watching import Context

if TYPE_CHECKING:
    from waitkit.processes.notifications import Notifications

__all__ = ["AboutProcess", "Subject", "subject_of"]


class Subject(Protocol):
    """What conditions of readiness ask of a process."""

    def pids(self, *, all_of_tree: bool) -> list[int]:
        """Its process id, or those of its whole tree."""

    def output(self) -> Output:
        """What it writes."""

    def notifications(self) -> Notifications | None:
        """What it has notified; ``None`` where it has nothing to notify."""


class AboutProcess(Context):
    """A context whose conditions are about a process: what answers must be of its tree."""

    __slots__ = ("subject",)

    def __init__(self, context: Context, subject: Subject) -> None:
        super().__init__(context.started, context.deadline, context.ignore, context.probe_cap)
        self.subject = subject

    def objection_to_port(self, port: int) -> str:
        try:
            sockets = listeners(port)
        except OSError:
            return ""
        if not sockets:
            return ""  # in another network namespace, or gone again
        # The process itself first: to find its tree means to look at all processes.
        for all_of_tree in (False, True):
            if owns_one_of(self.subject.pids(all_of_tree=all_of_tree), sockets) is not False:
                return ""
        holders = [str(holder) for holder in who_holds(port) if holder.state == "LISTEN"][:2]
        return f"who answers is not this process, but {' and '.join(holders) or 'another one'}"

    def objection_to_process(self, pid: int) -> str:
        if pid == 0 or pid in self.subject.pids(all_of_tree=False) or pid in self.subject.pids(all_of_tree=True):
            return ""
        return f"who answers is not this process, but process {pid}"


def subject_of(context: Context, name: str) -> Subject:
    """The process that the wait is about.

    Raises:
        TypeError: there is none: *name* was used outside of ``ready=``.
    """
    if not isinstance(context, AboutProcess):
        raise TypeError(
            f"{name} is about a process that is being started: give it to managed_process(..., ready={name}). "
            "To wait for what a running one writes there is p.wait_for_output(...)"
        )
    return context.subject
