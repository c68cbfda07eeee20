"""``waitkit run``: a command, ready and with its ports; another one while it is up; and nothing left of it."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Final

from waitkit.cli.execute import why_not
from waitkit.cli.options import duration, new_parser, optional_duration, split_command
from waitkit.cli.passing import in_our_place, passed_through
from waitkit.cli.placeholders import Ports, check_placeholders, hint_at_placeholders
from waitkit.cli.progress import LongWaits
from waitkit.cli.signals import HeardSignals, has_terminal, in_foreground
from waitkit.cli.targets import HELP, HttpOptions, Target, parse_target
from waitkit.cli.telling import say
from waitkit.conditions.condition import Condition, all_of, any_of
from waitkit.conditions.processes import ProcessExit
from waitkit.engine.clock import now
from waitkit.ground.durations import SECOND, Nanoseconds, format_duration
from waitkit.ground.errors import WaitFailed, WaitTimeout
from waitkit.ground.records import WaitRecord
from waitkit.ground.settings import DEFAULT, scaled
from waitkit.processes.managed import ManagedProcess
from waitkit.waits.drivers import block
from waitkit.waits.scopes import CancelScope, outside_scopes
from waitkit.waits.wait import Wait

__all__ = ["run"]

_FAILED: Final = 1
_TIMED_OUT: Final = 124

#: What ends the command; the rest of what we hear it gets.
_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
_PASSED_ON: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

_EPILOG: Final = f"""{HELP}

{{port}} in COMMAND, in the one after --then and in --ready is a free port, reserved for COMMAND; {{port2}}, {{port3}} and
{{port:name}} are further ones.

COMMAND writes to our stdout and stderr, and reads nothing. Ctrl-C and SIGTERM stop it: by the stop signal, and, after
--stop-timeout or a second Ctrl-C, by SIGKILL, with all it has started. Other signals it gets as they are. The command after
--then has our stdin and terminal, too, and gets Ctrl-C and SIGTERM themselves; what it has started ends with it, too.

