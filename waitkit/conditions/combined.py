"""The watches of the algebra: each looks through the watches of its members."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from waitkit.engine.descriptor_place import DescriptorPlace
from waitkit.engine.signals import Wake
from waitkit.ground.durations import MILLISECOND, Nanoseconds
from waitkit.waits.account import Watchable
from waitkit.waits.watching import Context, Verdict, Watch, earliest

__all__ = ["AllOfWatch", "AnyOfWatch", "HeldForWatch", "NotWatch", "PassingWatch"]


class PassingWatch(Watch):
    """A watch over another one, which it leaves as it is; subclasses add to it."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Watch) -> None:
        self._inner = inner

    @property
    def may_block(self) -> bool:
        return self._inner.may_block

    @property
    def outside(self) -> bool:
        return self._inner.outside

    @property
    def calls_user_code(self) -> bool:
        return self._inner.calls_user_code

    def arm(self, wake: Wake) -> None:
        self._inner.arm(wake)

    def look(self, now: Nanoseconds) -> Verdict:
        return self._inner.look(now)

    def begins(self) -> Nanoseconds | None:
        return self._inner.begins()

    def close(self) -> None:
        self._inner.close()

    def seen(self) -> str:
        return self._inner.seen()

    def error(self) -> Exception | None:
        return self._inner.error()

    def explain(self) -> Sequence[str]:
        return self._inner.explain()


class _Combined(Watch):
    """What a watch over other watches does for each of them alike."""

    __slots__ = ("_watches",)

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches

    @property
    def may_block(self) -> bool:
        return any(watch.may_block for watch in self._watches)

    @property
    def outside(self) -> bool:
        return any(watch.outside for watch in self._watches)

    @property
    def calls_user_code(self) -> bool:
        return any(watch.calls_user_code for watch in self._watches)

    def arm(self, wake: Wake) -> None:
        for watch in self._watches:
            watch.arm(wake)

    def arm_at(self, place: DescriptorPlace, wake: Wake) -> bool:
        return all(watch.arm_at(place, wake) for watch in self._watches)

    def close(self) -> None:
        for watch in self._watches:
            watch.close()

    def seen(self) -> str:
        return self._watches[0].seen()

    def error(self) -> Exception | None:
        return next((error for watch in self._watches if (error := watch.error()) is not None), None)

    def explain(self) -> Sequence[str]:
        return [note for watch in self._watches for note in watch.explain()]


class NotWatch(_Combined):
    """Holds while its member does not."""

    __slots__ = ()

    def look(self, now: Nanoseconds) -> Verdict:
        inner = self._watches[0].look(now)
        return Verdict(not inner.holds, inner.value if inner.holds else True, inner.again, inner.epoch)


class _OfMembers(_Combined):
    """What ``any_of`` and ``all_of`` have in common: how they find out whether they were interrupted.

    Each member is compared with what it was at the last look: if it is the same, and its epoch too, it was so all the
    time. Where that does not tell of the whole, the whole counts as interrupted: nobody knows what was between the looks.
    """

    __slots__ = ("_before", "_epoch", "_members")

    def __init__(self, members: Sequence[Watchable], context: Context) -> None:
        super().__init__([member.watch(context) for member in members])
        self._members = members
        self._before: list[tuple[bool, int]] = []
        self._epoch = 0

    def _unchanged(self, verdicts: Sequence[Verdict]) -> list[bool]:
        """Of each member, whether it was all the time as it is now."""
        before, self._before = self._before, [(verdict.holds, verdict.epoch) for verdict in verdicts]
        known = len(before)
        return [position < known and before[position] == now for position, now in enumerate(self._before)]

    def _epoch_if(self, steady: bool) -> int:
        self._epoch += not steady
        return self._epoch


