"""What happens between start and stop: a state machine that rests without a thread, and is stepped when there is news."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from typing import Any, Final

import attrs

from waitkit.conditions.condition import Condition
from waitkit.conditions.sources import describe_callable
from waitkit.engine.background import CannotStart
from waitkit.engine.clock import now
from waitkit.engine.forks import generation
from waitkit.engine.signals import Signal
from waitkit.engine.timers import Timer, call_at
from waitkit.engine.workers import run_in_worker
from waitkit.ground.durations import SECOND, Nanoseconds
from waitkit.ground.settings import current_settings
from waitkit.policies.schedule import Schedule, Tick
from waitkit.polls import ending
from waitkit.polls.history import History
from waitkit.polls.records import PollerState, PollerStatus, PollHook, PollRecord, log_end, log_recovery, tell
from waitkit.polls.runners import InLoop, InWorkers, Run, Runner
from waitkit.polls.triggers import Trigger
from waitkit.waits.watching import Context, Watch, earliest

__all__ = ["Plan", "PollMachine"]

_positions: Final = itertools.count()


@attrs.frozen(kw_only=True)
class Plan:
    """What a poller was asked to do; any number of pollers share it."""

    schedule: Schedule
    triggers: tuple[Condition[Any], ...] = ()
    until: Condition[Any] | None = None
    max_runs: int | None = None
    stop_on: Callable[[Exception], object] | None = None
    on_error: PollHook | None = None
    hang_after: Nanoseconds | None = None
    on_hang: PollHook | None = None
    own_thread: bool = False
    stop_at_exit: Nanoseconds | None = None


class PollMachine:
    """One poller at work.

    Whoever has news (a timer, a trigger, a stop) calls :meth:`wake`, which has one step made at a time: ``_busy`` is set from
    then until it rests again, and news that come meanwhile set ``_again``, so that it looks once more before it rests. So
    nothing is lost, and no lock is held while anything is looked at or run: ``_lock`` guards ``_busy``, ``_again``,
    ``_stopping``, ``_ended``, ``_run`` and ``_timer``, for a few statements each time.
    """

    __slots__ = (
        *(
            "_again",
            "_asked",
            "_busy",
            "_ended",
            "_function",
            "_generation",
            "_lock",
            "_look_failures",
            "_name",
            "_plan",
        ),
        *("_run", "_runner", "_stopping", "_tick", "_timer", "_triggers", "_until", "_wanted"),
        *("changed", "fatal", "history"),
    )

    def __init__(self, function: Callable[..., Any], plan: Plan) -> None:
        self._function = function
        self._name = ""
        self._plan = plan
        # In a forked child it is never taken: a poller of the parent does nothing there.
        self._lock = threading.RLock()
        self._runner: Runner | None = None
        self._generation = -1
        self._busy = self._again = self._stopping = self._ended = self._asked = self._wanted = False
        self._timer: Timer | None = None
        self._run: Run | None = None
        self._tick: Tick | None = None
        self._triggers: list[Trigger] = []
        self._until: Watch | None = None
        self._look_failures = 0
        #: what became of the runs so far
        self.history = History()
        #: what ended it, where an error did
        self.fatal: BaseException | None = None
        #: notified after each run, and at the end
        self.changed = Signal()

    @property
    def name(self) -> str:
        """The function, in words; found when first asked for, as the text of a lambda costs milliseconds."""
        if not self._name:
            self._name = describe_callable(self._function)
        return self._name

    @property
    def state(self) -> PollerState:
        """``"new"``, ``"waiting"``, ``"running"``, ``"stopping"`` or ``"stopped"``."""
        if self._generation < 0:
            return "new"
        run = self._run
        if self.ended or (self._stopping and run is None):
            return "stopped"  # though its last step may have something to put away
        if self._stopping:
            return "stopping"
        return "waiting" if run is None else "running"

    @property
    def ended(self) -> bool:
        """Whether all is put away."""
        return self._ended or self._generation != generation()

    def status(self) -> PollerStatus:
        """All that is known of it now."""
        state, tick = self.state, self._tick
        return self.history.status(self.name, state, None if tick is None or state != "waiting" else tick.due)

    def what_it_does(self) -> str:
        """What it is doing, for the errors of those who wait for it."""
        run = self._run
        if run is None:
            return f"{self.state}, {self.history.runs} runs"
        number = self.history.runs + 1
        return f"run {number} goes on since {(now() - run.begun) / SECOND:.3g} s {run.where()}".rstrip()

    def start(self, call: Callable[[], Any], *, in_loop: bool) -> None:
        """Begin. :class:`RuntimeError` where a coroutine function has no running loop here."""
        plan = self._plan
        context = Context(now(), None, (), current_settings().probe_cap)
        triggers = [Trigger(condition, context) for condition in plan.triggers]
        until = None if plan.until is None else plan.until.watch(context)
        if in_loop:
            may_block = any(trigger.may_block for trigger in triggers) or (until is not None and until.may_block)
            self._runner = InLoop(call, looks_may_block=may_block)
        else:
            self._runner = InWorkers(call, own_thread=plan.own_thread)
        position = next(_positions) if plan.schedule.stagger else 0
        self._tick = plan.schedule.first(context.started, random.random, position)
        self._generation = generation()
        self._busy = True
        self._triggers, self._until = triggers, until
        ending.add(self, plan.stop_at_exit)
        try:
            for trigger in triggers:
                trigger.arm(context.started, self.wake)
            if until is not None:
                until.arm(self.wake)
            self._step_soon()
        except BaseException:  # a trigger that raised; Ctrl-C
            self._stopping = True
            if self._run is None:
                self._finish()
            raise

    def ask_for_run(self) -> None:
        """Run now, or once more after the run in progress."""
        self._asked = True
        self.wake()

    def wake(self) -> None:
        """There is news: look."""
        with self._lock:
            if self._busy or self._ended:
                self._again = True
                return
            self._busy = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._step_soon()

    # Steps.

    def _step_soon(self) -> None:
        assert self._runner is not None
        if not self._runner.soon(self._step):
            self._finish()

    def _step(self) -> None:
        """Look, run what is to be run, and rest. Only one of these is in progress at a time."""
        has_run = False
        while not self._ended and self._generation == generation():  # a run may have forked
            self._again = False  # news that come from here on are seen below, or make us look again
            instant = now()
            due = self._due(instant)
            if due is None:
                self._finish()
            elif due > instant:
                if self._rest(due):
                    return
            elif has_run:
                self._step_soon()  # whoever is due all the time takes turns with the others
                return
            elif self._run_once(instant):
                has_run = True
            else:
                return

    def _due(self, instant: Nanoseconds) -> Nanoseconds | None:
        """When there is something to do; ``None``: never again."""
        tick = self._tick
        assert tick is not None
        if self._stopping or (self._plan.max_runs is not None and self.history.runs >= self._plan.max_runs):
            return None
        again = None
        if self._until is not None or self._triggers:
            try:
                over, pulled, again = self._ask_conditions(instant)
            except Exception as error:  # noqa: BLE001 - a condition that raises is logged, and does not end the poller
                self._look_failures += 1
                record = PollRecord(self.name, self.history.runs + 1, 0.0, error, self._look_failures, None)
                tell(self._plan.on_error, record)
                again = instant + current_settings().probe_cap
            else:
                self._look_failures = 0
                if over:
                    return None
                self._wanted = self._wanted or pulled
        if self._asked:
            self._asked, self._wanted = False, True
        if self._wanted:
            return instant  # until a run begins, which answers all that was asked before
        return tick.due if again is None else min(tick.due, max(again, instant + 1))

    def _ask_conditions(self, instant: Nanoseconds) -> tuple[bool, bool, Nanoseconds | None]:
        """Whether it is over, whether a run is wanted, and when to ask again, where no wake-up will tell."""
        again: Nanoseconds | None = None
        if self._until is not None:
            verdict = self._until.look(instant)
            if verdict.holds:
                return True, False, None
            again = verdict.again
        wanted = False
        for trigger in self._triggers:
            pulled, later = trigger.pulled(instant, after_failure=self.history.failures > 0)
            wanted = wanted or pulled
            again = earliest(again, later)
        return False, wanted, again

    def _rest(self, due: Nanoseconds) -> bool:
        """Rest until *due* or the next news. False where news came already."""
        try:
            timer = call_at(due, self.wake)
        except CannotStart:  # the interpreter is going down
            self._finish()
            return True
        with self._lock:
            if not self._again:
                self._timer = timer
                self._busy = False
                return True
        timer.cancel()
        return False

    def _run_once(self, instant: Nanoseconds) -> bool:
        """Run. False where the run goes on elsewhere; then another step follows it."""
        assert self._tick is not None and self._runner is not None
        run = Run(instant, triggered=instant < self._tick.due)
        with self._lock:
            if self._stopping:
                return True
            self._run = run
        self._wanted = False
        self.history.begin(instant)
        if self._plan.hang_after is not None:
            run.watchdog = call_at(instant + self._plan.hang_after, lambda: run_in_worker(lambda: self._tell_hang(run)))
        self._runner.execute(run, self._run_ended)
        return self._runner.at_once

    def _run_ended(self, run: Run, error: BaseException | None) -> None:
        assert self._tick is not None and self._runner is not None
        if self._generation != generation():
            return
        if run.watchdog is not None:
            run.watchdog.cancel()
        ended = now()
        if self._stopping and self._runner.has_cancelled(error):
            error = None
        recovered = self.history.end(ended, error)
        failures = self.history.failures
        self._tick = self._plan.schedule.after_run(
            self._tick, run.begun, ended, failures, random.random, triggered=run.triggered
        )
        if error is not None:
            self._judge(error, max(0, self._tick.due - ended) / SECOND)
        elif recovered:
            log_recovery(self.name, recovered)
        self.history.runs += 1
        with self._lock:
            self._run = None
        self.changed.notify()
        if not self._runner.at_once:
            self._step_soon()

    def _judge(self, error: BaseException, next_in: float) -> None:
        history = self.history
        if self._is_fatal(error):
            self.fatal = error
            self._stopping = True
            log_end(self.name, error)
        else:
            record = PollRecord(
                self.name, history.runs + 1, history.duration_in_seconds, error, history.failures, next_in
            )
            tell(self._plan.on_error, record)

    def _is_fatal(self, error: BaseException) -> bool:
        if not isinstance(error, Exception):
            return True
        if self._plan.stop_on is None:
            return False
        try:
            return bool(self._plan.stop_on(error))
        except Exception as broken:  # noqa: BLE001 - a judgement that fails ends nothing
            broken.add_note(f"raised by stop_on of the poller {self.name}, which goes on")
            log_end(self.name, broken)
            return False

    def _tell_hang(self, run: Run) -> None:
        if self._run is run:
            history = self.history
            duration = (now() - run.begun) / SECOND
            record = PollRecord(self.name, history.runs + 1, duration, None, history.failures, None, run.where())
            tell(self._plan.on_hang, record)

    # The end.

    def stop_soon(self) -> None:
        """Let no further run begin. For signal handlers: no thread is started here, and no lock of a user's is taken."""
        self._stopping = True
        call_at(now(), self.wake)

    def begin_stop(self, *, cancel: bool = False) -> bool:
        """Let no further run begin. True where one is in progress that the caller may wait for."""
        if self._generation != generation():
            return False
        with self._lock:
            self._stopping = True
            if self._ended:
                return False
            run, idle = self._run, not self._busy
            self._busy = self._again = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        assert self._runner is not None
        if idle or self._runner.gone:
            self._finish()
            return False
        if cancel and run is not None:
            self._runner.cancel(run, f"the poller {self.name} is stopped")
        return run is None or not run.is_here  # a step in progress has things to put away

    @property
    def blocked_by_caller(self) -> bool:
        """Whether its run cannot go on while the caller waits for it."""
        return self._runner is not None and self._runner.blocked_by_caller()

    def _finish(self) -> None:
        """Nothing will run any more."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        for trigger in self._triggers:
            trigger.close()
        if self._until is not None:
            self._until.close()
        ending.discard(self)
        self.changed.notify()
