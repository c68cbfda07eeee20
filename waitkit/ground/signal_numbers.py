"""Numbers of signals, as users give them."""

from __future__ import annotations

import signal

__all__ = ["check_signal"]


def check_signal(number: object, name: str) -> int:
    """The number of a signal that can be sent.

    Raises:
        TypeError: it is no number.
        ValueError: this system has no such signal.
    """
    wanted = f"{name}={number!r} is no signal: give one such as signal.SIGTERM"
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(wanted)
    if not 0 < number < signal.NSIG:  # valid_signals() makes an enum of each: a tenth of the start of a small program
        raise ValueError(wanted)
    return int(number)
