"""Busy polling: loops that look again and again without a rest. Found by samples, taken only while the process computes."""

from __future__ import annotations

import ast
import re
import signal
import threading
import time
from collections.abc import Iterator
from functools import cache
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

from waitkit.ground.durations import SECOND
from waitkit.guard.ledger import Ledger
from waitkit.guard.sites import is_library

__all__ = ["BusyLoops", "polling_loops"]

_INTERVAL: Final = 0.01
_DEPTH: Final = 12
_ABOUT_TIME: Final = re.compile(r"time|monotonic|perf_counter|sleep|deadline|yield", re.IGNORECASE)


class _Sample(NamedTuple):
    """Where a thread was, the innermost frame first, and what it had computed since the last sample."""

    stack: list[tuple[CodeType, int]]
    nanoseconds: int


class BusyLoops:
    """Samples the stack of the main thread each 10 ms of processor time (``SIGPROF``), and says which lay in a polling loop.

    A process that rests is not interrupted at all. Where another profiler has the signal, or this is not the main thread,
    nothing is sampled.

    Args:
        ledger: where the time of polling loops is taken down.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._samples: list[_Sample] = []
        self._cpu = 0
        self._installed = False
        # Kept here, where libraries that freeze time by exchanging the functions of modules do not look.
        self._thread_time = time.thread_time_ns
        self._clock = time.perf_counter_ns

    def install(self) -> None:
        """Begin to sample."""
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGPROF"):
            return
        if signal.getsignal(signal.SIGPROF) is not signal.SIG_DFL or signal.getitimer(signal.ITIMER_PROF) != (0.0, 0.0):
            return
        self._cpu = self._thread_time()
        signal.signal(signal.SIGPROF, self._on_tick)
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, _INTERVAL, _INTERVAL)
        self._installed = True

    def remove(self) -> None:
        """Sample no more."""
        if self._installed:
            signal.setitimer(signal.ITIMER_PROF, 0)
            if signal.getsignal(signal.SIGPROF) == self._on_tick:
                signal.signal(signal.SIGPROF, signal.SIG_DFL)
            self._installed = False

    def _on_tick(self, number: int, frame: FrameType | None) -> Any:
        now = self._thread_time()
        spent, self._cpu = now - self._cpu, now
        # A tick counts the time of all threads; only what this one computed is its own.
        if frame is not None and spent > _INTERVAL * SECOND / 4:
            self._samples.append(_Sample(list(_stack(frame)), spent))

    def judge(self) -> None:
        """Take down the samples so far that lay in a polling loop. Call it in the main thread."""
        if not self._installed:
            return
        samples, self._samples = self._samples, []
        now = self._clock()
        for sample in samples:
            for code, line in sample.stack:
                loop = next((loop for loop in polling_loops(code.co_filename) if line in loop), None)
                if loop is not None:
                    # When it was is not known any more; it did not overlap with any sleep of this thread.
                    self._ledger.add("busy polling", (code, loop.start, None, 0), now, now + sample.nanoseconds)
                    now += sample.nanoseconds
                    break


def _stack(frame: FrameType | None) -> Iterator[tuple[CodeType, int]]:
    for _ in range(_DEPTH):
        if frame is None:
            return
        yield frame.f_code, frame.f_lineno
        frame = frame.f_back


@cache
def polling_loops(filename: str) -> tuple[range, ...]:
    """The lines of each loop of a file that does nothing but look until something has changed; none of a library's.

    Args:
        filename: as code objects give it.
    """
    if filename.startswith("<") or is_library(filename):
        return ()
    try:
        with open(filename, encoding="utf-8") as file:
            tree = ast.parse(file.read(), filename)
    except (OSError, ValueError, SyntaxError):
        return ()
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.While) and _only_looks(node)]
    loops.sort(key=lambda loop: -loop.lineno)  # of nested ones the innermost first
    return tuple(range(loop.lineno, (loop.end_lineno or loop.lineno) + 1) for loop in loops)


def _only_looks(loop: ast.While) -> bool:
    questions: list[ast.expr] = [loop.test]
    counts = False
    for statement in loop.body:
        match statement:
            case ast.Pass() | ast.Continue() | ast.Expr(value=ast.Constant()):
                pass
            case ast.Expr(value=ast.Call(func=called)) if _ABOUT_TIME.search(ast.unparse(called)):
                pass
            case ast.AugAssign(value=ast.Constant()):
                counts = True
            case ast.Assert(test=question):
                questions.append(question)
            case ast.If(test=question, body=[*body], orelse=[]) if all(
                isinstance(way_out, ast.Break | ast.Return | ast.Raise) for way_out in body[-1:]
            ):
                questions.append(question)
            case _:
                return False
    if all(isinstance(statement, ast.Pass | ast.Continue) for statement in loop.body):
        return True  # whatever it asks, something else must change it
    asks_outside = any(isinstance(node, ast.Call | ast.Attribute) for each in questions for node in ast.walk(each))
    # "while text[i].isspace(): i += 1" works through something; with a clock beside it, it waits.
    return asks_outside and (not counts or _ABOUT_TIME.search(ast.unparse(loop)) is not None)
