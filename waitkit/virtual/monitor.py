"""The one thread of a virtual clock that lives in real time: it notices when nothing goes on, and lets real time pass."""

from __future__ import annotations

import signal
import sys
import threading
import traceback

from waitkit.ground.durations import MILLISECOND, SECOND, Nanoseconds
from waitkit.virtual.clock import VirtualClock, VirtualClockError, real_now

__all__ = ["Monitor", "describe_parked"]

#: For so long one thread may run alone; then another gets a turn beside it, as it may wait for a lock that the other holds.
_PATIENCE = 50 * MILLISECOND


class Monitor:
    """Looks every 50 ms whether the clock makes progress.

    Args:
        clock: whose progress.
        grace: after so many real nanoseconds without any, the waits of all are ended with an error that names who blocks.
    """

    def __init__(self, clock: VirtualClock, grace: Nanoseconds) -> None:
        self._clock = clock
        self._grace = grace
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waitkit-virtual-monitor", daemon=True)
        #: the error, where the main thread was the one that blocked
        self.stuck: VirtualClockError | None = None

    def start(self) -> None:
        """Begin, before the clock is used."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the clock was closed."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        clock = self._clock
        seen, since = -1, real_now()
        at_rest: object = None
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
            elif clock.waited_for and (clock.running() or clock.something_ends):
                if real_now() - since > self._grace:
                    self._end_it()
                    since = real_now()
                elif clock.stalled:
                    before, at_rest = at_rest, _at_rest(clock.running())
                    if at_rest is not None and at_rest == before:
                        clock.let_another_run()
                        seen = clock.progress
            else:
                since = real_now()

    def _drop_the_dead(self) -> None:
        existing = sys._current_frames()
        for thread in self._clock.running():
            if thread not in existing:
                self._clock.drop(thread)

    def _end_it(self) -> None:
        blocked = self._clock.running()
        message = (
            f"virtual time stands still: for {self._grace / SECOND:g} s of real time no thread has come to a wait.\n"
            + "\n".join(_describe_running(thread) for thread in blocked)
            + f"\nmeanwhile wait:\n{describe_parked(self._clock)}\n"
            "Wait with waitkit or with threading instead, or put what takes real time into `with clock.paused():`."
        )
        self._clock.fail(VirtualClockError, message)
        main = threading.main_thread().ident
        if main in blocked:
            # Nothing but a signal ends what it blocks in.
            self.stuck = VirtualClockError(message)
            signal.pthread_kill(main, signal.SIGINT)


def _at_rest(threads: list[int]) -> object:
    """How often each of these threads has had a processor, while all of them rest in the kernel; else ``None``.

    Where that is the same a while later, they block. On a busy machine a thread that blocks nowhere may have to wait for a
    processor for longer than our patience: were another to get a turn for that, a test would not take the same course each time.
    """
    counts = []
    for thread in threads:
        native = getattr(threading._active.get(thread), "native_id", None)  # type: ignore[attr-defined]
        if native is None:
            return None  # it begins or ends
        try:
            with open(f"/proc/self/task/{native}/stat", encoding="ascii", errors="replace") as stat:
                state = stat.read().rpartition(")")[2].split()[0]
            with open(f"/proc/self/task/{native}/schedstat", encoding="ascii") as schedstat:
                counts.append((thread, schedstat.read()))
        except OSError:  # no Linux, or it has just ended
            counts.append((thread, ""))
            continue
        if state == "R":
            return None
    return counts


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


def _describe_running(thread: int) -> str:
    frame = sys._current_frames().get(thread)
    stack = "".join(traceback.format_stack(frame)[-6:]) if frame is not None else "  (it has ended)\n"
    return f"{_name(thread)} runs, or blocks outside of waitkit, at:\n{stack.rstrip()}"


def _name(thread: int) -> str:
    found = threading._active.get(thread)  # type: ignore[attr-defined]
    return f"thread {found.name!r}" if found is not None else f"thread {thread}"


def _where(thread: int) -> str:
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("waitkit", "threading"):
        frame = frame.f_back
    return (
        "in waitkit" if frame is None else f"at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
    )
