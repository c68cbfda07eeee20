"""Ctrl-C right after a descriptor was closed, or a thread started: nothing is closed twice, and no thread is there twice."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from children import no_descriptor_left, nothing_left  # noqa: F401
from support import LIMIT, until

from waitkit import managed_process, output_matches, wait_for
from waitkit.engine import background, descriptors, timers, workers
from waitkit.engine.background import start_thread
from waitkit.engine.clock import now
from waitkit.engine.owned import OwnedDescriptor

pytestmark = pytest.mark.usefixtures("nothing_left")


def interrupted_after_close(number: int, function: object) -> bool:
    """Run *function* with a Ctrl-C right after the descriptor that it is the *number*-th to close.

    That is the moment in which CPython looks for signals. Returns whether it closed so many.
    """
    closed = 0

    def after(frame: FrameType, kind: str, what: object) -> None:
        nonlocal closed
        if kind == "c_return" and getattr(what, "__name__", "") == "close" and _is_ours(frame):
            closed += 1
            if closed == number:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)

    before = sys.getprofile()
    sys.setprofile(after)
    try:
        function()  # type: ignore[operator]
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(before)
    return False


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith("waitkit.")


def test_no_descriptor_is_closed_twice() -> None:
    """A number that was closed may be somebody else's at once: who cleans up after an interrupt must not close it again."""

    def cycle() -> None:
        with managed_process(["sh", "-c", "echo up; exec sleep infinity"], ready=output_matches("up")) as process:
            process.send_signal(signal.SIGKILL)
            wait_for(process.exited)
            assert process.exit_code == -signal.SIGKILL

    cycle()
    number = 0
    with no_descriptor_left():
        while interrupted_after_close(number + 1, cycle):  # a second close would raise OSError
            number += 1
    assert number >= 4, "the pidfds and the two streams at least"


def test_an_interrupt_of_the_first_watch_leaves_no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the selector is made: the pipe that was opened for it is closed, not forgotten, and the next one works."""
    watched, woken = descriptors.Descriptors(), threading.Event()
    reader, writer = os.pipe()

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(descriptors, "LINGER", 0)
    with no_descriptor_left(), OwnedDescriptor(reader), OwnedDescriptor(writer, "w"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(descriptors, "make_selector", interrupted)
            watched.watch(writer, woken.set, write=True)
        assert watched.own() == set()
        watched.watch(writer, woken.set, write=True)
        assert woken.wait(LIMIT)
        until(lambda: not watched.own())


class Starts:
    """Starts of waitkit's threads. The next one is interrupted: when the thread runs, or before it does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: list[threading.Thread] = []
        self.interrupted = ""
        self._start = threading.Thread.start
        monkeypatch.setattr(threading.Thread, "start", lambda thread: self._start_or_not(thread))
        self._begun = begun = threading.Event()

        class Telling(background.Token):
            def take(self) -> bool:
                taken = super().take()
                begun.set()
                return taken

        monkeypatch.setattr(background, "Token", Telling)

    def _start_or_not(self, thread: threading.Thread) -> None:
        when = self.interrupted if thread.name.startswith("waitkit-") else ""
        self.interrupted = ""
        if when:
            self.threads.append(thread)
        if when != "before":
            self._begun.clear()
            self._start(thread)
        if when:
            if when == "running":
                assert self._begun.wait(LIMIT)
            raise KeyboardInterrupt

    def really(self) -> None:
        """Start the thread whose start was interrupted before it ran."""
        self._start(self.threads.pop())


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Starts:
    return Starts(monkeypatch)


@pytest.mark.parametrize("when", ["running", "before"])
def test_a_start_that_was_interrupted_is_told_of_truly(starts: Starts, when: str) -> None:
    """Who wanted the thread is told that it will not run, if it will not; and only then."""
    ran, told = threading.Event(), []
    starts.interrupted = when
    with pytest.raises(KeyboardInterrupt):
        start_thread("test", ran.set, otherwise=lambda: told.append(True))
    thread = starts.threads[0]
    if when == "before":
        starts.really()
    thread.join()
    assert (ran.is_set(), told) == ((True, []) if when == "running" else (False, [True]))


def asks_timers(own: timers.Timers, done: threading.Event) -> None:
    own.call_at(now(), done.set)


def asks_workers(own: workers.Workers, done: threading.Event) -> None:
    own.run(done.set)


def asks_descriptors(own: descriptors.Descriptors, done: threading.Event) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb"), open(writer, "wb"):
        own.watch(writer, done.set, write=True)
        assert done.wait(LIMIT)


@pytest.mark.parametrize("when", ["running", "before"])
@pytest.mark.parametrize(
    ("make", "asks"),
    [
        (timers.Timers, asks_timers),
        (lambda: workers.Workers(1), asks_workers),
        (descriptors.Descriptors, asks_descriptors),
    ],
    ids=["timers", "workers", "descriptors"],
)
def test_no_thread_of_ours_is_there_twice(
    starts: Starts, make: Callable[[], Any], asks: Callable[[Any, threading.Event], None], when: str
) -> None:
    """After a start that was interrupted, who needs the thread next finds it or starts it: one is there, and serves."""
    own, before, done = make(), set(threading.enumerate()), threading.Event()
    starts.interrupted = when
    with pytest.raises(KeyboardInterrupt):
        asks(own, threading.Event())
    if when == "before":
        starts.really()
    asks(own, done)
    assert done.wait(LIMIT)
    until(lambda: len(set(threading.enumerate()) - before) <= 1, "a thread that was not to run to end")
