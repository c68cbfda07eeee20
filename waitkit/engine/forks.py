"""What a fork leaves behind: the child counts a new generation and forgets the parent's threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["current", "generation", "on_fork_in_child", "reset_in_child"]

T = TypeVar("T")

#: As :func:`generation`, for what runs between a wake-up and the thread it wakes: read it as ``forks.current``.
current = 0
_resets: list[Callable[[], None]] = []
_owners: WeakKeyDictionary[Any, Callable[[Any], object]] = WeakKeyDictionary()


def generation() -> int:
    """How many forks lie between the first process and this one.

    What was made in another generation belongs to a thread that may not exist here.
    """
    return current


def on_fork_in_child(reset: Callable[[], None]) -> None:
    """Have *reset* called in every forked child, in the only thread it has, before any other code of it runs."""
    _resets.append(reset)


def reset_in_child(owner: T, reset: Callable[[T], object]) -> None:
    """Have ``reset(owner)`` called in every forked child for as long as *owner* exists, before what is called by itself."""
    _owners[owner] = reset


def _after_fork_in_child() -> None:
    global current
    current += 1
    for owner, reset_owner in list(_owners.items()):
        reset_owner(owner)
    for reset in _resets:
        reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
