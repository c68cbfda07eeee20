"""``waitkit wait``: until ports, pages, files and processes are as they should be; then run a command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Final

from waitkit.cli.execute import execute
from waitkit.cli.interrupts import interruptible
from waitkit.cli.options import duration, new_parser, optional_duration, split_command
from waitkit.cli.progress import LongWaits
from waitkit.cli.spellings import HELP as SPELLINGS
from waitkit.cli.spellings import add_spellings, as_targets
from waitkit.cli.targets import HELP, HttpOptions, Target, parse_target
from waitkit.cli.telling import answer, say
from waitkit.conditions.condition import Condition, all_of, any_of
from waitkit.engine.clock import now
from waitkit.ground.durations import Nanoseconds, format_duration
from waitkit.ground.errors import WaitFacts, WaitFailed, WaitTimeout
from waitkit.ground.records import WaitRecord
from waitkit.ground.settings import DEFAULT, DefaultTimeout
from waitkit.waits.drivers import block
from waitkit.waits.wait import Wait

__all__ = ["FAILED", "TIMED_OUT", "run"]

FAILED: Final = 1
TIMED_OUT: Final = 124

_EPILOG: Final = f"""{HELP}

durations are seconds (60, 0.5) or have units ("60s", "1m30s", "250ms")

{SPELLINGS}

