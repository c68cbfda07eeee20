"""What errors tell: who waits for what, who runs, and through which lines of the user's code each has come there."""

from __future__ import annotations

from collections.abc import Iterable
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from waitkit.engine.frames import coroutine_frames, current_frames
from waitkit.virtual.real import name_of
from waitkit.waits.drivers import wait_in_loop

if TYPE_CHECKING:
    import asyncio

    from waitkit.virtual.clock import VirtualClock

__all__ = ["describe_parked", "describe_running", "describe_task"]

#: What waits are made of: their lines say nothing about who waits.
_MACHINERY: Final = frozenset({"waitkit", "threading", "queue", "concurrent", "asyncio", "selectors"})
_INNERMOST: Final = frozenset({"waitkit.virtual", "waitkit.engine"})
#: Who called the user's code: neither its lines nor those before them.
_RUNNERS: Final = frozenset({"_pytest", "pluggy", "unittest", "runpy"})
#: So many lines at most, the innermost ones.
_MOST: Final = 12
_FEW: Final = 3


def describe_parked(clock: VirtualClock) -> str:
    """Who waits, for what, and where; and where those are that do not take part."""
    frames = current_frames()
    lines: list[str] = []
    for thread, place in clock.parked():
        if place.idle:
            continue
        purpose = place.purpose
        what = purpose.describe() if hasattr(purpose, "describe") else str(purpose or "its next task")
        lines.append(f"  {name_of(thread)}: {what}")
        lines += _indented(4, _lines_of(_stack(frames.get(thread))))
        lines += _indented(4, purpose.details() if hasattr(purpose, "details") else [])
    lines = lines or ["  nobody"]
    others = [thread for thread in clock.others() if thread in frames]
    if others:
        lines.append("not counted, as they do not take part:")
    for thread in others:
        lines.append(f"  {name_of(thread)}")
        lines += _indented(4, _lines_of(_stack(frames[thread])))
    return "\n".join(lines)


def describe_running(thread: int) -> str:
    """Where one is that does not come to a wait."""
    frames = _stack(current_frames().get(thread))
    lines = _lines_of(frames) if frames else ["(it has ended)"]
    if frames and _package(frames[-1]) in _MACHINERY:
        lines.append(_line_of(frames[-1]))  # what it blocks in
    return "\n".join([f"  {name_of(thread)} runs, or blocks outside of waitkit:", *_indented(4, lines)])


def describe_task(task: asyncio.Task[Any]) -> list[str]:
    """What a task awaits, and the lines it has come there by."""
    frames = list(coroutine_frames(task.get_coro()))
    return [f"task {task.get_name()!r}: {_awaited(task, frames)}", *_indented(2, _lines_of(frames))]


def _awaited(task: asyncio.Task[Any], frames: list[FrameType]) -> str:
    for frame in frames:
        if frame.f_code is wait_in_loop.__code__:
            return str(frame.f_locals["wait"].describe())
    awaited = getattr(task, "_fut_waiter", None)
    if awaited is None:
        return "its turn"
    if hasattr(awaited, "get_name"):
        return f"the end of task {awaited.get_name()!r}"
    called = next((frame for frame in frames if _package(frame) in _MACHINERY), None)
    return f"a {type(awaited).__name__}" if called is None else f"asyncio's {called.f_code.co_qualname}()"


def _stack(frame: FrameType | None) -> list[FrameType]:
    """The frames of a thread, the innermost last, from where somebody else called the user's code."""
    frames: list[FrameType] = []
    while frame is not None and _package(frame) not in _RUNNERS:
        frames.append(frame)
        frame = frame.f_back
    return frames[::-1]


def _lines_of(frames: list[FrameType]) -> list[str]:
    """Where these are; the machinery only where there is nothing else."""
    shown = [frame for frame in frames if _package(frame) not in _MACHINERY]
    if not shown:
        shown = [frame for frame in frames if _package(frame, 2) not in _INNERMOST][-_FEW:]
    return ["..."] * (len(shown) > _MOST) + [_line_of(frame) for frame in shown[-_MOST:]]


def _line_of(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def _package(frame: FrameType, depth: int = 1) -> str:
    return ".".join(str(frame.f_globals.get("__name__", "")).split(".")[:depth])


def _indented(by: int, lines: Iterable[str]) -> list[str]:
    return [" " * by + line for line in lines]
