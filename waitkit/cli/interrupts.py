"""Ctrl-C that is not lost."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from waitkit.waits.scopes import CancelScope

__all__ = ["interruptible"]


@contextmanager
def interruptible() -> Iterator[CancelScope]:
    """A block that Ctrl-C leaves with ``KeyboardInterrupt``, even where Python has swallowed the first one.

    ``KeyboardInterrupt`` comes between any two bytecodes, and in a finalizer or a callback of a weak reference it is printed
    and dropped. So Ctrl-C cancels the scope, too: the next wait ends, or whoever looks at ``scope.cancel_called``; and it is not
    printed, as it is not lost.

    For the main thread. Where Ctrl-C is ignored or handled otherwise already, that is left as it is.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    scope = CancelScope()

    def interrupted(*_: object) -> NoReturn:
        scope.cancel("interrupted")
        raise KeyboardInterrupt

    def dropped(what: sys.UnraisableHookArgs) -> None:
        if not (scope.cancel_called and isinstance(what.exc_value, KeyboardInterrupt)):
            sys.__unraisablehook__(what)

    printed = sys.unraisablehook is sys.__unraisablehook__
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, interrupted)
        if printed:
            sys.unraisablehook = dropped
    try:
        with scope:
            yield scope
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if printed:
                sys.unraisablehook = sys.__unraisablehook__
    if scope.cancel_called:
        raise KeyboardInterrupt
