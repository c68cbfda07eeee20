"""For test sessions: what changes how waitkit behaves while tests run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from waitkit.ground.checks import check_bool, check_count
from waitkit.retry.retrier import Override, override

__all__ = ["retries"]


@contextmanager
def retries(*, attempts: int | None = None, delays: bool = True) -> Iterator[None]:
    """Change all retries of this process for the length of a ``with`` block.

    Args:
        attempts: how many attempts each call makes, whatever its own options say; ``None`` leaves that to them.
        delays: False takes all delays away.

    Raises:
        TypeError, ValueError: *attempts* is no whole number of 1 or more, or *delays* neither True nor False.
    """
    if attempts is not None:
        check_count(attempts, "attempts", "; None leaves it to each retry")
    check_bool(delays, "delays")
    before = override(Override(attempts, delays))
    try:
        yield
    finally:
        override(before)
