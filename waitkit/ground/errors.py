"""What waitkit raises. Every error carries its facts as attributes and survives pickling.

An error of a wait is built from one :class:`WaitFacts`, which is also its only argument: exceptions pickle by
their arguments, so nothing is lost on the way out of a worker process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from waitkit.ground.records import Try

__all__ = [
    "Cancelled",
    "StoppedHolding",
    "WaitFacts",
    "WaitFailed",
    "WaitTimeout",
    "WaitkitError",
    "add_note",
]


class WaitFacts(NamedTuple):
    """What is known of a wait that ended without its condition.

    Attributes:
        headline: how it ended, in words: ``"timed out after 10 s waiting for port 5432 to listen"``.
        what: what was awaited: ``"port 5432 to listen"``.
        elapsed: seconds waited.
        limit: seconds allowed in all, or ``None`` where nothing limited the wait.
        looks: how often the condition was looked at.
        last: what the last look saw, in words; empty where there is nothing to tell.
        caller: ``"file:line"`` of the call that waited.
        notes: further facts found when it failed (who holds the port, the tail of a log), a line or more each.
        tries: what the looks saw over time, where a subscriber to records asked for that; see :func:`waitkit.subscribe`.
    """

    headline: str
    what: str
    elapsed: float
    limit: float | None
    looks: int
    last: str
    caller: str
    notes: tuple[str, ...] = ()
    tries: tuple[Try, ...] = ()

    def __str__(self) -> str:
        """The facts as the message of an error: one line, then one for each note."""
        looks = "1 look" if self.looks == 1 else f"{self.looks} looks"
        last = f", last: {self.last}" if self.last else ""
        first = f"{self.headline}: {looks}{last} (waited at {self.caller})"
        return "\n".join((first, *self.notes))


class WaitkitError(Exception):
    """The base of all errors of waitkit that are ordinary exceptions."""


class _WaitEnded(WaitkitError):
    """A wait that ended without its condition: the facts, and shortcuts to them."""

    def __init__(self, facts: WaitFacts) -> None:
        super().__init__(facts)
        #: all that is known of the wait
        self.facts = facts

    def __str__(self) -> str:
        return str(self.facts)

    @property
    def what(self) -> str:
        """What was awaited, in words."""
        return self.facts.what

    @property
    def elapsed(self) -> float:
        """Seconds waited."""
        return self.facts.elapsed

    @property
    def looks(self) -> int:
        """How often the condition was looked at."""
        return self.facts.looks

    @property
    def last(self) -> str:
        """What the last look saw, in words."""
        return self.facts.last


class WaitTimeout(_WaitEnded, TimeoutError):
    """The deadline came before the condition held.

    It is a :class:`TimeoutError` too, and so an :class:`OSError`: ``except OSError`` catches it. Where an
    exception of the condition was ignored while waiting, the last one is the ``__cause__``.
    """


class WaitFailed(_WaitEnded):
    """The condition can no longer hold: what ``unless=`` names came true."""


class StoppedHolding(WaitFailed, AssertionError):
    """A condition that had to hold all along (:func:`waitkit.consistently`) stopped holding.

    It is an :class:`AssertionError` too, so that a test counts it as a failure.
    """


class Cancelled(BaseException):
    """A scope around the wait was cancelled, or its deadline came.

    Like :class:`asyncio.CancelledError` it is no :class:`Exception`, so ``except Exception`` in a loop does not
    swallow it; the scope that caused it takes it in when its block is left. Do not catch it without raising it again.

    Attributes:
        facts: the wait that was ended.
        reason: what was given to ``cancel()``, or that the scope's deadline came.
    """

    def __init__(self, facts: WaitFacts, reason: str = "", scope: object = None) -> None:
        super().__init__(facts, reason)
        self.facts = facts
        self.reason = reason
        #: The scope that takes this in. It means nothing in another process, so it is not pickled.
        self.scope = scope

    def __str__(self) -> str:
        return str(self.facts)

    def __reduce__(self) -> tuple[type[Cancelled], tuple[WaitFacts, str], dict[str, object]]:
        return type(self), (self.facts, self.reason), {**self.__dict__, "scope": None}


for _public in (Cancelled, StoppedHolding, WaitFacts, WaitFailed, WaitTimeout, WaitkitError):
    # Tracebacks, pickles and the reference show the name that users import.
    _public.__module__ = "waitkit"


def add_note(error: BaseException, note: str) -> None:
    """As ``error.add_note(note)``, also for exceptions whose class refuses attributes: frozen attrs and data classes."""
    try:
        error.add_note(note)
    except AttributeError:
        error.__dict__.setdefault("__notes__", []).append(note)
