"""What :mod:`pollers` runs in a fresh process: ``pollers_child.py implementation count seconds`` prints one JSON object."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import TypedDict

import psutil

from waitkit import after, polling, wait_for

PERIOD = 1.0
TRIGGERS = 40
mono = time.monotonic


class Sample(TypedDict):
    """One run."""

    late_ms: list[float]
    done: float
    cpu: float
    rss_mb: float
    threads: int
    stop_ms: float
    trigger_ms: float | None


class Observer:
    """Told of every run by the functions that are run."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self.observing = False
        self.awaited: tuple[int, threading.Event] | None = None
        self.triggered_at = 0.0

    def ran(self, position: int, due: float) -> None:
        """The function at *position* runs, and was planned for *due*."""
        instant = mono()
        if self.observing:
            self.late.append(instant - due)
        awaited = self.awaited
        if awaited is not None and awaited[0] == position:
            self.awaited = None
            self.triggered_at = instant
            awaited[1].set()


Stop = Callable[[], object]
Trigger = Callable[[int], object]
Implementation = Callable[[list[float], Observer], tuple[Stop, Trigger | None]]


def waitkit(phases: list[float], seen: Observer) -> tuple[Stop, Trigger | None]:
    start = mono()

    def job(position: int) -> None:
        # The grid is known: a tick is the last one before now, unless it is an early, triggered run.
        base = firsts[position]
        seen.ran(position, mono() - (mono() - base) % PERIOD)

    firsts = [start + 1 + phase for phase in phases]
    pollers = []
    for position, first in enumerate(firsts):
        poller = polling(
            lambda position=position: job(position), PERIOD, timing="fixed_rate", first_delay=max(0, first - mono())
        )
        firsts[position] = first
        pollers.append(poller.start())

    def stop() -> None:
        for poller in pollers:
            poller.stop()

    return stop, lambda position: pollers[position].trigger()


def apscheduler(phases: list[float], seen: Observer) -> tuple[Stop, Trigger | None]:
    from apscheduler.schedulers.background import BackgroundScheduler
    from apscheduler.triggers.interval import IntervalTrigger

    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    scheduler = BackgroundScheduler(timezone=dt.UTC)
    begin = time.time() + 1 + len(phases) / 2_500  # adding that many takes its time
    offset = mono() - time.time()

    def job(position: int) -> None:
        base = begin + phases[position] + offset
        seen.ran(position, mono() - (mono() - base) % PERIOD)

    jobs = []
    for position, phase in enumerate(phases):
        start = dt.datetime.fromtimestamp(begin + phase, dt.UTC)
        jobs.append(scheduler.add_job(job, IntervalTrigger(seconds=1, start_date=start), args=(position,)))
    scheduler.start()
    wait_for(after(max(0.0, begin - time.time())), None)
    return scheduler.shutdown, lambda position: jobs[position].modify(next_run_time=dt.datetime.now(dt.UTC))


def _schedule(phases: list[float], seen: Observer, *, idle: bool) -> tuple[Stop, Trigger | None]:
    import schedule

    scheduler, stop = schedule.Scheduler(), threading.Event()
    begin = dt.datetime.now() + dt.timedelta(seconds=1)
    offset = mono() - time.time()
    jobs: list[object] = []

    def job(position: int) -> None:
        seen.ran(position, jobs[position].next_run.timestamp() + offset)

    for position, phase in enumerate(phases):
        planned = scheduler.every(1).seconds.do(job, position)
        planned.next_run = begin + dt.timedelta(seconds=phase)
        jobs.append(planned)

    def pump() -> None:
        while not stop.is_set():
            scheduler.run_pending()
            if not idle:
                time.sleep(1)  # as in its documentation
            elif scheduler.idle_seconds > 0:
                stop.wait(scheduler.idle_seconds)

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()

    def stop_it() -> None:
        stop.set()
        thread.join()

    def trigger(position: int) -> None:
        jobs[position].next_run = dt.datetime.now()

    return stop_it, trigger


def schedule_idle(phases: list[float], seen: Observer) -> tuple[Stop, Trigger | None]:
    return _schedule(phases, seen, idle=True)


def schedule_sleep(phases: list[float], seen: Observer) -> tuple[Stop, Trigger | None]:
    return _schedule(phases, seen, idle=False)


