"""The one thread of a virtual clock that lives in real time: it notices when nothing goes on, and lets real time pass."""

from __future__ import annotations

import signal
import threading
import traceback

from waitkit.engine.background import REAL
from waitkit.engine.frames import current_frames
from waitkit.ground.durations import MILLISECOND, SECOND, Nanoseconds
from waitkit.virtual.clock import VirtualClock, VirtualClockError, real_now

__all__ = ["Monitor", "describe_parked"]

#: For so long a thread may sleep in its turn; then another gets one beside it, as it may wait for a lock that the other holds.
_PATIENCE = 50 * MILLISECOND
#: For so long it may compute, or be kept from it by a busy machine: that is no reason to disturb the order.
_LONG_PATIENCE = SECOND


class Monitor:
    """Looks every 50 ms whether the clock makes progress.

    Args:
        clock: whose progress.
        grace: after so many real nanoseconds without any, the waits of all are ended with an error that names who blocks.
    """

    def __init__(self, clock: VirtualClock, grace: Nanoseconds) -> None:
        self._clock = clock
        self._grace = grace
        self._rests: dict[int, Nanoseconds] = {}
        self.begin_anew(start=False)
        #: the error, where the main thread was the one that blocked
        self.stuck: VirtualClockError | None = None

    def begin_anew(self, *, start: bool = True) -> None:
        """In a forked child, which does not have its thread."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waitkit-virtual-monitor", daemon=True)
        setattr(self._thread, REAL, True)
        if start:
            self._thread.start()

    def start(self) -> None:
        """Begin, before the clock is used."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the clock was closed. It may be called again."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        clock = self._clock
        seen, since = -1, real_now()
        while True:
            delay = clock.real_delay()
            rest = _PATIENCE if delay is None else min(delay, _PATIENCE)
            if self._over.wait(rest / SECOND):
                return
            self._drop_the_dead()
            if delay is not None:
                clock.fire_in_real_time()
                since = real_now()
            elif clock.progress != seen:
                seen, since = clock.progress, real_now()
                self._rests = {}
            elif clock.waited_for and (clock.somebody_runs or clock.something_ends or clock.stands_still):
                if real_now() - since > self._grace:
                    self._end_it()
                    since = real_now()
                elif clock.stalled and (self._all_sleep() or real_now() - since > _LONG_PATIENCE):
                    clock.let_another_run()
                    seen = clock.progress
            else:
                since = real_now()

    def _drop_the_dead(self) -> None:
        running = self._clock.running()  # first: who starts between the two questions is not dead
        existing = current_frames()
        for thread in running:
            if thread not in existing:
                self._clock.drop(thread)

    def _all_sleep(self) -> bool:
        """Whether those whose turn it is have slept since the last look, as far as the system tells."""
        before = self._rests
        self._rests = {thread: _busy(thread) for thread in self._clock.running()}
        return not self._clock.expecting and all(
            busy >= 0 and busy - before.get(thread, -SECOND) < _PATIENCE // 10 for thread, busy in self._rests.items()
        )

    def _end_it(self) -> None:
        blocked = self._clock.running()
        why = "what was started has not come to run, or does not end"
        if self._clock.stands_still:
            why = "one that waits is in paused(), where no time passes"
        message = (
            f"virtual time stands still: for {self._grace / SECOND:g} s of real time no thread has come to a wait.\n"
            + "\n".join([_describe_running(thread) for thread in blocked] or [why])
            + f"\nmeanwhile wait:\n{describe_parked(self._clock)}\n"
            "Wait with waitkit or with threading instead, or put what takes real time into `with clock.paused():`."
        )
        self._clock.fail(message)
        main = threading.main_thread().ident
        if main in blocked:
            # Nothing but a signal ends what it blocks in.
            self.stuck = VirtualClockError(message)
            signal.pthread_kill(main, signal.SIGINT)


def describe_parked(clock: VirtualClock) -> str:
    """Who waits, for what, and where."""
    lines = []
    for thread, place in clock.parked():
        if place.idle:
            continue
        purpose = place.purpose
        what = purpose.describe() if hasattr(purpose, "describe") else str(purpose or "its next task")
        lines.append(f"  {_name(thread)}: {what}, {_where(thread)}")
    return "\n".join(lines) or "  nobody"


def _busy(thread: int) -> Nanoseconds:
    """How long *thread* has computed in its life, by Linux; -1: it does so now, or is ready to. Elsewhere 0."""
    native = getattr(threading._active.get(thread), "native_id", None)  # type: ignore[attr-defined]
    try:
        with open(f"/proc/self/task/{native}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0]
        with open(f"/proc/self/task/{native}/schedstat", "rb") as file:
            return int(file.read().split()[0]) if state == b"S" else -1
    except (OSError, ValueError, IndexError):
        return 0


def _describe_running(thread: int) -> str:
    frame = current_frames().get(thread)
    stack = "".join(traceback.format_stack(frame)[-6:]) if frame is not None else "  (it has ended)\n"
    return f"{_name(thread)} runs, or blocks outside of waitkit, at:\n{stack.rstrip()}"


def _name(thread: int) -> str:
    found = threading._active.get(thread)  # type: ignore[attr-defined]
    return f"thread {found.name!r}" if found is not None else f"thread {thread}"


def _where(thread: int) -> str:
    frame = current_frames().get(thread)
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("waitkit", "threading"):
        frame = frame.f_back
    return (
        "in waitkit" if frame is None else f"at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
    )
