"""The worker threads: each task once, few threads, none that a task can kill, and none left when there is nothing to do."""

from __future__ import annotations

import threading

import pytest
from support import LIMIT, together, until

from waitkit import Value, wait_for
from waitkit.engine import background, workers
from waitkit.engine.workers import Workers


def test_each_task_once():
    """Of 20,000 tasks handed over by eight threads each is run exactly once."""
    pool, counts, done = Workers(), [0] * 20_000, Value(0)
    lock = threading.Lock()

    def task(number: int) -> None:
        counts[number] += 1
        with lock:
            done.set(done.get() + 1)

    def hand_over(first: int) -> None:
        for number in range(first, 20_000, 8):
            pool.run(lambda number=number: task(number))

    together(*(lambda first=first: hand_over(first) for first in range(8)))
    until(done.equals(20_000))
    assert set(counts) == {1}


def test_short_tasks_need_few_threads():
    """Short tasks in a row do not wake a thread each."""
    pool, done = Workers(), threading.Event()
    seen = set()

    def task() -> None:
        seen.add(threading.get_ident())

    for _ in range(2_000):
        pool.run(task)
    pool.run(done.set)
    until(done)
    assert len(seen) < 20


def test_blocked_tasks_do_not_hold_up_others():
    """While 63 tasks block, 1,000 others are run by the 64th worker; while 64 block, the others wait for one of them."""
    pool, gate, arrived, done = Workers(), threading.Event(), threading.Semaphore(0), Value(0)

    def block() -> None:
        arrived.release()
        gate.wait(LIMIT)

    for _ in range(63):
        pool.run(block)
    for _ in range(63):
        assert arrived.acquire(timeout=LIMIT)
    for _ in range(1_000):
        pool.run(lambda: done.set(done.get() + 1))
    until(done.equals(1_000))
    pool.run(block)
    assert arrived.acquire(timeout=LIMIT)
    pool.run(lambda: done.set(-1))
    assert done.get() == 1_000
    gate.set()
    until(done.equals(-1))


def test_a_task_that_raises_is_shown_and_does_no_harm(monkeypatch):
    """What a task raises reaches threading.excepthook, whatever it is, and the worker goes on."""
    shown, done, pool = [], threading.Event(), Workers(most=1)
    monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(args.exc_type))

    def fail(error: BaseException) -> None:
        raise error

    for error in (ValueError(), SystemExit(), KeyboardInterrupt()):
        pool.run(lambda error=error: fail(error))
    pool.run(done.set)
    until(done)
    assert shown == [ValueError, SystemExit, KeyboardInterrupt]


def test_idle_workers_end(monkeypatch):
    """Workers that nobody needs any more end by themselves."""
    monkeypatch.setattr(workers, "LINGER", 1_000_000)
    pool, done, mine = Workers(), threading.Event(), []

    def task() -> None:
        mine.append(threading.current_thread())
        done.set()

    pool.run(task)
    until(done)
    wait_for(mine[0], LIMIT)
    assert pool._count == 0


def test_no_thread_to_be_had(monkeypatch):
    """Where no thread can be started, run() says so, and the task is not left in the queue."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pool = Workers()
    with pytest.raises(background.CannotStart):
        pool.run(print)
    assert not pool._tasks
