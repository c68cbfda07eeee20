"""How virtual time fails."""

from __future__ import annotations

from waitkit.ground.errors import WaitkitError

__all__ = ["VirtualClockError", "VirtualDeadlock"]


class VirtualClockError(WaitkitError):
    """Virtual time cannot go on: a thread that takes part blocks outside of waitkit, or was left behind."""


class VirtualDeadlock(VirtualClockError):
    """Every thread that takes part waits, and nothing is due that could end a wait."""


for _public in (VirtualClockError, VirtualDeadlock):
    _public.__module__ = "waitkit"
