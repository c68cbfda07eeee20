"""What happens between start and stop: a state machine that rests without a thread, and is stepped when there is news."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from waitkit.engine import clock, forks, timers
from waitkit.engine.background import CannotStart
from waitkit.engine.clock import now
from waitkit.engine.locks import ForkSafeLock
from waitkit.engine.signals import Signal
from waitkit.engine.timers import Timer
from waitkit.ground.durations import SECOND, Nanoseconds
from waitkit.polls import ending
from waitkit.polls.course import Course, Name
from waitkit.polls.hangs import call_while_it_hangs
from waitkit.polls.history import History
from waitkit.polls.looks import Looks
from waitkit.polls.plan import Plan
from waitkit.polls.records import PollerState, PollerStatus, log_end
from waitkit.polls.runners import InLoop, InWorkers, Run, Runner

__all__ = ["PollMachine"]

_positions: Final = itertools.count()
#: One for all pollers. It is held for less than it takes to find that out; and of ten thousand locks none would be in a cache.
_lock: Final = ForkSafeLock()


class PollMachine:
    """One poller at work.

    Whoever has news (a timer, a trigger, a stop) calls :meth:`wake`, which has one step made at a time: ``_busy`` is set from
    then until it rests again, and news that come meanwhile set ``_again``, so that it looks once more before it rests. So
    nothing is lost, and no lock is held while anything is looked at or run: ``_lock`` guards ``_generation``, ``_busy``,
    ``_queued``, ``_stepper`` (which thread makes a step), ``_again``, ``_ended`` and ``_timer``, for a few statements each time.

    A step that was asked for is ``_queued`` until a thread begins it. Who stops the poller meanwhile takes it away, and puts away
    what there is himself: it may be long before a worker is free, and nothing of this poller runs.

    What hooks and conditions raise, if it is no :class:`Exception`, ends the poller as an exit out of a run does.
    """

    #: set by :meth:`start`, before anything asks for them
    _course: Course
    _runner: Runner

    __slots__ = (
        *("_again", "_asked", "_busy", "_course", "_ended", "_generation", "_hang_after", "_looks", "_most"),
        *("_name", "_plan", "_queued", "_run", "_runner", "_stepper", "_stopping", "_telling", "_timer", "_wanted"),
        *("_changed", "fatal", "history"),
    )

    def __init__(self, function: Callable[..., Any], plan: Plan) -> None:
        self._name = Name(function)
        self._plan = plan
        self._most, self._hang_after = plan.max_runs, plan.hang_after
        self._looks: Looks | None = None
        self._generation = -1
        self._busy = self._queued = self._again = self._stopping = self._ended = self._asked = self._wanted = False
        self._timer: Timer | None = None
        self._stepper: int | None = None
        self._telling: int | None = None  # which thread tells of a hang
        self._run: Run | None = None
        #: what became of the runs so far
        self.history = History()
        #: what ended it, where an error did
        self.fatal: BaseException | None = None
        self._changed: Signal | None = None

    @property
    def changed(self) -> Signal:
        """Notified after each run, and at the end. Made when first asked for: of most of ten thousand it never is."""
        with _lock:
            if self._changed is None:
                self._changed = Signal()
            return self._changed

    @property
    def name(self) -> str:
        """The function, in words."""
        return self._name()

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
        return self._ended or self._generation != forks.current

    def status(self) -> PollerStatus:
        """All that is known of it now."""
        state = self.state
        return self.history.status(self.name, state, self._course.due if state == "waiting" else None)

    def what_it_does(self) -> str:
        """What it is doing, for the errors of those who wait for it."""
        run = self._run
        if run is None:
            return f"{self.state}, {self.history.runs} runs"
        number = self.history.runs + 1
        return f"run {number} goes on since {(now() - run.begun) / SECOND:.3g} s {run.where()}".rstrip()

    def start(self, call: Callable[[], Any], *, in_loop: bool) -> None:
        """Begin. :class:`RuntimeError` where that was done before, or a coroutine function has no running loop here."""
        self._refuse_another_start()
        plan = self._plan
        position = next(_positions) if plan.schedule.stagger else 0
        course = Course(plan, self.history, self._name, now(), position)
        looks = None
        if plan.until is not None or plan.triggers:
            looks = Looks(plan.until, plan.triggers, course.tell_broken_condition)
        may_block = looks is not None and looks.may_block
        runner: Runner = (
            InLoop(call, looks_may_block=may_block)
            if in_loop
            else InWorkers(call, own_thread=plan.own_thread, looks_may_block=may_block)
        )
        with _lock:
            self._refuse_another_start()  # of two threads that have come here one goes on
            self._busy = True
            self._course, self._looks, self._runner = course, looks, runner
            self._generation = forks.current  # from here on others see that it was started
        try:
            ending.add(self, plan.stop_at_exit)
            if looks is not None:
                looks.arm(self.wake)
            self._step_soon()
        except BaseException:  # a trigger that raised; Ctrl-C
            self._stopping = True
            if self._run is None:
                self._finish()
            raise

    def _refuse_another_start(self) -> None:
        if self._generation >= 0:
            raise RuntimeError(f"the poller {self.name} was started before: make another one to start again")

    def ask_for_run(self) -> None:
        """Run now, or once more after the run in progress."""
        self._asked = True
        self.wake()

    def wake(self) -> None:
        """There is news: look."""
        with _lock:
            if self._busy or self._ended:
                self._again = True
                return
            self._busy = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._step_soon()

    # Steps.

    def _tick(self) -> None:
        """The time has come: look, here."""
        here = threading.get_ident()
        with _lock:
            if self._busy or self._ended:
                self._again = True
                return
            self._busy = True
            self._stepper = here
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()  # another one than that which calls, where news came before a worker was free for this
        self._make_step(here)

    def _step_soon(self) -> None:
        self._queued = True
        if not self._runner.soon(self._step):
            self._finish()

    def _step(self) -> None:
        """Make the step that was asked for. Only one of these is in progress at a time."""
        here = threading.get_ident()
        with _lock:
            if not self._queued:
                return  # it was taken away
            self._queued = False
            self._stepper = here
        self._make_step(here)

    def _make_step(self, here: int) -> None:
        try:
            self._look_and_run()
        except BaseException as error:  # noqa: BLE001 - it ends the poller, and goes on to whom it concerns
            if self._generation == forks.current:
                self._break_off(error)
        finally:
            if (
                self._stepper == here and self._generation == forks.current
            ):  # a run that forks goes on in the child, too
                self._leave_step(here)

    def _leave_step(self, here: int) -> None:
        with _lock:
            if self._stepper == here:  # else the next step has begun already
                self._stepper = None

    def _look_and_run(self) -> None:
        """Look, run what is to be run, and rest."""
        has_run = False
        while not self._ended and self._generation == forks.current:  # a run may have forked
            self._again = False  # news that come from here on are seen below, or make us look again
            instant = clock.current.now()
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
        most = self._most
        if self._stopping or (most is not None and self.history.runs >= most):
            return None
        again: Nanoseconds | None = None
        if self._looks is not None:
            answer = self._looks.look(instant, after_failure=self.history.failures > 0)
            if answer.over:
                return None
            self._wanted = self._wanted or answer.wanted
            again = None if answer.again is None else max(answer.again, instant + 1)
        if self._asked:
            self._asked, self._wanted = False, True
        if self._wanted:
            return instant  # until a run begins, which answers all that was asked before
        return self._course.due if again is None else min(again, self._course.due)

    def _rest(self, due: Nanoseconds) -> bool:
        """Rest until *due* or the next news. False where news came already."""
        course = self._course
        try:
            if due == course.due:
                lasting = self._runner.steps_may_be_lent and self.history.was_short
                callback = self._tick if lasting else self.wake
                timer = timers.current.call_at(due, callback, slack=course.slack, lasting=lasting)
            else:
                timer = timers.current.call_at(due, self.wake)
        except CannotStart:  # the interpreter is going down
            self._finish()
            return True
        with _lock:
            if not self._again:
                self._timer = timer
                self._busy = False
                self._stepper = None
                return True
        timer.cancel()
        return False

    def _run_once(self, instant: Nanoseconds) -> bool:
        """Run. False where the run goes on elsewhere; then another step follows it."""
        # Without the lock: who stops us sets one first and then looks at the other, as we do, so that one of the two sees both.
        self._run = run = Run(instant, instant < self._course.due)
        if self._stopping:
            self._run = None
            return True
        self._wanted = False
        self.history.begun = instant
        if self._hang_after is not None:
            run.watchdog = call_while_it_hangs(instant + self._hang_after, partial(self._tell_hang, run))
        if not self._runner.execute(run, self._run_ended):
            self._run = None
            self._finish()
        return self._runner.at_once

    def _run_ended(self, run: Run, error: BaseException | None) -> None:
        if self._generation != forks.current:
            return
        if run.watchdog is not None:
            run.watchdog.cancel()
        try:
            if self._stopping and self._runner.has_cancelled(error):
                self._course.cut_off()
            elif self._course.end(run, error):
                assert error is not None
                self._end_by(error)
        except BaseException as raised:  # noqa: BLE001 - by a hook: as in a step
            self._end_by_hook(raised)
        finally:
            self.history.over(clock.current.now())
            self._run = None
            if self._changed is not None:
                self._changed.notify()
            if not self._runner.at_once:
                self._step_soon()

    def _tell_hang(self, run: Run) -> None:
        if self._run is not run:
            return
        self._telling = threading.get_ident()
        try:
            self._course.tell_hang(run)
        except BaseException as raised:  # noqa: BLE001 - as in a step
            self._end_by_hook(raised)
            self.wake()
        finally:
            self._telling = None

    # The end.

    def _end_by(self, error: BaseException) -> None:
        """Let no further run begin: *error* ends the poller, unless another one has."""
        if self.fatal is None:
            self.fatal = error  # first: who finds it stopped asks for this
        self._stopping = True
        log_end(self.name, error)

    def _end_by_hook(self, error: BaseException) -> None:
        """The same of what a hook or a condition has raised, and have it go on to whom such an error of a run does."""
        self._end_by(error)
        self._runner.pass_on(error)

    def _break_off(self, error: BaseException) -> None:
        """A step has raised *error*, and no other follows it that would put things away."""
        try:
            self._end_by_hook(error)
        finally:
            run = self._run
            if run is None or run.task is None:  # else the end of that task is followed by a step
                self._run = None
                self._finish()

    def let_none_follow(self) -> None:
        """Let no further run begin, and leave the rest to :meth:`begin_stop`. For signal handlers: no lock is taken here."""
        self._stopping = True

    def begin_stop(self, *, cancel: bool = False) -> bool:
        """Let no further run begin. True where something is in progress that the caller may wait for."""
        if self._generation != forks.current:
            return False
        with _lock:
            self._stopping = True
            if self._ended:
                return False
            run, idle = self._run, self._queued or not self._busy
            self._busy = self._again = True
            self._queued = False
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if idle or self._runner.gone:
            self._finish()
            return False
        if cancel and run is not None:
            self._runner.cancel(run, f"the poller {self.name} is stopped")
        # A step in progress has things to put away; a hook or a condition that stops its own poller cannot wait for that.
        inside = threading.get_ident() in (self._stepper, self._telling) or (run is not None and run.is_here)
        return not inside

    @property
    def blocked_by_caller(self) -> bool:
        """Whether its run cannot go on while the caller waits for it."""
        return self._generation >= 0 and self._runner.blocked_by_caller()

    def _finish(self) -> None:
        """Nothing will run any more."""
        with _lock:
            if self._ended:
                return
            self._ended = True
        try:
            if self._looks is not None:
                self._looks.close()
        finally:
            ending.discard(self)
            if self._changed is not None:
                self._changed.notify()
