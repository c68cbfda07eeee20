"""``waitkit demo``: the tests of an RPC service, waiting for conditions, beside what they cost when they sleep."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any, Protocol

from waitkit.cli.interrupts import interruptible
from waitkit.cli.options import new_parser
from waitkit.cli.progress import LongWaits
from waitkit.cli.telling import say
from waitkit.waits.scopes import CancelScope

__all__ = ["run"]


class Outcome(Protocol):
    """One test that has ended, as the example tells it: the attributes of its ``run.Outcome`` that are printed."""

    title: str
    error: str | None
    seconds: float
    waits: tuple[tuple[str, float], ...]
    waited: float
    slept: float
    would_sleep: float


def run(words: Sequence[str]) -> int:
    """Run the demo.

    Args:
        words: its arguments.

    Returns:
        0 when all tests pass, else 1, and 2 where the example is not installed.
    """
    arguments = _parser().parse_args(words)
    try:
        # By its name: it is a folder of the examples, which is a part of waitkit only once that is installed.
        example: Any = import_module("waitkit.demo.run")
    except ModuleNotFoundError as error:
        if error.name != "waitkit.demo":
            raise
        say("waitkit demo: the example is there once waitkit is installed: pip install -e .")
        return 2
    with interruptible() as scope, LongWaits("500ms"):
        print("The tests of an RPC service, waiting for conditions:\n")
        waiting = _shown(example.run("waiting"), scope, by_sleeping=False)
        sleeping: list[Outcome] | None = None
        if arguments.with_sleeps:
            print("\nThe same tests, sleeping:\n")
            sleeping = _shown(example.run("sleeping"), scope, by_sleeping=True)
    _print_totals(waiting, sleeping)
    return 0 if not _failed(waiting) and not _failed(sleeping or []) else 1


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "demo",
        "[--with-sleeps]",
        "Runs 26 tests of the life of an RPC service, from start to restart. They wait for conditions; what the\n"
        "same tests sleep in their other edition, which sleeps and hopes, is printed beside.",
    )
    parser.add_argument(
        "--with-sleeps",
        action="store_true",
        help="run the sleeping edition, too, and measure it, instead of only adding up its sleeps (most of a minute)",
    )
    return parser


def _failed(outcomes: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.error is not None]


def _shown(outcomes: Iterable[Outcome], scope: CancelScope, *, by_sleeping: bool) -> list[Outcome]:
    shown = []
    for number, outcome in enumerate(outcomes, 1):
        if scope.cancel_called:
            raise KeyboardInterrupt
        shown.append(outcome)
        verdict = "ok    " if outcome.error is None else "FAILED"
        line = f"{number:3} {verdict} {outcome.title:48} {_time(outcome.seconds)}"
        if by_sleeping:
            print(f"{line}   slept {_time(outcome.slept)}", flush=True)
        else:
            print(f"{line}   waited {_time(outcome.waited)}, sleeping: {_time(outcome.would_sleep)}", flush=True)
            if outcome.waits:
                print(
                    " " * 10,
                    ", ".join(f"{what} {_time(seconds).strip()}" for what, seconds in outcome.waits),
                    flush=True,
                )
        if outcome.error is not None:
            print(" " * 10, outcome.error.replace("\n", "\n" + " " * 11), flush=True)
    return shown


def _print_totals(waiting: list[Outcome], sleeping: list[Outcome] | None) -> None:
    total = sum(outcome.seconds for outcome in waiting)
    waited = sum(outcome.waited for outcome in waiting)
    print(f"\nWaiting edition  {_time(total)}   {_score(waiting)}")
    print(f"  waits          {_time(waited)}")
    for what, (tests, seconds) in _by_kind(waiting):
        print(f"                 {_time(seconds)}     {what}, in {tests} {'test' if tests == 1 else 'tests'}")
    print(f"  work           {_time(total - waited)}   launching processes, calls, assertions")
    would_sleep = sum(outcome.would_sleep for outcome in waiting)
    if sleeping is None:
        print(f"Sleeping edition {_time(would_sleep)}   of sleeps alone: added up, not run (--with-sleeps runs it)")
        return
    total = sum(outcome.seconds for outcome in sleeping)
    slept = sum(outcome.slept for outcome in sleeping)
    print(f"Sleeping edition {_time(total)}   {_score(sleeping)}")
    print(f"  sleeps         {_time(slept)}   added up beforehand: {_time(would_sleep).strip()}")
    print(f"  work           {_time(total - slept)}")


def _by_kind(outcomes: list[Outcome]) -> list[tuple[str, tuple[int, float]]]:
    """What was waited for, in how many tests and for how many seconds in all, the longest first."""
    sums: dict[str, tuple[int, float]] = {}
    for outcome in outcomes:
        for what, seconds in outcome.waits:
            tests, so_far = sums.get(what, (0, 0.0))
            sums[what] = (tests + 1, so_far + seconds)
    return sorted(sums.items(), key=lambda item: -item[1][1])


def _score(outcomes: list[Outcome]) -> str:
    return f"{len(outcomes) - len(_failed(outcomes))} of {len(outcomes)} tests passed"


def _time(seconds: float) -> str:
    return f"{seconds * 1000:6.1f} ms" if seconds < 1 else f"{seconds:7.2f} s"
