"""Exits out of hooks and conditions: they end a poller as one out of a run does, and leave nothing behind."""

from __future__ import annotations

import asyncio
import threading

import pytest
from support import LIMIT, Running, until

from waitkit import http_ok, polling, reserved_port
from waitkit.conditions.condition import as_condition


def leave(*_: object) -> None:
    """A hook or a condition that ends the program."""
    raise SystemExit(3)


def leave_as_a_condition() -> bool:
    raise SystemExit(3)


def fail() -> None:
    """A run that fails, so that hooks are called."""
    raise OSError("down")


async def fail_in_a_loop() -> None:
    """The same of a coroutine function."""
    raise OSError("down")


EXITS = [
    pytest.param({"on_error": leave}, id="on_error"),
    pytest.param({"stop_on": leave}, id="stop_on"),
    pytest.param({"until": leave_as_a_condition}, id="until"),
    pytest.param({"trigger": leave_as_a_condition}, id="trigger"),
]


def assert_ended_by_the_exit(poller, caplog) -> None:
    """It has stopped for good, knows why, and has said so once."""
    poller.stop(LIMIT)
    assert poller._machine.ended
    assert poller.state == "stopped"
    assert isinstance(poller.error, SystemExit)
    assert [record.message for record in caplog.records if "ended by" in record.message] == [
        f"{poller.name}: ended by SystemExit"
    ]


@pytest.mark.parametrize("options", EXITS)
def test_an_exit_ends_it(options, caplog):
    """join() raises the exit of a hook or a condition, stop() returns, and the triggers know the poller no longer."""
    event = threading.Event()
    options = {**options, "trigger": (event, options["trigger"]) if "trigger" in options else event}
    poller = polling(fail, "1ms", **options).start()
    with pytest.raises(SystemExit):
        poller.join(LIMIT)
    assert_ended_by_the_exit(poller, caplog)
    assert poller.runs <= 1
    assert len(event._cond._waiters) == 0


@pytest.mark.parametrize("options", EXITS)
def test_the_block_can_be_left(options):
    """The end of a with block raises the exit, instead of waiting for ever."""

    def block() -> None:
        with polling(fail, "1ms", **options) as poller:
            until(poller.stopped)

    with pytest.raises(SystemExit):
        Running(block).result()


def test_an_exit_while_a_run_hangs(caplog):
    """Where on_hang exits, the run that hangs is the last one, and is waited for."""
    gate = threading.Event()
    poller = polling(lambda: gate.wait(LIMIT), "1ms", hang_after="1ms", on_hang=leave).start()
    until(lambda: "ended by SystemExit" in caplog.text)
    assert poller.state == "stopping"
    stopping = Running(poller.stop)
    assert stopping.thread.is_alive()
    gate.set()
    stopping.result()
    with pytest.raises(SystemExit):
        poller.join(LIMIT)
    assert_ended_by_the_exit(poller, caplog)
    assert poller.runs == 1


@pytest.mark.parametrize("options", EXITS)
def test_in_a_loop_it_goes_on_to_the_loop(options, caplog):
    """The exit ends the loop as that of a run does, though its main task waits for something else."""
    pollers = []

    async def main() -> None:
        pollers.append(polling(fail_in_a_loop, "1ms", **options).start())
        await asyncio.wait_for(asyncio.Future(), LIMIT)

    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert_ended_by_the_exit(pollers[0], caplog)


def test_an_exit_in_a_look_outside_of_the_loop(caplog):
    """A condition that is looked at in a worker, as it may block, ends the loop of its poller all the same."""
    pollers = []

    async def main(port: int) -> None:
        either = http_ok(f"http://localhost:{port}/") | as_condition(leave_as_a_condition)
        pollers.append(polling(fail_in_a_loop, "1ms", trigger=either).start())
        await asyncio.wait_for(asyncio.Future(), LIMIT)

    with reserved_port() as port, pytest.raises(SystemExit):
        asyncio.run(main(port))
    assert_ended_by_the_exit(pollers[0], caplog)


def test_an_exit_while_a_coroutine_hangs():
    """Where on_hang exits, which is called in a thread of its own, the loop of the poller ends, and its run is cancelled."""
    pollers = []

    async def hang() -> None:
        await asyncio.Future()

    async def main() -> None:
        pollers.append(polling(hang, "1ms", hang_after="1ms", on_hang=leave).start())
        await asyncio.wait_for(asyncio.Future(), LIMIT)

    with pytest.raises(SystemExit):
        asyncio.run(main())
    pollers[0].stop(LIMIT)
    assert isinstance(pollers[0].error, SystemExit)
    assert pollers[0].runs == 1


@pytest.mark.parametrize("by", ["trigger", "on_error"])
def test_a_step_can_stop_its_own_poller(by):
    """A condition, or the hook that hears of its error, stops its poller without waiting for itself."""

    def condition() -> bool:
        if by == "trigger":
            poller.stop()
        raise KeyError

    poller = polling(fail, "1h", first_delay="1h", trigger=condition, on_error=lambda _: poller.stop())
    assert poller.start().join(LIMIT).runs == 0
    until(lambda: poller._machine.ended)


def test_stop_inside_on_hang() -> None:
    """on_hang may stop its own poller: it does not wait there for the run that hangs."""
    gate, stopped = threading.Event(), threading.Event()

    def stop(_: object) -> None:
        poller.stop()
        stopped.set()

    poller = polling(lambda: gate.wait(LIMIT), "1ms", hang_after="1ms", on_hang=stop).start()
    assert stopped.wait(LIMIT)
    assert poller.state == "stopping"
    gate.set()
    poller.join(LIMIT)
