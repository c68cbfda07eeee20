"""Who goes next: the queue of one limiter, between those that wait and the store that knows the times.

Those that wait stand in ``_line``. Only the first of them has a slot at the store, and so a time to wait for, beside their own
timeouts; it hands on when it goes. Who leaves the line before has cost nothing. A reservation is told its time when it is made,
so it needs its slot then: and before it, all that stand in the line get theirs, in their order. Whoever waits for a reservation
has a timer of its own. Slots are kept in ``_held`` until they have come: where one is given back, those behind it are given back
too, the last first, and taken again; they move up.

A slot is charged for the instant at which it comes. A thread runs a little later; the next slot is then counted from the
instant, not from the thread, as long as no more than one interval was lost. So the rate is kept in full.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

from waitkit.engine.clock import now
from waitkit.engine.forks import generation
from waitkit.engine.locks import ForkSafeLock
from waitkit.engine.signals import Signal
from waitkit.ground.durations import SECOND, Nanoseconds
from waitkit.rates.exceeded import RateLimitExceeded
from waitkit.rates.store import ONLY_ASK, Slot, Store

__all__ = ["Turn", "TurnQueue"]


class Turn:
    """A place: of one that waits in the line, or of a reservation."""

    __slots__ = (
        "ask_again",
        "changed",
        "deadline",
        "due",
        "gone",
        "granted",
        "hands_on",
        "left",
        "queued",
        "refused",
        "reserved",
        "slot",
        "tokens",
    )

    def __init__(self, tokens: int, deadline: Nanoseconds | None = None, *, reserved: bool = False) -> None:
        self.tokens = tokens
        self.deadline = deadline
        self.reserved = reserved
        #: notified when whoever waits for this turn should look again
        self.changed = Signal()
        self.slot: Slot | None = None
        #: when the slot comes; of no meaning before there is one
        self.due: Nanoseconds = 0
        #: the store's answer where it would come after the deadline
        self.refused: Slot | None = None
        self.queued = False
        self.granted = False
        #: its wait has ended, or it was cancelled: it gets no slot any more
        self.gone = False
        self.hands_on = False
        self.left = False
        #: whether it is to be found out anew if the deadline can be met
        self.ask_again = True


class TurnQueue:
    """The turns of one limiter.

    ``_lock`` guards ``_line`` and how a turn ends, and is a leaf. ``_desk`` guards ``_held`` and what turns have from the
    store. It is held while the store is asked, which may take its time; so it is not for those who only stand in the line.
    Under it ``_lock`` and the store's own lock are taken, never the other way round. Wake-ups are called when both are given up.
    No loop stands in a with-block itself: CPython does not leave the block where Ctrl-C comes at the end of a turn of the loop.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self._name = name
        self._lock = ForkSafeLock()
        self._desk = ForkSafeLock()
        self._generation = generation()
        self._line: deque[Turn] = deque()
        self._held: deque[Turn] = deque()

    def __len__(self) -> int:
        return len(self._line)

    # Without a place.

    def try_take(self, tokens: int) -> bool:
        """Take *tokens* if they are there and nobody is before us."""
        if (self._line or self._held) and self._somebody_first():
            return False
        return self.store.take(tokens)

    def ask(self, tokens: int) -> Nanoseconds | None:
        """How long it would be for one that comes now; ``None``: for ever."""
        self._somebody_first()
        return self._ask(tokens, None)

    def idle(self) -> bool:
        """Whether nobody has a place, and all tokens are there."""
        return not self._somebody_first() and self.store.full()

    def check(self, tokens: int) -> None:
        """Refuse what can never be."""
        if any(tokens > rate.burst for rate in self.store.rates):
            raise RateLimitExceeded(self._name, tokens, None)

    def _somebody_first(self) -> bool:
        if self._generation != generation():
            self._begin_anew()
        if not self._line and self._held:
            with self._desk:
                self._drop_what_has_come()
        return bool(self._line or self._held)

    def _ask(self, tokens: int, before: Turn | None) -> Nanoseconds | None:
        ahead = sum(turn.tokens for turn in self._in_line(before) if turn.slot is None)
        return self.store.reserve(tokens, ONLY_ASK, ahead).wait

    def _in_line(self, before: Turn | None = None) -> list[Turn]:
        with self._lock:
            line = list(self._line)
        return line[: line.index(before)] if before in line else line

    def _exceeded(self, tokens: int, wait: Nanoseconds | None) -> RateLimitExceeded:
        return RateLimitExceeded(self._name, tokens, None if wait is None else wait / SECOND)

    # In the line.

    def look(self, turn: Turn) -> Nanoseconds | None:
        """Whether the turn has come (0), or when it comes (``None``: when the one before hands on).

        Raises:
            RateLimitExceeded: it would come after its deadline.
        """
        if turn.granted:
            return 0
        if self._generation != generation():
            self._begin_anew()
        with self._lock:
            if not turn.queued or not self._line:
                turn.queued = True
                self._line.append(turn)
            first = self._line[0] is turn
        if first:
            return self._look_first(turn)
        refused = turn.refused
        if refused is None and turn.deadline is not None and (turn.ask_again or now() >= turn.deadline):
            turn.ask_again = False
            wait = self._ask(turn.tokens, turn) if turn.slot is None else turn.due - now()
            if wait is None or now() + wait > turn.deadline:
                refused = Slot(wait)
        if refused is not None:
            raise self._exceeded(turn.tokens, refused.wait)
        return None

    def _look_first(self, turn: Turn) -> Nanoseconds:
        with self._desk:
            if turn.slot is None and turn.refused is None:
                self._drop_what_has_come()
                self._take(turn)
            if turn.refused is not None:
                raise self._exceeded(turn.tokens, turn.refused.wait)
            if turn.due > now():
                return turn.due
            turn.granted = True
            with suppress(ValueError):  # Ctrl-C has kept it from being there
                self._held.remove(turn)
            return 0

    def leave(self, turn: Turn) -> None:
        """The wait for this turn has ended: give back what was not used, and hand on.

        Done again it does nothing, or what Ctrl-C kept it from doing.
        """
        if turn.left:
            return
        turn.gone = True
        moved: list[Turn] = []
        if turn.slot is not None and not turn.granted:
            with self._desk:
                _, moved = self._give_back(turn)
        try:
            with self._lock:
                turn.hands_on = turn.hands_on or (bool(self._line) and self._line[0] is turn)
                if turn.hands_on or turn in self._line:
                    self._line.remove(turn)
        except ValueError:
            pass  # it was taken out before Ctrl-C came, or by a fork
        _wake([*moved, *self._hand_on()] if turn.hands_on else moved)
        turn.left = True

    def _hand_on(self) -> list[Turn]:
        """Who is first now. Where that is cheap it gets its slot at once, so that the time until its thread runs is not lost."""
        first = self._first()
        if first and not self.store.may_block:
            with self._desk:
                turn = first[0]
                if turn.slot is None and turn.refused is None:
                    self._take(turn)
                    if turn.gone:  # it left at the same time, and may not have seen the slot
                        self._give_back(turn)
        return first

    # Reservations.

    def reserve(self, turn: Turn) -> None:
        """Take a slot behind all that have come before.

        Raises:
            RateLimitExceeded: it would come after the turn's deadline; it has cost nothing.
        """
        self._somebody_first()
        refused: list[Turn] = []
        try:
            with self._desk:
                self._reserve(turn, refused)
        finally:
            _wake(refused)
        if turn.refused is not None:
            raise self._exceeded(turn.tokens, turn.refused.wait)

    def _reserve(self, turn: Turn, refused: list[Turn]) -> None:
        self._drop_what_has_come()
        before = [other for other in self._in_line() if other.slot is None and other.refused is None]
        if before and turn.deadline is not None:
            # Those before are given slots only where this one gets one, too.
            wait = self._ask(turn.tokens, None)
            if wait is None or now() + wait > turn.deadline:
                raise self._exceeded(turn.tokens, wait)
        for other in before:
            self._take(other)
            if other.refused is not None:
                refused.append(other)
            elif other.gone:  # it left while its slot was on the way
                self._give_back(other)
        self._take(turn)
        turn.deadline = None  # it was met: what moves the turn later does not refuse it any more

    def use(self, turn: Turn) -> Nanoseconds:
        """Use a reservation whose turn has come (0), or say when it comes.

        Raises:
            RuntimeError: it was cancelled.
            RateLimitExceeded: the rates were changed, and it will never come.
        """
        if turn.slot is None and not turn.gone:
            with self._desk:  # it is just taken anew, or was about to be when Ctrl-C came
                if turn.slot is None and turn.refused is None and not turn.gone:
                    self._take(turn)
        if turn.refused is not None:
            raise self._exceeded(turn.tokens, turn.refused.wait)
        with self._lock:  # it is used or cancelled, never both
            if not turn.gone:
                if turn.due > now():
                    return turn.due
                turn.granted = True
                return 0
        raise RuntimeError(f"this reservation at {self._name} was cancelled")

    def cancel(self, turn: Turn) -> bool:
        """Give a reservation back that was not used. Whether its tokens returned."""
        with self._desk:
            with self._lock:
                if turn.granted or turn.gone or turn.slot is None:
                    return False
                turn.gone = True
            given, moved = self._give_back(turn)
        turn.changed.notify()
        _wake(moved)
        return given

    # All at once.

    def rearrange(self, act: Callable[[], object], pause: Nanoseconds = 0) -> None:
        """Do something to the store under which all slots that have not come yet are taken anew."""
        with self._desk:
            affected = self._rearrange(act, pause)
        _wake(affected)

    def _rearrange(self, act: Callable[[], object], pause: Nanoseconds) -> list[Turn]:
        instant = now()
        loose = self._free(0)
        for turn in self._held:  # others have taken slots behind these: they stand, but not within a pause
            if turn.due > instant:
                turn.due = max(turn.due, instant + pause)
        try:
            act()
        finally:
            self._take_again(loose)
        line = self._in_line()
        for turn in line:
            turn.ask_again = True
        affected = [turn for turn in line if turn.slot is not None or turn.deadline is not None]
        return affected + [turn for turn in self._held if turn.reserved]

    def most_tokens(self) -> int:
        """The most that anybody waits for."""
        self._somebody_first()
        with self._desk:
            self._drop_what_has_come()
            held = list(self._held)
        return max((turn.tokens for turn in [*self._in_line(), *held]), default=0)

    # At the desk.

    def _take(self, turn: Turn) -> None:
        longest = None if turn.deadline is None else max(0, turn.deadline - now())
        slot = self.store.reserve(turn.tokens, longest)
        if slot.receipt is None or slot.wait is None:
            turn.slot, turn.refused = None, slot
        else:
            turn.slot, turn.due = slot, now() + slot.wait
            self._held.append(turn)

    def _drop_what_has_come(self) -> None:
        """Nobody hands on for a reservation: when its instant has passed it is simply over, used or not."""
        held = self._held
        while held and (held[0].gone or (held[0].reserved and held[0].due <= now())):
            held.popleft()

    def _give_back(self, turn: Turn) -> tuple[bool, list[Turn]]:
        """Returns whether the tokens came back, and who behind may have moved up."""
        slot = turn.slot
        if slot is None:
            return False, []
        turn.slot = None
        try:
            place = self._held.index(turn)
        except ValueError:  # its time has passed
            place = -1
        loose = self._free(place + 1)
        if place >= 0:
            del self._held[place]
        try:
            given = self.store.cancel(slot)  # where one behind had to stand, the store refuses
        finally:
            self._take_again(loose)
        first = self._first()
        return given, [other for other in loose if other.reserved or other.refused is not None or other in first]

    def _free(self, place: int) -> list[Turn]:
        """Give back the slots from *place* on that have not come, the last first, until one has to stand."""
        loose: deque[Turn] = deque()
        held = self._held
        while len(held) > place:
            turn = held[-1]
            if turn.granted or (turn.reserved and turn.due <= now()):
                break
            if turn.slot is None or not self.store.cancel(turn.slot):
                break
            turn.slot = None
            loose.appendleft(held.pop())
        return list(loose)

    def _take_again(self, loose: list[Turn]) -> None:
        for place, turn in enumerate(loose):
            try:
                self._take(turn)
            except BaseException:  # the store is out of reach: those in the line will ask by themselves
                for lost in loose[place:]:
                    lost.gone = lost.reserved
                raise

    def _first(self) -> list[Turn]:
        with self._lock:
            return [self._line[0]] if self._line else []

    def _begin_anew(self) -> None:
        """This process is a forked child: those who waited are threads of the parent. Their slots stay charged."""
        with self._desk, self._lock:
            if self._generation != generation():
                self._generation = generation()
                self._line = deque()
                self._held = deque()


def _wake(turns: list[Turn]) -> None:
    for turn in turns:
        turn.changed.notify()
