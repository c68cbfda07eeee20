"""What adapts to a condition, by the name of its class: a table, so that nothing is imported before it is waited for."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

__all__ = ["ACCEPTED_FORMS", "adaptor_for"]

#: Class of the object (any of its bases) -> module and class of the condition made of it.
_ADAPTORS: Final = {
    "threading.Event": ("waitkit.conditions.notifying", "EventSet"),
    "threading.Thread": ("waitkit.conditions.thread_ends", "ThreadEnded"),
    "concurrent.futures._base.Future": ("waitkit.conditions.notifying", "FutureDone"),
    "queue.Queue": ("waitkit.conditions.notifying", "ItemQueued"),
    "_queue.SimpleQueue": ("waitkit.conditions.notifying", "ItemQueued"),
    "subprocess.Popen": ("waitkit.conditions.processes", "ProcessExited"),
    "multiprocessing.process.BaseProcess": ("waitkit.conditions.processes", "ProcessExited"),
    "psutil.Process": ("waitkit.conditions.processes", "ProcessExited"),
    "multiprocessing.synchronize.Event": ("waitkit.conditions.notifying", "SharedEventSet"),
}

ACCEPTED_FORMS: Final = (
    "accepted are a Condition, a callable without arguments, threading.Event and Thread, concurrent.futures.Future, "
    "queue.Queue, subprocess.Popen, multiprocessing.Process and Event, psutil.Process, and whatever has a fileno() "
    "(connections, sockets, pipes)"
)


def adaptor_for(thing: object) -> Any | None:
    """The class of condition that is made of *thing*, or ``None`` where the table has no entry for it."""
    for base in type(thing).__mro__:
        entry = _ADAPTORS.get(f"{base.__module__}.{base.__qualname__}")
        if entry is not None:
            return getattr(import_module(entry[0]), entry[1])
    # What its class has, first: a Mock has everything, and is meant to be called.
    kind = type if isinstance(thing, type) else type(thing)
    has_fileno = callable(getattr(kind, "fileno", None))
    if callable(thing) and not has_fileno:
        return import_module("waitkit.conditions.probes").Probe
    if has_fileno or callable(getattr(thing, "fileno", None)):
        return import_module("waitkit.conditions.descriptors").Readable
    return None