exit codes:
  that of COMMAND, or of the command after --then; 128 + N where signal N ended it
  1    it ended with 0 before it was ready
  2    the arguments are wrong
  124  it was not ready in time
  126  a command cannot be run
  127  a command does not exist"""


def run(words: Sequence[str]) -> int:
    """Run the command, and the one after it.

    Args:
        words: the arguments of ``waitkit run``.

    Returns:
        The exit code.
    """
    parser = _parser()
    options = _read(parser, words)
    with Ports() as ports:
        try:
            options.ready = ports.put_into(options.ready)
            options.command = ports.put_into(options.command)
            options.then = options.then and ports.put_into(options.then)
        except OSError as error:
            say(f"waitkit run: no port can be had: {error.strerror or error}")
            return _FAILED
        try:
            ready = [_target(text) for text in options.ready]
            grace = scaled(5 * SECOND) if options.stop_timeout is None else options.stop_timeout
            patience = scaled(10 * SECOND) if options.ready_timeout is DEFAULT else options.ready_timeout
            run = _Run(options, ports, ready, patience, grace)
        except ValueError as error:
            parser.error(str(error))
        return run.end()


def _read(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    before, after = split_command(words)
    options = parser.parse_args(before)
    command, then = _split_then(after or [])
    if not command:
        parser.error("give the command to run after --")
    if then == []:
        parser.error("no command follows --then")
    if then and not options.ready:
        parser.error("--then runs once the command is ready: say when that is, with --ready")
    try:
        check_placeholders([*options.ready, *command, *(then or ())])
    except ValueError as error:
        parser.error(str(error))
    options.command, options.then = command, then
    return options


def _target(text: str) -> Target:
    try:
        return parse_target(text, http=HttpOptions())
    except ValueError as error:
        raise ValueError(f"{error}{hint_at_placeholders(text)}") from None


def _split_then(words: list[str]) -> tuple[list[str], list[str] | None]:
    if "--then" not in words:
        return words, None
    place = words.index("--then")
    return words[:place], words[place + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "run",
        "[options] -- COMMAND [ARGUMENT...] [--then COMMAND [ARGUMENT...]]",
        "Runs COMMAND, says when it is ready, and leaves nothing of it behind. With --then it runs a second command while\n"
        "the first is up, and exits with the code of the second.",
        _EPILOG,
    )
    add = parser.add_argument
    add(
        "--ready",
        action="append",
        default=[],
        metavar="TARGET",
        help="ready when this holds; may be repeated: all of them",
    )
    add("--ready-timeout", type=optional_duration, default=DEFAULT, metavar="DURATION", help=_READY_TIMEOUT)
    add("--stop-timeout", type=duration, metavar="DURATION", help="5s unless given; then it is killed")
    add("--stop-signal", type=_signal, default=signal.SIGTERM, metavar="SIGNAL", help="TERM unless given")
    add(
        "--release",
        action="store_true",
        help="give the ports up just before the start: for servers without SO_REUSEADDR",
    )
    add("--quiet", "-q", action="store_true", help="tell nothing on stderr but errors")
    return parser


_READY_TIMEOUT: Final = "10s unless given; none for no limit"


def _signal(text: str) -> signal.Signals:
    name = text.upper().removeprefix("SIG")
    for number in signal.Signals:
        if text == str(int(number)) or number.name == f"SIG{name}":
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a signal: give a name such as TERM, INT, QUIT, or its number")


class _Run:
    """One run, from the start of its command to the end of all of it."""

    def __init__(
        self,
        options: argparse.Namespace,
        ports: Ports,
        ready: list[Target],
        patience: Nanoseconds | None,
        grace: Nanoseconds,
    ) -> None:
        self._options = options
        self._ports = ports
        self._ready = ready
        self._grace = grace
        awaited: Condition[Any] | None = all_of(*ready) if ready else None
        self._process = passed_through(options.command, awaited, patience, grace, options.stop_signal)
        self._progress = nullcontext() if options.quiet else LongWaits(words=self._words, live=False)
        self._then: ManagedProcess | None = None
        self._scope = CancelScope()
        self._stopped_by = 0
        self._told_already = False
        self._started = now()
        self._at_terminal = has_terminal()

    def end(self) -> int:
        """Run it all. Returns the exit code."""
        with HeardSignals((*_STOPPING, *_PASSED_ON), self._heard):
            code: int | None = None
            try:
                with self._scope:
                    code = self._up()
                if code is None:  # a signal has stopped us
                    code = self._stopped()
            finally:
                for process in (self._then, self._process):  # the second may need the first until it is gone
                    if process is not None:
                        _end(process)
            return code

    def _up(self) -> int | None:
        command = self._options.command[0]
        if self._options.release:
            self._ports.release()
        try:
            with self._progress:
                self._process.start()
        except WaitTimeout as error:
            return self._not_ready(_TIMED_OUT, f"was not ready after {format_duration(round(error.elapsed * SECOND))}")
        except WaitFailed:
            ended = _exit_of(self._process)
            return self._not_ready(_shell_code(ended.code) or _FAILED, f"ended ({ended}) before it was ready")
        except (OSError, ValueError) as error:
            return _not_started(command, error)
        if not self._options.quiet and (self._ready or self._ports.numbers):
            took = format_duration(now() - self._started)
            word = f"ready after {took}" if self._ready else "started"
            say(f"{word}: {self._process}{self._ports}")
        if self._options.then:
            return self._second()
        return _shell_code(block(Wait(self._process.exited, None)).code)

    def _words(self, record: WaitRecord) -> str:
        missing = ", ".join(str(target) for target in self._ready if not target.held)
        return f"waiting for {self._process} to be ready: {missing}: {format_duration(record.end - record.start)}"

    def _not_ready(self, code: int, how: str) -> int:
        missing = "".join(f"\n  {target}" for target in self._ready if not target.held)
        say(f"waitkit run: {self._process} {how}; missing:{missing}")
        return code

    def _second(self) -> int | None:
        if self._scope.cancel_called:
            return None
        command = self._options.then
        self._then = in_our_place(command)
        try:
            self._then.start()
        except (OSError, ValueError) as error:
            return _not_started(command[0], error)
        if block(Wait(any_of(self._then.exited, self._process.exited), None)).position == 1:
            say(f"waitkit run: {self._process} has ended ({_exit_of(self._process)}) while {command[0]} runs")
        return _shell_code(block(Wait(self._then.exited, None)).code)

    def _stopped(self) -> int:
        """A signal came: end what runs, the second command first. Returns its exit code."""
        with outside_scopes():
            if self._then is None:
                code = _end(self._process)
                return 128 + self._stopped_by if code is None else _shell_code(code)
            if not self._told_already:
                self._send(self._then, self._stopped_by)
            try:
                block(Wait(self._then.exited, self._grace, explained=False))
            except WaitTimeout:
                pass
            return _shell_code(_end(self._then))

    def _heard(self, number: int) -> None:
        """A signal came. This runs in another thread."""
        if number == signal.SIGHUP and self._at_terminal and not has_terminal():
            number = signal.SIGTERM  # it was closed; a server that reads its configuration anew at SIGHUP would stay
        if number not in _STOPPING:
            self._send(self._running(), number)
        elif not self._scope.cancel_called:
            self._stopped_by = number
            # The second command is of our process group, which the terminal tells as a whole.
            self._told_already = number != signal.SIGTERM and in_foreground()
            self._scope.cancel(signal.Signals(number).name)
        else:  # again: no more patience
            self._send(self._running(), signal.SIGKILL)

    def _running(self) -> ManagedProcess:
        """The second command while it runs, else the first."""
        second = self._then
        try:
            return self._process if second is None or second.exit_code is not None else second
        except RuntimeError:  # it is about to be started
            return self._process

    def _send(self, process: ManagedProcess, number: int) -> None:
        try:
            process.send_signal(number)
        except (RuntimeError, PermissionError):
            pass  # not started yet; it has become another user's, as sudo does


def _end(process: ManagedProcess) -> int | None:
    try:
        return process.stop()
    except WaitTimeout as error:  # it is in an uninterruptible call
        say(f"waitkit run: {error}")
        return -signal.SIGKILL


def _exit_of(process: ManagedProcess) -> ProcessExit:
    return ProcessExit(process.pid, process.exit_code)


def _not_started(command: str, error: OSError | ValueError) -> int:
    code, reason = why_not(command, error)
    say(f"waitkit: cannot run {command!r}: {reason}")
    return code


def _shell_code(code: int | None) -> int:
    """An exit code as a shell gives it."""
    if code is None:
        return _FAILED
    return code if code >= 0 else 128 - code
