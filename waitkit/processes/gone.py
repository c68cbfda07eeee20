"""The end of a process, as its starting and its ending await it: by itself, or killed with all of its tree."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from waitkit.conditions.combined import PassingWatch
from waitkit.conditions.condition import Condition
from waitkit.conditions.descriptors import DescriptorWatch
from waitkit.conditions.processes import ProcessExit
from waitkit.engine.descriptor_place import DescriptorPlace
from waitkit.engine.owned import OwnedDescriptor
from waitkit.ground.durations import Nanoseconds
from waitkit.processes.tree import Facts, facts_of
from waitkit.waits.watching import NOT_YET, Context, Verdict, Watch, earliest

__all__ = ["AllGone", "EndedUnless"]


class EndedUnless(Condition[Any]):
    """A process that has ended; or its being started was withdrawn, of which errors need not tell: who did that knows."""

    def __init__(self, ended: Condition[Any], withdrawn: Condition[Any]) -> None:
        self._ended = ended
        self._withdrawn = withdrawn

    @property
    def what(self) -> str:
        return self._ended.what

    def watch(self, context: Context) -> Watch:
        return _EndedUnlessWatch(self._ended.watch(context), self._withdrawn.watch(context))


class _EndedUnlessWatch(PassingWatch):
    __slots__ = ("_withdrawn",)

    def __init__(self, ended: Watch, withdrawn: Watch) -> None:
        super().__init__(ended)
        self._withdrawn = withdrawn

    def arm(self, wake: Callable[[], None]) -> None:
        super().arm(wake)
        self._withdrawn.arm(wake)

    def look(self, now: Nanoseconds) -> Verdict:
        ended = super().look(now)
        if ended.holds:
            return ended
        withdrawn = self._withdrawn.look(now)
        return withdrawn if withdrawn.holds else ended._replace(again=earliest(ended.again, withdrawn.again))

    def close(self) -> None:
        super().close()
        self._withdrawn.close()


class AllGone(Condition[bool]):
    """The process has ended, and so have all that were killed with it."""

    def __init__(self, exited: Condition[ProcessExit], killed: Mapping[int, Facts]) -> None:
        self._exited = exited
        self._killed = killed

    @property
    def what(self) -> str:
        return f"{self._exited.what}, with all of its tree"

    def watch(self, context: Context) -> Watch:
        return _AllGoneWatch(self._exited.watch(context), self._killed, context)


class _AllGoneWatch(DescriptorWatch):
    """Listens to the main process; when that is gone, to one of the others after the other. They have all been killed."""

    __slots__ = ("_left", "_main", "_pidfd")

    def __init__(self, main: Watch, killed: Mapping[int, Facts], context: Context) -> None:
        super().__init__(context)
        self._main = main
        self._left = dict(killed)
        self._pidfd: OwnedDescriptor | None = None

    def arm(self, wake: Callable[[], None]) -> None:
        super().arm(wake)
        self._main.arm(wake)

    def arm_at(self, place: DescriptorPlace, wake: Callable[[], None]) -> bool:
        return self._main.arm_at(place, wake) and super().arm_at(place, wake)

    def look(self, now: Nanoseconds) -> Verdict:
        main = self._main.look(now)
        if not main.holds:
            return main
        while self._left:
            pid, facts = next(iter(self._left.items()))
            if _is_gone(pid, facts):
                self._stop_listening()
                del self._left[pid]
            elif self._wake is not None and self._pidfd is None and hasattr(os, "pidfd_open"):
                try:
                    (self._pidfd,) = map(OwnedDescriptor, map(os.pidfd_open, (pid,)))  # see OwnedDescriptor
                except OSError:
                    return Verdict(False, None, self._context.next_look(now))
            elif self._pidfd is not None and self.listen(self._pidfd.fileno()):
                return NOT_YET if not _is_gone(pid, facts) else Verdict(False, None, now)
            else:
                return Verdict(False, None, self._context.next_look(now))
        return Verdict(True, True)

    def _stop_listening(self) -> None:
        super().close()
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            pidfd.close()

    def close(self) -> None:
        self._main.close()
        self._stop_listening()

    def seen(self) -> str:
        return f"still there: {', '.join(map(str, self._left))}" if self._left else self._main.seen()


def _is_gone(pid: int, facts: Facts) -> bool:
    """Whether a killed process is gone. One that came to be our child, because we are an init, is reaped."""
    found = facts_of(pid)
    if found is None or found.start != facts.start:
        return True
    if found.living:
        return False
    if found.parent == os.getpid() and facts.parent != os.getpid():
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass
    return True