def timer_chain(phases: list[float], seen: Observer) -> tuple[Stop, Trigger | None]:
    live: dict[int, threading.Timer] = {}
    stopped, lock = threading.Event(), threading.Lock()

    def arm(position: int, delay: float) -> None:
        timer = threading.Timer(delay, fire, (position, mono() + delay))
        timer.daemon = True
        with lock:
            if stopped.is_set():
                return
            live[position] = timer
        timer.start()

    def fire(position: int, due: float) -> None:
        seen.ran(position, due)
        arm(position, PERIOD)

    for position, phase in enumerate(phases):
        arm(position, 1 + phase)

    def stop() -> None:
        with lock:
            stopped.set()
            timers = list(live.values())
        for timer in timers:
            timer.cancel()
        for timer in timers:
            if timer.ident is not None:
                timer.join()

    return stop, None


def event_threads(phases: list[float], seen: Observer) -> tuple[Stop, Trigger | None]:
    events = [threading.Event() for _ in phases]
    stopped = threading.Event()

    def loop(position: int) -> None:
        event = events[position]
        event.wait(1 + phases[position])
        while not stopped.is_set():
            event.clear()
            due = mono() + PERIOD
            triggered = event.wait(PERIOD)
            if not stopped.is_set():
                seen.ran(position, mono() if triggered else due)

    threads = [threading.Thread(target=loop, args=(position,), daemon=True) for position in range(len(phases))]
    for thread in threads:
        thread.start()

    def stop() -> None:
        stopped.set()
        for event in events:
            event.set()
        for thread in threads:
            thread.join()

    return stop, lambda position: events[position].set()


def sleep_threads(phases: list[float], seen: Observer) -> tuple[Stop, Trigger | None]:
    stopped = threading.Event()

    def loop(position: int) -> None:
        time.sleep(1 + phases[position])
        while not stopped.is_set():
            due = mono() + PERIOD
            time.sleep(PERIOD)
            if not stopped.is_set():
                seen.ran(position, due)

    threads = [threading.Thread(target=loop, args=(position,), daemon=True) for position in range(len(phases))]
    for thread in threads:
        thread.start()

    def stop() -> None:
        stopped.set()
        for thread in threads:
            thread.join()

    return stop, None


IMPLEMENTATIONS: dict[str, Implementation] = {
    "waitkit": waitkit,
    "apscheduler": apscheduler,
    "schedule_idle": schedule_idle,
    "schedule_sleep": schedule_sleep,
    "timer_chain": timer_chain,
    "event_threads": event_threads,
    "sleep_threads": sleep_threads,
}


def observe(name: str, count: int, seconds: float) -> Sample:
    """Run *count* functions for *seconds*, after a time to settle."""
    chance = random.Random(1)
    me, seen = psutil.Process(), Observer()
    memory, threads = me.memory_info().rss, me.num_threads()
    stop, trigger = IMPLEMENTATIONS[name]([chance.random() * PERIOD for _ in range(count)], seen)
    wait_for(after(3.2), None)
    used, begun, seen.observing = sum(me.cpu_times()[:2]), mono(), True
    wait_for(after(seconds), None)
    seen.observing, wall = False, mono() - begun
    used = sum(me.cpu_times()[:2]) - used
    memory, threads = me.memory_info().rss - memory, me.num_threads() - threads
    latencies = []
    for _ in range(TRIGGERS if trigger is not None else 0):
        wait_for(after(chance.random() * 0.02), None)
        position, ran = chance.randrange(count), threading.Event()
        seen.awaited = (position, ran)
        asked = mono()
        assert trigger is not None
        trigger(position)
        if ran.wait(3):
            latencies.append(seen.triggered_at - asked)
    begun = mono()
    stop()
    stopped = mono() - begun
    return Sample(
        late_ms=[value * 1e3 for value in seen.late],
        done=len(seen.late) / (count * wall / PERIOD),
        cpu=used / wall,
        rss_mb=memory / 2**20,
        threads=threads,
        stop_ms=stopped * 1e3,
        trigger_ms=sorted(latencies)[len(latencies) // 2] * 1e3 if latencies else None,
    )


if __name__ == "__main__":
    print(json.dumps(observe(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))), flush=True)
    os._exit(0)  # threads that sleep are not waited for