exit codes:
  0    it held; with a command: the command's own from here on
  1    it can no longer hold (--unless), or a target cannot be looked at
  2    the arguments are wrong
  124  it timed out
  126  the command cannot be run
  127  the command does not exist
  130  Ctrl-C"""


def run(words: Sequence[str]) -> int:
    """Wait, tell how it ended, and become the command.

    Args:
        words: the arguments of ``waitkit wait``.

    Returns:
        The exit code, where no command was started.
    """
    options = _read(words)
    waiting = _Waiting(options)
    code = waiting.end()
    if code == 0 and options.command:
        return execute(options.command)
    return code


def _read(words: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    before, command = split_command(words)
    options = parser.parse_intermixed_args(before)
    if command == []:
        parser.error("no command follows --")
    options.command = command
    http = HttpOptions(options.status, options.look_timeout)
    try:
        options.targets = [parse_target(text, gone=options.gone, http=http) for text in as_targets(options)]
        options.unless = [parse_target(text, http=http) for text in options.unless]
    except ValueError as error:
        parser.error(str(error))
    if not options.targets:
        parser.error("the following arguments are required: TARGET")
    return options


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "wait",
        "[options] TARGET... [-- COMMAND [ARGUMENT...]]",
        "Waits until all targets hold at one and the same time, then becomes COMMAND, if there is one.",
        _EPILOG,
        add_help=False,
    )
    add_spellings(parser)
    add = parser.add_argument
    add("targets", metavar="TARGET", nargs="*", help="what to wait for, see below")
    add("--timeout", "-t", "-timeout", type=optional_duration, default=DEFAULT, metavar="DURATION", help=_TIMEOUT)
    add("--any", action="store_true", help="wait for any one of the targets")
    add(
        "--gone",
        "--invert",
        "--reverse",
        "-r",
        action="store_true",
        help=_GONE,
    )
    add("--held-for", type=duration, metavar="DURATION", help="it must hold so long without interruption")
    add(
        "--unless", action="append", default=[], metavar="TARGET", help="give up as soon as this holds; may be repeated"
    )
    add("--json", action="store_true", help="tell on stdout, as one JSON object, how it ended")
    add("--quiet", "-q", action="store_true", help="tell nothing on stderr")
    add(
        "--status", type=_statuses, default="200-299", metavar="CODES", help="good statuses of pages, as in 200-299,401"
    )
    add(
        "--look-timeout",
        type=_patience,
        default="1s",
        metavar="DURATION",
        help="how long to await one answer of a page",
    )
    return parser


_GONE: Final = "wait until the targets (tcp, http, unix, file) are gone"
_TIMEOUT: Final = "10s unless given; 0 for one look, none for no limit"


def _statuses(text: str) -> list[range]:
    found = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        numbers = (low, high) if dash else (low, low)
        if not all(number.isascii() and number.isdigit() and 100 <= int(number[:9]) <= 599 for number in numbers):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of statuses: give 200, or 200-299,401")
        if int(numbers[0]) > int(numbers[1]):
            raise argparse.ArgumentTypeError(f"{text!r} holds an empty range: {part}")
        found.append(range(int(numbers[0]), int(numbers[1]) + 1))
    return found


def _patience(text: str) -> Nanoseconds:
    patience = duration(text)
    if patience == 0:
        raise argparse.ArgumentTypeError(f"{text!r} leaves no time for an answer: give more than 0")
    return patience


class _Waiting:
    """One wait of the command line, and what is told of it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._targets: list[Target] = options.targets
        together: Condition[Any] = any_of(*self._targets) if options.any else all_of(*self._targets)
        self._together = together if options.held_for is None else together.held_for(f"{options.held_for}ns")
        self._unless: Condition[Any] | None = any_of(*options.unless) if options.unless else None
        self._timeout: Nanoseconds | DefaultTimeout | None = options.timeout
        self._started = self._over = now()
        self._looks = 0

    def end(self) -> int:
        """Wait to the end, and tell of it. Returns the exit code.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        try:
            with interruptible(), nullcontext() if self._options.quiet else LongWaits(words=self._words):
                self._wait()
        except WaitTimeout as error:
            return self._ended("timeout", TIMED_OUT, f"timed out after {_time(error.facts)}", error.facts)
        except WaitFailed as error:
            first = ", ".join(map(str, filter(_held, self._options.unless)))
            return self._ended(
                "failed", FAILED, f"gave up after {_time(error.facts)}, as first came {first}", error.facts
            )
        except KeyboardInterrupt:
            self._report("interrupted", "interrupted")
            raise
        except ValueError as error:  # WAITKIT_TIMEOUT_SCALE
            say(f"waitkit wait: error: {error}")
            return 2
        except OSError as error:  # a port below 1024, say, that we may not bind
            return self._ended("error", FAILED, f"cannot wait for that: {error.strerror or error}")
        self._report("held", None)
        if not self._options.quiet:
            there = ", ".join(target.text for target in self._targets if target.held)
            say(f"waitkit: {there} after {format_duration(self._over - self._started)}")
        return 0

    def _wait(self) -> None:
        wait = Wait(self._together, self._timeout, unless=self._unless)
        try:
            block(wait)
        finally:
            self._over, self._looks = now(), wait.looks

    def _ended(self, outcome: str, code: int, headline: str, facts: WaitFacts | None = None) -> int:
        notes = facts.notes if facts is not None else ()
        if not self._options.quiet:
            say("\n  ".join((f"waitkit: {headline}; {self._missing()}", *notes)))
        self._report(outcome, "\n".join((headline, *notes)))
        return code

    def _missing(self) -> str:
        missing = [f"\n  {target}" for target in self._targets if not target.held]
        if len(missing) == 0 or (self._options.any and len(missing) < len(self._targets)):
            return "it holds now, but has not for long enough" if self._options.held_for else "nothing is missing"
        return f"missing{' all of' if self._options.any else ''}:{''.join(missing)}"

    def _words(self, record: WaitRecord) -> str:
        missing = [str(target) for target in self._targets if not target.held]
        limit = "" if record.limit is None else f" of {format_duration(record.limit)}"
        names = " or ".join(missing) if self._options.any else ", ".join(missing)
        return f"waiting for {names or 'it to hold longer'}: {format_duration(record.end - record.start)}{limit}"

    def _report(self, outcome: str, error: str | None) -> None:
        """The object that ``--json`` asks for."""
        if not self._options.json:
            return
        import json

        report = {
            "held": outcome == "held",
            "outcome": outcome,
            "elapsed": round((self._over - self._started) / 1e9, 6),
            "looks": self._looks,
            "any": self._options.any,
            "gone": self._options.gone,
            "targets": [_as_dict(target) for target in self._targets],
            "unless": [_as_dict(target) for target in self._options.unless],
            "error": error,
        }
        answer(json.dumps(report))


def _as_dict(target: Target) -> dict[str, object]:
    return {"target": target.written, "held": target.held, "last": target.saw}


def _held(target: Target) -> bool:
    return bool(target.held)


def _time(facts: WaitFacts) -> str:
    return f"{format_duration(round(facts.elapsed * 1e9))}, {facts.looks} look{'' if facts.looks == 1 else 's'}"
