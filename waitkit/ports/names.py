"""Addresses of a host for a wait: the name service takes its time, and no look waits for it."""

from __future__ import annotations

from typing import TypeAlias

from waitkit.engine.background import CannotStart, start_thread
from waitkit.engine.clock import SystemClock
from waitkit.engine.signals import Wake
from waitkit.ground.durations import MILLISECOND, Nanoseconds, format_duration
from waitkit.ports.addresses import Address, is_literal, resolve
from waitkit.waits.watching import Context

__all__ = ["Addresses", "NoAnswerYet"]

#: What the name service says: addresses, or what it raises.
_Answer: TypeAlias = list[Address] | OSError | UnicodeError

#: What takes less is not told of.
_WORTH_TELLING = 20 * MILLISECOND


class NoAnswerYet(OSError):
    """The name service has not answered so far."""


class Addresses:
    """The addresses of one host for one wait.

    A name is looked up in a thread of its own, as no call to the name service can be cut off: where it is out of reach, each
    takes five seconds and more. A look takes the last answer, and has the next one asked for; the first one, and one that
    differs, wakes the wait. A question that nobody waits for any more is left to itself: its thread ends with the answer.

    In a wait of just one look, with ``timeout=0``, that look asks by itself.
    """

    __slots__ = ("_answer", "_asked_at", "_asks_itself", "_host", "_port", "_wake")

    def __init__(self, host: str, port: int, context: Context) -> None:
        self._host = host
        self._port = port
        self._asks_itself = is_literal(host) or context.deadline == context.started
        self._wake: Wake | None = None
        self._answer: _Answer | None = None
        self._asked_at: Nanoseconds | None = None  # in real time

    @property
    def may_block(self) -> bool:
        """Whether :meth:`known` may wait for the name service."""
        return self._asks_itself and not is_literal(self._host)

    def arm(self, wake: Wake) -> None:
        """Have *wake* called when :meth:`known` would give something else."""
        self._wake = wake

    def known(self) -> list[Address]:
        """The addresses, as far as they are known now.

        Raises:
            NoAnswerYet: the name service has never answered so far; the wait is woken when it does.
            OSError: it does not know the host, or is out of reach.
            UnicodeError: no host can be called so.
        """
        if self._asks_itself:
            return resolve(self._host, self._port)
        if self._asked_at is None:
            self._ask()
        answer = self._answer
        if isinstance(answer, Exception):
            raise answer.with_traceback(None)
        if answer is None:
            asked_at = self._asked_at
            lasts = 0 if asked_at is None else SystemClock.now() - asked_at
            since = f" for {format_duration(lasts)}" if lasts >= _WORTH_TELLING else ""
            raise NoAnswerYet(f"the name service has not answered{since}")
        return answer

    def _ask(self) -> None:
        self._asked_at = SystemClock.now()
        try:
            start_thread("names", self._look_up, otherwise=self._was_not_asked, real=True)
        except CannotStart:  # the interpreter is going down
            self._look_up()

    def _was_not_asked(self) -> None:
        self._asked_at = None

    def _look_up(self) -> None:
        answer: _Answer
        try:
            answer = resolve(self._host, self._port)
        except (OSError, UnicodeError) as error:
            answer = error
        before, self._answer = self._answer, answer
        self._asked_at = None
        wake = self._wake
        if wake is not None and (before is None or str(before) != str(answer)):
            wake()
