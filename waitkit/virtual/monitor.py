"""The one thread of a virtual clock that lives in real time: it notices when nothing goes on, and lets real time pass."""

from __future__ import annotations

import threading

from waitkit.engine.background import REAL
from waitkit.engine.frames import Spot, current_frames, spot_of
from waitkit.ground.durations import MILLISECOND, SECOND, Nanoseconds, format_duration
from waitkit.virtual.clock import VirtualClock
from waitkit.virtual.errors import VirtualClockError
from waitkit.virtual.interrupting import Interrupter
from waitkit.virtual.real import busy, real_now
from waitkit.virtual.telling import describe_parked, describe_running

__all__ = ["Monitor"]

#: For so long a thread may sleep in its turn; then another gets one beside it, as it may wait for a lock that the other holds.
_PATIENCE = 50 * MILLISECOND
#: For so long it may compute, or be kept from it by a busy machine: that is no reason to disturb the order.
_LONG_PATIENCE = SECOND
#: For so many times the grace time may pass, with looks and runs of pollers alone, for waits that would wait for ever.
_ENDLESS = 12


class Monitor:
    """Looks every 50 ms whether the clock makes progress, and more often while one that does not take part holds it up.

    Args:
        clock: whose progress.
        grace: after so many real nanoseconds without any, the waits of all are ended with an error that names who blocks.
    """

    def __init__(self, clock: VirtualClock, grace: Nanoseconds) -> None:
        self._clock = clock
        self._grace = grace
        self._rests: dict[int, Nanoseconds] = {}
        self.interrupter = Interrupter(lambda: threading.main_thread().ident in clock.running())
        self.begin_anew(start=False)
        #: the error, where the main thread was the one that blocked
        self.stuck: VirtualClockError | None = None
        self._stuck_at: Spot | None = None

    def begin_anew(self, *, start: bool = True) -> None:
        """In a forked child, which does not have its thread."""
        self._over = False
        self._bell = threading.Event()
        self._clock.on_hold = self._bell.set
        self._thread = threading.Thread(target=self._run, name="waitkit-virtual-monitor", daemon=True)
        setattr(self._thread, REAL, True)
        if start:
            self._thread.start()

    def start(self) -> None:
        """Begin, before the clock is used."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the clock was closed. It may be called again."""
        self._over = True
        self._bell.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        clock = self._clock
        seen, since, held_since = -1, real_now(), real_now()
        course = _Course(clock)
        while True:
            delay = clock.real_delay()
            rest = _PATIENCE if delay is None else min(delay, _PATIENCE)
            if clock.held_up:  # growing gaps, as for all that has to be looked at
                rest = min(rest, max(MILLISECOND, (real_now() - held_since) // 17))
            if self._bell.wait(rest / SECOND):
                self._bell.clear()  # before we look, so that nothing is missed
            if self._over:
                return
            self._drop_the_dead()
            if delay is not None:
                course.begin_anew()  # what takes real time may take its time
            else:
                course.end_it_after(_ENDLESS * self._grace)
            if clock.held_up:
                self._look_again()
            else:
                held_since = real_now()
            if delay is not None:
                clock.fire_in_real_time()
                since = real_now()
            elif clock.progress != seen:
                seen, since, held_since = clock.progress, real_now(), real_now()
                self._rests = {}
            elif self._somebody_is_late:
                if real_now() - since > self._grace:
                    self._end_it()
                    since = real_now()
                elif clock.stalled and (self._all_sleep() or real_now() - since > _LONG_PATIENCE):
                    clock.let_another_run()
                    seen = clock.progress
            else:
                since = real_now()

    def _look_again(self) -> None:
        try:
            self._clock.look_again()
        except Exception as error:  # noqa: BLE001 - what is waited for is asked, and may raise; without us all would hang
            self._clock.fail(f"virtual time cannot go on: what is waited for raised {error!r} when it was asked")

    @property
    def _somebody_is_late(self) -> bool:
        clock = self._clock
        if clock.waited_for:
            return clock.somebody_runs or clock.something_ends or clock.stands_still or bool(clock.awake())
        # One that was told, and went on to block in the same place, is told again.
        return self._stuck_at is not None and self._stuck_at == _spot_of_main()

    def _drop_the_dead(self) -> None:
        running = self._clock.running()  # first: who starts between the two questions is not dead
        existing = current_frames()
        for thread in running:
            if thread not in existing:
                self._clock.drop(thread)

    def _all_sleep(self) -> bool:
        """Whether those whose turn it is have slept since the last look, as far as the system tells."""
        before = self._rests
        self._rests = {thread: busy(thread) for thread in self._clock.running()}
        return not self._clock.expecting and all(
            spent >= 0 and spent - before.get(thread, -SECOND) < _PATIENCE // 10
            for thread, spent in self._rests.items()
        )

    def _end_it(self) -> None:
        clock = self._clock
        running = clock.running()
        why = "what was started has not come to run, or does not end"
        if clock.stands_still:
            why = "one that waits is in paused(), where no time passes"
        message = (
            f"virtual time stands still: for {self._grace / SECOND:g} s of real time no thread has come to a wait.\n"
            + "\n".join([describe_running(thread) for thread in [*running, *clock.awake()]] or [why])
            + f"\nmeanwhile wait:\n{describe_parked(clock)}\n"
            "Wait with waitkit or with threading instead, or put what takes real time into `with clock.paused():`."
        )
        clock.fail(message)
        self._stuck_at = None
        if threading.main_thread().ident in running:
            self.stuck = VirtualClockError(message)
            self._stuck_at = _spot_of_main()
            self.interrupter.interrupt(self.stuck)


class _Course:
    """Whether the threads of the test come to other waits, or time passes for nothing."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.begin_anew()

    def begin_anew(self) -> None:
        self._course, self._since, self._instant = self._clock.course, real_now(), self._clock.now()

    def end_it_after(self, limit: Nanoseconds) -> None:
        """End waits without a limit where it stands still, though virtual time passes, for longer than *limit* in real time."""
        if self._course != self._clock.course:
            self.begin_anew()
        spent, passed = real_now() - self._since, self._clock.now() - self._instant
        if (
            passed
            and spent > limit
            and self._clock.fail_without_limit(
                f"virtual time passes, and nothing else happens: in {format_duration(spent)} of real time "
                f"{format_duration(passed)} went by, and no thread of the test came to another wait than\n"
                f"{describe_parked(self._clock)}\n"
                "Pollers and looks alone need not end a wait without a limit: give it one, as virtual time costs nothing."
            )
        ):
            self.begin_anew()


def _spot_of_main() -> Spot | None:
    frame = current_frames().get(threading.main_thread().ident or 0)
    return None if frame is None else spot_of(frame)
