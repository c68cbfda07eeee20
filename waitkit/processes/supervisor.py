"""Supervision: a death wakes the supervisor at once, which clears up, waits, and starts the process again.

One thread, ``waitkit-supervisor``, drives the flows of all supervised processes; it rests while nothing happens, and ends
with the last of them.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from waitkit.conditions.condition import all_of, any_of
from waitkit.conditions.own import Event, Value
from waitkit.conditions.processes import ProcessExit
from waitkit.conditions.timing import after
from waitkit.engine.background import start_thread
from waitkit.engine.clock import now
from waitkit.engine.forks import on_fork_in_child
from waitkit.engine.locks import ForkSafeLock
from waitkit.engine.parking import Parker
from waitkit.ground.callers import caller_label
from waitkit.ground.durations import SECOND, format_duration
from waitkit.ground.errors import WaitFailed, WaitTimeout
from waitkit.ports.free import port_free
from waitkit.processes.in_use import lingering
from waitkit.processes.life import beyond_scopes
from waitkit.processes.restarting import RestartPolicy
from waitkit.processes.together import Strand, earliest_due
from waitkit.waits.drivers import Flow

if TYPE_CHECKING:
    from waitkit.processes.managed import ManagedProcess

__all__ = ["Supervision"]

_logger = logging.getLogger("waitkit")


class Supervision:
    """The care for one process, from its first readiness until it is stopped or given up."""

    def __init__(self, process: ManagedProcess, policy: RestartPolicy, restarts: Value[int], gave_up: Event) -> None:
        self._process = process
        self._policy = policy
        self._restarts = restarts
        self._gave_up = gave_up
        self._withdrawn = Event("the supervision to be withdrawn")
        self._over = Event("the supervision to be over")
        self._history: list[int] = []
        self._previous = 0
        self._count = 0
        self._caller = caller_label()
        #: the ports that a life of it has found in use while they were in TIME_WAIT
        self._barred: set[int] = set()

    def begin(self) -> None:
        """Have it cared for from now on.

        Raises:
            CannotStart: the thread is needed and cannot be started.
        """
        _supervisor.add(self._caring(), self._over.set)

    def withdraw(self) -> None:
        """Start it no more."""
        self._withdrawn.set()

    def withdrawing(self) -> Flow[None]:
        """Start it no more, and wait until nobody is about to."""
        self._withdrawn.set()
        if not _supervisor.is_this_thread():  # a callback of ours that stops its process would wait for itself
            yield beyond_scopes(self._over, None)

    def _caring(self) -> Flow[None]:
        process = self._process
        was_ready = True
        while True:
            life = process._started()
            yield beyond_scopes(any_of(self._withdrawn, life.exited), None)
            if self._withdrawn.is_set():
                return
            ended = ProcessExit(life.pid, life.child.exit_code())
            # One that was not ready in time was ended by us: how it answered to that says nothing.
            if was_ready and not self._policy.answers(ended.code):
                self._gave_up.set()  # a good end, of which no callback need be told
                return
            delay = self._next_delay()
            if delay is None:
                times = "once" if len(self._history) == 1 else f"{len(self._history)} times"
                self._give_up(ended, f"it has been started again {times} already", was_ready=was_ready)
                return
            try:
                yield from life.clearing()
            except Exception as error:  # noqa: BLE001 - a port that somebody else holds: no restart can mend that
                self._give_up(ended, self._told(error), was_ready=was_ready)
                return
            yield beyond_scopes(any_of(self._withdrawn, after(delay / SECOND)), None)
            yield from self._ports_passing()
            if self._withdrawn.is_set():
                return
            self._history.append(now())
            was_ready = yield from self._start_again(ended)

    def _next_delay(self) -> int | None:
        self._history = self._policy.recent(self._history, now())
        delay = self._policy.delay(self._history, random.random, self._previous)
        self._previous = delay or 0
        return delay

    def _start_again(self, ended: ProcessExit) -> Flow[bool]:
        """Returns whether it is ready."""
        try:
            yield from self._process._living(self._withdrawn)
        except Exception as error:  # noqa: BLE001 - the next round finds it ended, and goes on by the policy
            if not self._withdrawn.is_set():
                _logger.warning("%s could not be started again: %s", self._process, self._told(error))
                self._barred.update(self._process._started().lingering())
            return False
        self._count += 1
        self._restarts.set(self._count)
        _logger.info("%s was started again: the one before ended (%s)", self._process, ended)
        self._call(self._policy.on_restart, ended)
        return True

    def _ports_passing(self) -> Flow[None]:
        """Wait for the ports that it finds in use while they are in ``TIME_WAIT``: a restart would be spent in vain."""
        lingers = lingering(self._barred)
        if not lingers or self._withdrawn.is_set():
            return
        # A little more than the system says, which counts in ticks.
        patience = min(max(lingers.values()) + SECOND, self._policy.patience)
        named = ", ".join(map(str, lingers))
        _logger.warning(
            "%s waits for port %s to leave TIME_WAIT, for up to %s: it does not set SO_REUSEADDR",
            *(self._process, named, format_duration(patience)),
        )
        free = all_of(*(port_free(port, reuse_address=False) for port in lingers))
        try:
            yield beyond_scopes(any_of(self._withdrawn, free), patience, explained=False)
        except WaitTimeout:
            pass  # somebody else may have it now: what the start says is of more use

    def _give_up(self, ended: ProcessExit, why: str, *, was_ready: bool) -> None:
        how = "has ended" if was_ready else "was not ready, and has ended"
        _logger.warning("%s %s (%s) and is not started again: %s", self._process, how, ended, why)
        self._gave_up.set()
        self._call(self._policy.on_give_up, ended)

    def _told(self, error: Exception) -> str:
        """An error of a wait in the supervisor's thread, as one of who has started the process first."""
        if isinstance(error, WaitFailed | WaitTimeout):
            return str(error.facts._replace(caller=self._caller))
        return str(error)

    def _call(self, callback: Callable[[ManagedProcess, ProcessExit], Any] | None, ended: ProcessExit) -> None:
        if callback is None:
            return
        try:
            callback(self._process, ended)
        except Exception:
            _logger.exception("a callback of the supervision of %s raised", self._process)


