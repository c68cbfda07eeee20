"""One life of a managed process: from its launch until nothing is left of it, as flows that a thread or a loop drives."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from waitkit.conditions.condition import Condition
from waitkit.conditions.processes import ProcessExit, ProcessExited
from waitkit.engine.clock import now
from waitkit.engine.descriptors import CannotStart, watch_descriptor
from waitkit.ground.durations import SECOND, Nanoseconds
from waitkit.ground.errors import WaitTimeout
from waitkit.ground.settings import scaled
from waitkit.ports.owners import sockets_of
from waitkit.ports.sockets import Socket
from waitkit.processes.children import CallableChild, Child
from waitkit.processes.gone import AllGone, EndedUnless
from waitkit.processes.in_use import lingering, ports_in, reserved_here, says_in_use, why_in_use
from waitkit.processes.listeners import Listener, ListenersGone, listeners_of
from waitkit.processes.notifications import Notifications
from waitkit.processes.output import Output
from waitkit.processes.readiness import Ready, ReadyWhen, wants_notifications
from waitkit.processes.signals_held import SignalsHeld
from waitkit.processes.tree import facts_of, mark_of
from waitkit.waits.drivers import Flow, drive
from waitkit.waits.scopes import outside_scopes
from waitkit.waits.wait import Wait

if TYPE_CHECKING:
    from waitkit.processes.restarting import RestartPolicy

__all__ = ["Life", "Plan", "beyond_scopes"]

_logger = logging.getLogger("waitkit")

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
    #: its arguments, in which a port may be named
    arguments: str = ""
    #: a Python callable: it may have sockets of ours, by its arguments, and by a fork all that its parent has
    of_callable: bool = False


class Life:
    """A process that was started. Its making launches it; signals are to be held meanwhile."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.began = now()
        self.ready_after: float | None = None
        #: nothing is left of it
        self.over = False
        self._ports: set[int] = set()
        #: what is to be free when it is gone, by inode
        self._serves: dict[int, Listener] = {}
        self._notifications = Notifications() if wants_notifications(plan.ready) else None
        try:
            additions = {} if self._notifications is None else {"NOTIFY_SOCKET": self._notifications.address}
            self.child = plan.launch(additions)
        except BaseException:
            if self._notifications is not None:
                self._notifications.close()
            raise
        self.pid = self.child.identity.pid
        #: the sockets that it has from its parent, and which go on when it is gone
        self._lent = self.child.handed_over | (_sockets_of_parents(self.pid) if plan.of_callable else set())
        self.name = f"{plan.name} (pid {self.pid})"

    # What conditions of readiness ask of their subject.

    def pids(self, *, all_of_tree: bool) -> list[int]:
        return list(self.child.identity.members()) if all_of_tree else [self.pid]

    def output(self) -> Output:
        return self.child.output

    def notifications(self) -> Notifications | None:
        return self._notifications

    def is_to_use(self, port: int) -> None:
        self._ports.add(port)

    def listens_at(self, found: Socket) -> None:
        self._is_to_free([Listener(found.inode, found.port)])

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
        wait = None
        try:
            ready = self.child.ready_signalled if self.plan.ready == "event" else resolve()
            if ready is not None:
                ended: Condition[Any] = ProcessExited(self.child.process).described("its exit")
                against = ended if unless is None else EndedUnless(ended, unless)
                wait = Wait(Ready(ready, self.name, self, self._facts), self.plan.ready_timeout, unless=against)
        finally:
            if not callable(self.plan.ready):
                self.child.output.forget_what_is_old()  # who searches all of it has begun
        if wait is not None:
            try:
                yield wait
            finally:
                self.child.output.forget_what_is_old()  # who was named by a function has, too
        self.ready_after = (now() - self.began) / SECOND
        # Once it has died nobody knows any more what it listened at, and that is to be free then.
        if self.plan.restart is not None:
            self._is_to_free(listeners_of(self._members_now(), without=self._lent))
        elif wait is not None:
            self._look_at_reserved_ports()

    def _look_at_reserved_ports(self) -> None:
        if reserved := reserved_here():
            self._is_to_free(one for one in listeners_of([self.pid]) if one.kind == "tcp" and one.place in reserved)

    def _is_to_free(self, found: Iterable[Listener]) -> None:
        self._serves.update((one.inode, one) for one in found if one.inode and one.inode not in self._lent)

    def _belongs(self, pid: int) -> bool:
        """Whether what a process notified counts. One that is gone cannot be asked: it knew a name that only the tree knows."""
        members = [self.pid, *self.pids(all_of_tree=True)]
        if pid in members:
            return True
        facts = facts_of(pid)
        if facts is None:
            return True
        # A zombie is no member any more, but the system still tells its mark, its session and its parent.
        return not facts.living and (
            mark_of(pid) == self.child.identity.guarded.root.mark
            or facts.session == self.pid
            or facts.parent in members
        )

    def lingering(self) -> dict[int, Nanoseconds]:
        """Where it has found its port in use by the remains of connections alone: for how long yet."""
        return lingering(self._ports_named()) if self._found_in_use() else {}

    def _found_in_use(self) -> bool:
        return says_in_use(self.child.output.stdout) or says_in_use(self.child.output.stderr)

    def _ports_named(self) -> list[int]:
        return sorted(self._ports.union(ports_in(self.plan.arguments)))

    def _facts(self) -> Sequence[str]:
        facts = [] if self._notifications is None else self._notifications.facts()
        if isinstance(self.child, CallableChild) and self.child.never_ran():
            facts.append(
                "it ended before it came to its callable; what Python says of that is on the standard error of this "
                "process. Mostly a main module lacks its \"if __name__ == '__main__':\" around what starts processes: a "
                "spawned child imports that module"
            )
            return facts
        if self._found_in_use():
            facts += why_in_use(self._ports_named())
        if self.child.exit_code() == 0 and self.child.identity.members():
            facts.append(
                "it has left processes of its own behind: a server that goes to the background is to be told not to "
                '("daemon off", "--foreground", "daemonize no")'
            )
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
        if not self.child.has_ended():
            self._is_to_free(listeners_of(self._members_now(), without=self._lent))
            self.child.identity.send(self.plan.stop_signal)
            try:
                yield beyond_scopes(self.exited, self.plan.stop_timeout)
            except WaitTimeout:
                pass

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
                    if gone := not killed and self.child.has_ended():
                        self._release()
                if not gone:
                    yield beyond_scopes(AllGone(self.exited, killed), scaled(_PATIENCE))
                    with SignalsHeld():
                        self._release()
                yield from self._handing_on()
                if self._serves:
                    yield beyond_scopes(ListenersGone([*self._serves.values()], self.name), scaled(_PATIENCE // 2))
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

    def _handing_on(self) -> Flow[None]:
        """What it wrote is where ``tee=`` has it, so that who looks there after the block finds all of it."""
        handed_on = self.child.output.handed_on
        if handed_on is not None:
            try:
                yield beyond_scopes(handed_on, scaled(_PATIENCE // 2), explained=False)
            except WaitTimeout:  # a logger that hangs
                _logger.warning("some of the output of %s is still to be handed on", self.name)

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
            with SignalsHeld():
                self._release()
            return

        def bury() -> None:
            os.close(pidfd)
            if self.child.has_ended() and not self.over:
                self._release()

        try:
            watch_descriptor(pidfd, bury)
        except CannotStart:  # the interpreter is going down
            os.close(pidfd)

    def _release(self) -> None:
        """Give back what it held. Signals are to be held meanwhile: an interrupt would leave what comes after it open."""
        self.over = True
        self.child.release()
        if self._notifications is not None:
            self._notifications.close()


def _sockets_of_parents(pid: int) -> set[int]:
    """Ours, and those of the server of forks that *pid* is a child of."""
    facts = facts_of(pid)
    ours = sockets_of(os.getpid())
    return ours if facts is None or facts.parent == os.getpid() else ours | sockets_of(facts.parent)


def beyond_scopes(condition: Condition[Any], timeout: int | None, *, explained: bool = True) -> Wait:
    """A wait of cleaning up: scopes around do not cut it short, and virtual time does not jump over its limit."""
    with outside_scopes():
        return Wait(condition, timeout, explained=explained, real=True)
