"""The refusal of a request that cannot be met in time."""

from __future__ import annotations

from waitkit.ground.durations import SECOND, format_duration
from waitkit.ground.errors import WaitkitError

__all__ = ["RateLimitExceeded"]


class RateLimitExceeded(WaitkitError):
    """A request was refused at once: its turn would come after its timeout, or never. It has cost nothing.

    Attributes:
        limiter: the name of the limiter.
        tokens: how many were asked for.
        retry_after: seconds until they could be had; ``None``: never, as they exceed the burst.
    """

    def __init__(self, limiter: str, tokens: int, retry_after: float | None) -> None:
        super().__init__(limiter, tokens, retry_after)
        self.limiter = limiter
        self.tokens = tokens
        self.retry_after = retry_after

    def __str__(self) -> str:
        asked = "1 token" if self.tokens == 1 else f"{self.tokens} tokens"
        if self.retry_after is None:
            return f"{self.limiter} can never give {asked} at once"
        return f"{self.limiter} has no {asked} in time: retry after {format_duration(round(self.retry_after * SECOND))}"


RateLimitExceeded.__module__ = "waitkit"