class _Supervisor:
    """``_lock`` guards the arrivals and ``_thread``; flows run without it."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._arrivals: list[tuple[Flow[Any], Callable[[], None]]] = []
        self._running = False
        self._thread: threading.Thread | None = None
        self._parker = Parker()

    def add(self, flow: Flow[Any], when_over: Callable[[], None]) -> None:
        """Drive *flow* to its end, and call *when_over* then."""
        with self._lock:
            self._arrivals.append((flow, when_over))
            if not self._running:
                self._running = True
                self._parker = Parker()
                try:
                    start_thread("supervisor", self._run, otherwise=self._not_running)
                except BaseException:
                    self._arrivals.remove((flow, when_over))
                    raise
        self._parker.unpark()

    def _not_running(self) -> None:
        self._running = False

    def is_this_thread(self) -> bool:
        """Whether the caller runs in the thread that supervises."""
        return self._thread is threading.current_thread()

    def _run(self) -> None:
        self._thread = threading.current_thread()
        strands: list[tuple[Strand, Callable[[], None]]] = []
        while True:
            with self._lock:
                arrivals, self._arrivals = self._arrivals, []
                if not (arrivals or strands):
                    self._thread = None
                    self._running = False
                    return
            strands += [(Strand(flow, self._parker.unpark), when_over) for flow, when_over in arrivals]
            instant = now()
            for strand, _ in strands:
                strand.look(instant)
            for strand, when_over in strands:
                if strand.done:
                    if strand.error is not None:
                        _logger.error("supervision ended", exc_info=strand.error)
                    when_over()
            strands = [(strand, when_over) for strand, when_over in strands if not strand.done]
            if strands and not any(strand.to_look for strand, _ in strands):
                self._parker.park(earliest_due([strand for strand, _ in strands]))


_supervisor = _Supervisor()


@on_fork_in_child
def _reset() -> None:
    global _supervisor
    _supervisor = _Supervisor()
