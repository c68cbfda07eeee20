"""A budget of retries shared by calls: when everything fails, most calls stop retrying instead of adding to the load."""

from __future__ import annotations

from waitkit.engine.locks import ForkSafeLock
from waitkit.ground.checks import check_count

__all__ = ["RetryBudget"]


class RetryBudget:
    """A token bucket of retries, as in the standard retry mode of the AWS SDKs.

    A retry takes *cost* tokens, and is not made where there are too few. A call that succeeds after retries gives back what
    its last retry took; one that succeeds at once gives back one token. No time is involved.

    Share one object among the decorators whose calls go to the same service. It may be used from any thread.

    Args:
        tokens: how many it holds, at first and at most.
        cost: how many a retry takes.

    Raises:
        ValueError: a number is no ``int`` of 1 or more, or *cost* exceeds *tokens*.
    """

    def __init__(self, tokens: int = 500, cost: int = 5) -> None:
        for name, value in (("tokens", tokens), ("cost", cost)):
            check_count(value, name)
        if cost > tokens:
            raise ValueError(f"cost={cost} exceeds tokens={tokens}: no retry could ever be made")
        self._capacity = tokens
        self._cost = cost
        self._tokens = tokens
        self._lock = ForkSafeLock()  # guards _tokens

    @property
    def tokens(self) -> int:
        """How many tokens are left."""
        return self._tokens

    def take(self) -> bool:
        """Take what a retry costs. False, and nothing taken, where there is too little."""
        with self._lock:
            if self._tokens < self._cost:
                return False
            self._tokens -= self._cost
            return True

    def give_back(self, *, after_retry: bool) -> None:
        """A call succeeded: the cost of its last retry comes back, or one token where it needed none."""
        if self._tokens < self._capacity:  # a full budget costs a successful call no lock
            with self._lock:
                self._tokens = min(self._capacity, self._tokens + (self._cost if after_retry else 1))

    def __repr__(self) -> str:
        return f"<RetryBudget {self._tokens} of {self._capacity}>"


RetryBudget.__module__ = "waitkit"
