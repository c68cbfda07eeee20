"""One life of a managed process: from its launch until nothing is left of it, as flows that a thread or a loop drives."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from waitkit.conditions.condition import Condition, any_of
from waitkit.conditions.descriptors import DescriptorWatch
from waitkit.conditions.processes import ProcessExit, ProcessExited
from waitkit.engine.clock import now
from waitkit.engine.descriptors import CannotStart, watch_descriptor
from waitkit.ground.durations import SECOND, Nanoseconds
from waitkit.ground.errors import WaitTimeout
from waitkit.ground.settings import scaled
from waitkit.processes.children import CallableChild, Child
from waitkit.processes.listeners import Listener, ListenersGone, listeners_of
from waitkit.processes.notifications import Notifications
from waitkit.processes.output import Output
from waitkit.processes.readiness import Ready, ReadyWhen, wants_notifications
from waitkit.processes.signals_held import SignalsHeld
from waitkit.processes.tree import Facts, facts_of
from waitkit.waits.drivers import Flow, drive
from waitkit.waits.scopes import outside_scopes
from waitkit.waits.wait import Wait
from waitkit.waits.watching import NOT_YET, Context, Verdict, Watch

if TYPE_CHECKING:
    from waitkit.processes.restarting import RestartPolicy

__all__ = ["Life", "Plan", "beyond_scopes"]

_PATIENCE = 10 * SECOND

#: So many interrupts take away the patience with a process that does not go even when it is killed.
_MOST_INTERRUPTS = 3


class Plan(NamedTuple):
    """What was asked of :func:`waitkit.managed_process`, checked."""

    #: gets what is to be added to the environment
    launch: Callable[[Mapping[str, str]], Child]
    name: str
    ready: ReadyWhen
    ready_timeout: int | None
    stop_timeout: int
    stop_signal: int
    restart: RestartPolicy | None


class Life:
    """A process that was started. Its making launches it; signals are to be held meanwhile."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.began = now()
        self.ready_after: float | None = None
        #: nothing is left of it
        self.over = False
        self._listeners: tuple[Listener, ...] = ()
        self._notifications = Notifications() if wants_notifications(plan.ready) else None
        try:
            additions = {} if self._notifications is None else {"NOTIFY_SOCKET": self._notifications.address}
            self.child = plan.launch(additions)
        except BaseException:
            if self._notifications is not None:
                self._notifications.close()
            raise
        self.pid = self.child.identity.pid
        self.name = f"{plan.name} (pid {self.pid})"

    # What conditions of readiness ask of their subject.

    def pids(self, *, all_of_tree: bool) -> list[int]:
        return list(self.child.identity.members()) if all_of_tree else [self.pid]

    def output(self) -> Output:
        return self.child.output

    def notifications(self) -> Notifications | None:
        return self._notifications

    @property
    def exited(self) -> Condition[ProcessExit]:
        return ProcessExited(self.child.process).described(f"{self.name} to exit")

    @property
    def status(self) -> str:
        """Its last ``STATUS=``."""
        return "" if self._notifications is None else self._notifications.status

    def becoming_ready(self, resolve: Callable[[], Condition[Any] | None], unless: Condition[Any] | None) -> Flow[None]:
        """Wait until it is ready; its own end, and *unless*, end that."""
        if self._notifications is not None:
            self._notifications.listen(self._belongs)
        ready = self.child.ready_signalled if self.plan.ready == "event" else resolve()
        if ready is not None:
            ended: Condition[Any] = ProcessExited(self.child.process).described("its exit")
            against = ended if unless is None else any_of(ended, unless)
            yield Wait(Ready(ready, self.name, self, self._facts), self.plan.ready_timeout, unless=against)
        self.ready_after = (now() - self.began) / SECOND
        if self.plan.restart is not None:
            # Once it has died nobody knows any more what it listened at, and the next one is to find that free.
            self._listeners = self._own_listeners()

    def _belongs(self, pid: int) -> bool:
        """Whether what a process notified counts. One that has ended cannot be asked: it knew a name that only the tree knows."""
        return pid == self.pid or pid in self.pids(all_of_tree=True) or facts_of(pid) is None

    def _facts(self) -> Sequence[str]:
        facts = [] if self._notifications is None else self._notifications.facts()
        if isinstance(self.child, CallableChild) and self.child.never_ran():
            facts.append(
                "it ended before it came to its callable; what Python says of that is on the standard error of this "
                "process. Mostly a main module lacks its \"if __name__ == '__main__':\" around what starts processes: a "
                "spawned child imports that module"
            )
            return facts
        return [*facts, self.child.output.tail() or "it wrote nothing"]

    def ending(self, interrupt: BaseException | None = None) -> Flow[int | None]:
        """End it: the stop signal, the grace, then everything that is left is killed. Returns its exit code."""
        if self.over:
            if interrupt is not None:
                raise interrupt
            return self.child.exit_code()
        try:
            if interrupt is None:
                yield from self._asking()
        except GeneratorExit:
            self._end_at_once()
            raise
        except BaseException as error:  # noqa: BLE001 - it takes the grace away, and goes on at the end
            interrupt = error
        yield from self.clearing(interrupt)
        return self.child.exit_code()

    def _asking(self) -> Flow[None]:
        if self.child.exit_code() is None:
            self._listeners = self._own_listeners()
            self.child.identity.send(self.plan.stop_signal)
            try:
                yield beyond_scopes(self.exited, self.plan.stop_timeout)
            except WaitTimeout:
                pass

    def _own_listeners(self) -> tuple[Listener, ...]:
        given = self.child.handed_over
        return tuple(one for one in listeners_of(self._members_now()) if one.inode not in given)

    def _members_now(self) -> Sequence[int]:
        return [self.pid, *self.child.identity.members()]

    def clearing(self, interrupt: BaseException | None = None) -> Flow[None]:
        """Kill whatever is left of its tree, wait until all of it is gone, and its ports are free.

        Interrupts do not cut this short, but for the third one: all is killed before anything is waited for, so it takes
        milliseconds, except for a process in an uninterruptible call.
        """
        if self.over:
            return
        interrupts = 0
        while True:
            try:
                with SignalsHeld():
                    killed = self.child.identity.kill_tree()
                if killed or self.child.exit_code() is None:
                    yield beyond_scopes(_AllGone(self.exited, killed), scaled(_PATIENCE))
                self._release()
                if self._listeners:
                    yield beyond_scopes(ListenersGone(self._listeners, self.name), scaled(_PATIENCE // 2))
                break
            except GeneratorExit:
                self._end_at_once()
                raise
            except WaitTimeout:
                raise
            except BaseException as error:  # noqa: BLE001 - as above
                interrupt = interrupt or error
                interrupts += 1
                if self.over or interrupts == _MOST_INTERRUPTS:
                    break
        if interrupt is not None:
            raise interrupt

    def _end_at_once(self) -> None:
        """The flow is dropped where nobody can drive it on: kill everything, and wait here for the end of it."""
        if not self.over:
            self.child.identity.kill_tree()
            drive(self.clearing())

    def kill(self) -> None:
        """Kill everything, and wait for nothing; it is reaped, and what it held given back, when it is gone."""
        self.child.identity.kill_tree()
        if sys.is_finalizing() or not hasattr(os, "pidfd_open"):
            return  # at the end of the interpreter other threads stand still for ever, perhaps with a lock that we would need
        try:
            pidfd = os.pidfd_open(self.pid)
        except OSError:  # reaped already
            self._release()
            return

        def bury() -> None:
            os.close(pidfd)
            if self.child.exit_code() is not None and not self.over:
                self._release()

        try:
            watch_descriptor(pidfd, bury)
        except CannotStart:  # the interpreter is going down
            os.close(pidfd)

    def _release(self) -> None:
        self.over = True
        self.child.release()
        if self._notifications is not None:
            self._notifications.close()


def beyond_scopes(condition: Condition[Any], timeout: int | None) -> Wait:
    """A wait of cleaning up: scopes around do not cut it short."""
    with outside_scopes():
        return Wait(condition, timeout)


class _AllGone(Condition[bool]):
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
        self._pidfd: int | None = None

    def arm(self, wake: Callable[[], None]) -> None:
        super().arm(wake)
        self._main.arm(wake)

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
                    self._pidfd = os.pidfd_open(pid)
                except OSError:
                    return Verdict(False, None, self._context.next_look(now))
            elif self._pidfd is not None and self.listen(self._pidfd):
                return NOT_YET if not _is_gone(pid, facts) else Verdict(False, None, now)
            else:
                return Verdict(False, None, self._context.next_look(now))
        return Verdict(True, True)

    def _stop_listening(self) -> None:
        super().close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

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
