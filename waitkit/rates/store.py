"""Where a limiter keeps what was used: the contract of a store, and the store of one process.

A limiter asks its store for one thing above all: *reserve the next slot, and say how long it is until then*. The answer is a
duration, never an instant, as the clock of another machine means nothing here. All that has to do with threads, tasks, queues
and timers stays with the limiter, so a store for several processes or machines is a few lines around one atomic step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from waitkit.engine.clock import now
from waitkit.engine.locks import ForkSafeLock
from waitkit.ground.durations import Nanoseconds
from waitkit.policies.gcra import Bucket, Rate

__all__ = ["NEVER", "ONLY_ASK", "InProcessStore", "Slot", "Store"]


class Slot(NamedTuple):
    """A store's answer to a request.

    Attributes:
        wait: nanoseconds from the answer until the tokens may be used, 0 for now; ``None``: never, as they exceed a burst.
        receipt: what the store needs to cancel the slot; ``None``: no slot was taken, and nothing charged.
    """

    wait: Nanoseconds | None
    receipt: object = None


#: More tokens were asked for than there can ever be at once.
NEVER: Final = Slot(None)

#: As ``longest=``: take no slot, only say how long it would be.
ONLY_ASK: Final = -1


class Store:
    """Keeps the state of one limiter, for one process or many. To be derived from; each method is one atomic step.

    A store has the last word on order: slots come in the order in which they were reserved, and each is charged for the
    instant it comes, so that in any stretch of time *t* at most ``burst + rate * t`` tokens come.
    """

    #: Whether a call may take its time (a file, a server). An event loop then makes it from another thread.
    may_block: bool = False

    def open(self, rates: Sequence[Rate]) -> None:
        """Begin with *rates*, or join those who have begun.

        Raises:
            ValueError: it is in use with other rates.
        """
        raise NotImplementedError

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates in force."""
        raise NotImplementedError

    def reserve(self, tokens: int, longest: Nanoseconds | None = None, ahead: int = 0) -> Slot:
        """Take the next slot for *tokens*, charged to all rates or none.

        Args:
            tokens: how many.
            longest: how long it may be until then; where it is longer, nothing is charged. ``None``: no limit;
                :data:`ONLY_ASK`: nothing is charged in any case.
            ahead: tokens that will be asked for before these; counted only where nothing is charged.
        """
        raise NotImplementedError

    def take(self, tokens: int) -> bool:
        """Take *tokens* if they are there now: a slot without a wait, which is used at once and never cancelled."""
        return self.reserve(tokens, 0).receipt is not None

    def cancel(self, slot: Slot) -> bool:
        """Give back a slot that was not used, exactly, as if it had never been taken.

        That can be done while no other slot was taken after it. Otherwise nothing changes, and it returns False: those behind
        have been promised their times, and a token that came back between them would come on top of the burst.
        """
        raise NotImplementedError

    def penalize(self, pause: Nanoseconds) -> None:
        """Have no token for as long as *pause*, and one then."""
        raise NotImplementedError

    def change(self, rates: Sequence[Rate]) -> None:
        """Go on with other rates, as many as before; the tokens that are there stay there. Receipts lose their worth.

        Raises:
            ValueError: there are more or fewer than before.
        """
        raise NotImplementedError

    def full(self) -> bool:
        """Whether all tokens are there, so that a new store would be like this one."""
        raise NotImplementedError


class _Charged(NamedTuple):
    """The receipt of the store below: what the buckets were before and after."""

    changes: int
    before: list[int]
    after: list[int]


class InProcessStore(Store):
    """The default: buckets in the memory of this process, on its clock.

    ``_lock`` is a leaf and guards all else. In a forked child the store is a copy.
    """

    # The methods with loops stand below those that take the lock: where Ctrl-C comes at the end of a turn of a loop that is
    # itself in a with-block, CPython does not leave the block, and the lock would stay locked.

    def __init__(self) -> None:
        self._buckets: list[Bucket] = []
        self._changes = 0  # receipts from before a change count in other units
        self._lock = ForkSafeLock()

    @property
    def rates(self) -> tuple[Rate, ...]:
        return tuple(bucket.rate for bucket in self._buckets)

    def open(self, rates: Sequence[Rate]) -> None:
        with self._lock:
            self._open(rates)

    def reserve(self, tokens: int, longest: Nanoseconds | None = None, ahead: int = 0) -> Slot:
        with self._lock:
            return self._reserve(tokens, longest, ahead)

    def take(self, tokens: int) -> bool:
        with self._lock:
            return self._take(tokens)

    def cancel(self, slot: Slot) -> bool:
        charged = slot.receipt
        assert isinstance(charged, _Charged)
        with self._lock:
            return self._cancel(charged)

    def penalize(self, pause: Nanoseconds) -> None:
        with self._lock:
            self._close_until(now() + pause)

    def change(self, rates: Sequence[Rate]) -> None:
        with self._lock:
            self._change(rates)

    def full(self) -> bool:
        with self._lock:
            return self._full()

    # With the lock held.

    def _open(self, rates: Sequence[Rate]) -> None:
        if not self._buckets:
            self._buckets = [Bucket(rate) for rate in rates]
        elif self.rates != tuple(rates):
            raise ValueError(
                f"the store is in use with other rates: {'; '.join(map(str, self.rates))}, not {'; '.join(map(str, rates))}"
            )

    def _reserve(self, tokens: int, longest: Nanoseconds | None, ahead: int) -> Slot:
        due = instant = now()
        for bucket in self._buckets:
            if tokens > bucket.rate.burst:
                return NEVER
            due = max(due, bucket.due(tokens, instant, ahead))
        if longest is not None and due - instant > longest:
            return Slot(due - instant)
        before = [bucket.tat for bucket in self._buckets]
        for bucket in self._buckets:
            bucket.charge(tokens, due)
        return Slot(due - instant, _Charged(self._changes, before, [bucket.tat for bucket in self._buckets]))

    def _take(self, tokens: int) -> bool:
        instant = now()
        for bucket in self._buckets:
            if tokens > bucket.rate.burst or bucket.due(tokens, instant) > instant:
                return False
        for bucket in self._buckets:
            bucket.charge(tokens, instant)
        return True

    def _cancel(self, charged: _Charged) -> bool:
        if charged.changes != self._changes or charged.after != [bucket.tat for bucket in self._buckets]:
            return False
        for bucket, tat in zip(self._buckets, charged.before, strict=True):
            bucket.tat = tat
        return True

    def _close_until(self, instant: Nanoseconds) -> None:
        for bucket in self._buckets:
            bucket.close_until(instant)

    def _change(self, rates: Sequence[Rate]) -> None:
        if len(rates) != len(self._buckets):
            raise ValueError(f"the store has {len(self._buckets)} rates: give as many, not {len(rates)}")
        instant = now()
        for bucket, rate in zip(self._buckets, rates, strict=True):
            bucket.change(rate, instant)
        self._changes += 1

    def _full(self) -> bool:
        instant = now()
        return all(bucket.due(bucket.rate.burst, instant) <= instant for bucket in self._buckets)