class AnyOfWatch(_OfMembers):
    """Holds with the first member that does; those after it are not looked at."""

    __slots__ = ("_made", "_verdicts")

    def __init__(
        self, members: Sequence[Watchable], context: Context, made: Callable[[int, Any, object], object]
    ) -> None:
        super().__init__(members, context)
        self._made = made
        self._verdicts: list[Verdict] = []

    def look(self, now: Nanoseconds) -> Verdict:
        again = None
        verdicts: list[Verdict] = []
        for index, watch in enumerate(self._watches):
            verdict = watch.look(now)
            verdicts.append(verdict)
            if verdict.holds:
                # Another member that takes over counts as an interruption, as it was not looked at until now.
                epoch = self._epoch_if(self._unchanged(verdicts)[index])
                return Verdict(True, self._made(index, self._members[index], verdict.value), verdict.again, epoch)
            again = earliest(again, verdict.again)
        self._verdicts = verdicts
        return Verdict(False, None, again, self._epoch_if(all(self._unchanged(verdicts))))

    def begins(self) -> Nanoseconds | None:
        known = [watch.begins() for watch in self._watches]
        for verdict, begins in zip(self._verdicts, known, strict=False):
            if begins is None and verdict.again is not None:
                return None  # this member is looked at: it may have begun to hold at any time before
        return min((begins for begins in known if begins is not None), default=None)

    def seen(self) -> str:
        return _each_seen(self._members, self._watches)


class AllOfWatch(_OfMembers):
    """Holds when all members do, in one look."""

    __slots__ = ("_missing",)

    def __init__(self, members: Sequence[Watchable], context: Context) -> None:
        super().__init__(members, context)
        self._missing: list[int] = []

    def look(self, now: Nanoseconds) -> Verdict:
        verdicts = [watch.look(now) for watch in self._watches]
        missing = self._missing = [index for index, verdict in enumerate(verdicts) if not verdict.holds]
        again = None
        for verdict in verdicts:
            again = earliest(again, verdict.again)
        unchanged = self._unchanged(verdicts)
        # One member that was missing all the time is enough for the whole to have been missing.
        steady = any(unchanged[index] for index in missing) if missing else all(unchanged)
        values = tuple(verdict.value for verdict in verdicts)
        return Verdict(not missing, values, again, self._epoch_if(steady))

    def begins(self) -> Nanoseconds | None:
        known = [begins for index in self._missing if (begins := self._watches[index].begins()) is not None]
        return max(known) if known and len(known) == len(self._missing) else None

    def seen(self) -> str:
        missing = [(self._members[index], self._watches[index]) for index in self._missing]
        if not missing:
            return ""
        return "missing: " + _each_seen([member for member, _ in missing], [watch for _, watch in missing])


class HeldForWatch(_Combined):
    """Holds when its member has held for a time; with *throughout* it fails where that stops."""

    __slots__ = ("_duration", "_epoch", "_gap", "_interruptions", "_since", "_throughout")

    def __init__(self, watch: Watch, duration: Nanoseconds, *, throughout: bool = False) -> None:
        super().__init__([watch])
        self._duration = duration
        self._gap = max(MILLISECOND, duration // 20)
        self._throughout = throughout
        self._since: Nanoseconds | None = None
        self._epoch = 0
        self._interruptions = 0

    def look(self, now: Nanoseconds) -> Verdict:
        inner = self._watches[0].look(now)
        if not inner.holds:
            self._interruptions += self._since is not None
            self._since = None
            return Verdict(False, inner.value, inner.again, stopped=self._throughout)
        if self._since is None:
            self._since = now
        elif inner.epoch != self._epoch:
            self._interruptions += 1
            self._since = now
        self._epoch = inner.epoch
        complete = self._since + self._duration
        if now >= complete:
            return inner
        # The wait may have lasted long before this began to hold: its gaps are then too wide for this duration.
        again = complete if inner.again is None else min(complete, inner.again, now + self._gap)
        return Verdict(False, inner.value, again, stopped=self._throughout and self._interruptions > 0)

    def begins(self) -> Nanoseconds | None:
        return None if self._since is None else self._since + self._duration

    def seen(self) -> str:
        saw = self._watches[0].seen()
        if not self._interruptions:
            return saw
        times = "once" if self._interruptions == 1 else f"{self._interruptions} times"
        return f"{saw}{', ' if saw else ''}held and was interrupted {times}"


def _each_seen(members: Sequence[Watchable], watches: Sequence[Watch]) -> str:
    seen = ((member.what, watch.seen()) for member, watch in zip(members, watches, strict=True))
    return "; ".join(f"{what}{f' ({saw})' if saw else ''}" for what, saw in seen)
