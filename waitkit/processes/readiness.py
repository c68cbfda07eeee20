"""A process that is ready, as a condition: the user's own, with what the process wrote in its errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from waitkit.conditions.condition import Condition
from waitkit.processes.output import Output
from waitkit.waits.watching import Context, Verdict, Watch

__all__ = ["Ready"]


class Ready(Condition[Any]):
    """A process that is ready: as *ready* says, with the end of its output in errors."""

    def __init__(self, ready: Condition[Any], name: str, output: Output) -> None:
        self._ready = ready
        self._name = name
        self._output = output

    @property
    def what(self) -> str:
        return f"{self._name} to be ready: {self._ready.what}"

    def watch(self, context: Context) -> Watch:
        return _ReadyWatch(self._ready.watch(context), self._output)


class _ReadyWatch(Watch):
    __slots__ = ("_inner", "_output")

    def __init__(self, inner: Watch, output: Output) -> None:
        self._inner = inner
        self._output = output

    @property
    def may_block(self) -> bool:
        return self._inner.may_block

    def arm(self, wake: Callable[[], None]) -> None:
        self._inner.arm(wake)

    def look(self, now: int) -> Verdict:
        return self._inner.look(now)

    def close(self) -> None:
        self._inner.close()

    def seen(self) -> str:
        return self._inner.seen()

    def error(self) -> Exception | None:
        return self._inner.error()

    def explain(self) -> Sequence[str]:
        tail = self._output.tail()
        return [*self._inner.explain(), tail or "it wrote nothing"]
