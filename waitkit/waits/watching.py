"""The contract between a wait and its condition: a condition makes a *watch*, and a wait looks through it.

A condition is a description that any number of threads may share. What belongs to one wait (since when it holds,
which gap comes next, whom to call) lives in the watch made for that wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from waitkit.engine.descriptor_place import DescriptorPlace
from waitkit.engine.signals import Wake
from waitkit.ground.durations import MILLISECOND, Nanoseconds

__all__ = ["NOT_YET", "Context", "Verdict", "Watch", "earliest"]

_FLOOR: Final = MILLISECOND
_SHARE: Final = 17  # a gap is at most 1/17 = 5.9 % of the time waited so far, which leaves 0.1 % for the wake-up


class Verdict(NamedTuple):
    """What one look found.

    Attributes:
        holds: whether the condition holds.
        value: what it holds with; what a wait returns.
        again: the instant by which to look again even if no wake-up comes; ``None`` where wake-ups tell everything
            (whether it begins to hold, or stops).
        epoch: changes whenever the condition was interrupted since the last look, even if it holds again.
        stopped: it had to hold all along, and does not: the wait fails now.
    """

    holds: bool
    value: object = None
    again: Nanoseconds | None = None
    epoch: int = 0
    stopped: bool = False


#: A signalled condition that does not hold.
NOT_YET: Final = Verdict(False)


class Context:
    """What a watch knows of the wait it serves.

    Attributes:
        started: the instant the wait began.
        deadline: the instant it ends at the latest; ``None`` for no limit. A look that talks to the outside world
            must not last beyond it.
        ignore: exceptions of a callable that mean "not yet".
        probe_cap: the longest gap between two looks.
        both_ways: whether the wait must also learn when the condition *stops* holding. Where that is false, a watch
            that is told only of the beginning need not say when to look again while it holds.
    """

    __slots__ = ("both_ways", "deadline", "ignore", "probe_cap", "started")

    def __init__(
        self,
        started: Nanoseconds,
        deadline: Nanoseconds | None,
        ignore: tuple[type[Exception], ...],
        probe_cap: Nanoseconds,
        *,
        both_ways: bool = False,
    ) -> None:
        self.started = started
        self.deadline = deadline
        self.ignore = ignore
        self.probe_cap = probe_cap
        self.both_ways = both_ways

    def for_both_ways(self) -> Context:
        """The same, for what is judged by a condition that goes on where its member holds: ``~`` and ``held_for``."""
        return Context(self.started, self.deadline, self.ignore, self.probe_cap, both_ways=True)

    def next_look(self, now: Nanoseconds, cost: Nanoseconds = 0) -> Nanoseconds:
        """When a probed condition is due again.

        The gap is ``max(1 ms, 1/17 of the time waited so far)``, and at most the cap: so nobody waits more than
        6 % longer than needed, and a long wait is cheap. A look that is itself slow is followed by a gap as
        long as it took, which keeps half of the thread's time free.

        Args:
            now: the instant after the look.
            cost: how long the look took.
        """
        gap = (now - self.started) // _SHARE
        # Not max() and min(): this is on the way of every look, and what it calls has left the caches meanwhile.
        if gap < _FLOOR:
            gap = _FLOOR
        if gap < cost:
            gap = cost
        if gap > self.probe_cap:
            gap = self.probe_cap
        return now + gap


class Watch:
    """One wait's view of a condition.

    The wait calls :meth:`arm` once, then :meth:`look` again and again, at last :meth:`close`, all from one thread at
    a time. To lose no change, a watch subscribes before it looks. Ctrl-C can fall anywhere in these: what a watch
    subscribes to, it must know *before*, so that :meth:`close` finds it; and ``close`` is called again where it was
    interrupted.
    """

    __slots__ = ()

    @property
    def may_block(self) -> bool:
        """Whether a look talks to something that may take its time; an event loop then looks from another thread."""
        return False

    @property
    def outside(self) -> bool:
        """Whether what it looks at changes outside of this program (a process, a socket, a file), so in real time."""
        return False

    @property
    def calls_user_code(self) -> bool:
        """Whether a look calls a function of the user, of which nobody knows how long it takes."""
        return False

    def arm(self, wake: Wake) -> None:
        """From now on call *wake* whenever another look is worth while. Not called where the first look suffices."""

    def arm_at(self, place: DescriptorPlace, wake: Wake) -> bool:
        """As :meth:`arm`, where nothing but a descriptor would ever call *wake*: it is watched for at *place*.

        Returns:
            False where something else may call, too: it is to be armed as others are.
        """
        return False

    def look(self, now: Nanoseconds) -> Verdict:
        """Judge the condition. Exceptions of the user's code come through."""
        raise NotImplementedError

    def begins(self) -> Nanoseconds | None:
        """The instant at which time alone makes it hold, as the last look found it; ``None`` where there is none, or not known.

        It is more than when to look again: before it, nothing holds unless a wake-up tells of it.
        """
        return None

    def unused(self) -> None:
        """The wait ends without returning what the last look may have given it: take that back. Followed by :meth:`close`."""

    def close(self) -> None:
        """Unsubscribe and release everything. Closing again does nothing."""

    def seen(self) -> str:
        """What the last look saw, in words; empty where there is nothing to tell."""
        return ""

    def error(self) -> Exception | None:
        """The last exception that was ignored."""
        return None

    def explain(self) -> Sequence[str]:
        """Facts worth their price only when the wait has failed: who holds the port, how a log ends."""
        return ()


def earliest(one: Nanoseconds | None, other: Nanoseconds | None) -> Nanoseconds | None:
    """The earlier of two instants, of which either may be missing."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
