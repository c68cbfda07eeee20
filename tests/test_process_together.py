"""``started``: several processes side by side."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from children import LONG, no_descriptor_left, nothing_left, own_children  # noqa: F401
from support import ctrl_c_when

from waitkit import (
    Cancelled,
    CancelScope,
    ManagedProcess,
    WaitFailed,
    WaitTimeout,
    managed_process,
    output_matches,
    started,
)

pytestmark = pytest.mark.usefixtures("nothing_left")

STAY = ["sleep", "infinity"]


def meeting(folder: Path, number: int, of: int) -> ManagedProcess:
    """A process that is ready only once all the others have been launched: one after the other would never end."""
    others = " ".join(f"{folder}/{other}" for other in range(of))
    code = f"touch {folder}/{number}; until ls {others} >/dev/null 2>&1; do sleep 0.01; done; echo met; exec sleep 1000"
    return managed_process(["sh", "-c", code], ready=output_matches("met"), ready_timeout=LONG)


def failing(code: int) -> ManagedProcess:
    """A process that ends before it is ready."""
    return managed_process(["sh", "-c", f"echo word {code} >&2; exit {code}"], ready=lambda: False, ready_timeout=None)


def never() -> ManagedProcess:
    """A process that is never ready."""
    return managed_process(STAY, ready=output_matches("never"), ready_timeout=None)


def test_side_by_side(tmp_path: Path) -> None:
    """All are launched before any has to be ready, and all are gone after the block."""
    with started(*(meeting(tmp_path, number, 8) for number in range(8))) as processes:
        assert len({process.pid for process in processes}) == 8
        assert all(process.exit_code is None for process in processes)
    assert [process.exit_code for process in processes] == [-signal.SIGTERM] * 8


def test_side_by_side_in_a_loop(tmp_path: Path) -> None:
    """The same in an event loop."""

    async def main() -> None:
        async with started(*(meeting(tmp_path, number, 5) for number in range(5))) as processes:
            assert all(process.exit_code is None for process in processes)
        assert [process.exit_code for process in processes] == [-signal.SIGTERM] * 5

    asyncio.run(main())


def test_one_that_fails() -> None:
    """Where one fails the others are ended, those that were ready too, and the error is that of the one."""
    ready, waiting = managed_process(STAY), never()
    with no_descriptor_left():
        with pytest.raises(WaitFailed, match=r"exit code 3") as caught:
            with started(ready, waiting, failing(3)):
                raise AssertionError("not all are ready")
        assert "    word 3" in str(caught.value)
        assert ready.exit_code == waiting.exit_code == -signal.SIGTERM
    assert own_children() == []


def test_one_that_fails_in_a_loop() -> None:
    """The same in an event loop."""
    ready, waiting = managed_process(STAY), never()

    async def main() -> None:
        async with started(ready, waiting, failing(3)):
            raise AssertionError("not all are ready")

    with pytest.raises(WaitFailed, match=r"exit code 3"):
        asyncio.run(main())
    assert ready.exit_code == waiting.exit_code == -signal.SIGTERM


def test_one_that_cannot_be_launched() -> None:
    """A program that does not exist ends the others, and is told of as ever."""
    first = managed_process(STAY)
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        with started(first, managed_process(["no-such-program"]), never()):
            pass
    assert first.exit_code == -signal.SIGTERM


def test_several_that_fail() -> None:
    """Where several fail in one and the same moment, the group has an error of each."""
    processes = [managed_process(["no-such-program"]), managed_process(["no-such-either"]), never()]
    with pytest.raises(ExceptionGroup, match="2 processes failed") as caught:
        with started(*processes):
            pass
    assert [type(error) for error in caught.value.exceptions] == [FileNotFoundError] * 2


def test_one_that_times_out() -> None:
    """Each keeps its own time, and the first that is over ends the others."""
    late = managed_process(STAY, ready=output_matches("never"), ready_timeout="100ms")
    waiting = never()
    with pytest.raises(WaitTimeout, match=r"waiting for sleep \(pid \d+\) to be ready: its output to match 'never'"):
        with started(waiting, late):
            pass
    assert waiting.exit_code == -signal.SIGTERM


def test_one_that_runs_already() -> None:
    """A process that runs already is refused, and goes on; the others are ended."""
    with managed_process(STAY) as running:
        other = managed_process(STAY)
        with pytest.raises(RuntimeError, match="is running already"):
            with started(other, running):
                pass
        assert running.exit_code is None
        assert other.exit_code == -signal.SIGTERM


def test_interrupt_while_they_become_ready() -> None:
    """Ctrl-C while they become ready ends all of them, and goes on."""
    processes = [never() for _ in range(3)]

    with ctrl_c_when(lambda: all(process._life is not None for process in processes)):
        with pytest.raises(KeyboardInterrupt), started(*processes):
            pass
    assert [process.exit_code for process in processes] == [-signal.SIGTERM] * 3


def test_scope_that_is_cancelled() -> None:
    """A scope around ends the start of all of them."""
    scope = CancelScope("100ms")
    processes = [never() for _ in range(3)]
    with scope, started(*processes):
        raise AssertionError("never ready")
    assert scope.cancelled_caught
    assert [process.exit_code for process in processes] == [-signal.SIGTERM] * 3
    assert issubclass(Cancelled, BaseException)


def test_exception_in_the_block() -> None:
    """A block that raises ends all of them, one that ignores the stop signal too, and the exception comes through."""
    deaf = managed_process(
        ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.01; done"],
        ready=output_matches("up"),
        stop_timeout="100ms",
    )
    polite = managed_process(STAY)
    with pytest.raises(LookupError, match="in the block"):
        with started(deaf, polite):
            raise LookupError("in the block")
    assert (deaf.exit_code, polite.exit_code) == (-signal.SIGKILL, -signal.SIGTERM)


def test_mistakes() -> None:
    """What is no process is refused when it is written, and so is one given twice, or none."""
    process = managed_process(STAY)
    with pytest.raises(TypeError, match=r"\['true'\] is no process"):
        started(["true"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="given twice"):
        started(process, process)
    with pytest.raises(TypeError, match="at least one"):
        started()
