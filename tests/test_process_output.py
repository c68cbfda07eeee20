"""What a managed process writes: read all the time, kept up to a bound, told in errors."""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import children
import psutil
import pytest
from children import LONG, START_METHODS, no_descriptor_left, nothing_left, program  # noqa: F401
from support import Running

from waitkit import WaitFailed, all_of, managed_process, output_matches, path_exists, port_listening, wait_for
from waitkit.engine.descriptors import watch_descriptor
from waitkit.processes import output

pytestmark = pytest.mark.usefixtures("nothing_left")

KEPT = 262_144


@pytest.mark.parametrize("start_method", START_METHODS)
def test_megabytes_to_both_streams_of_a_callable(start_method: str) -> None:
    """A callable that writes megabytes before it is ready does not block on its pipes; the end is kept, up to a bound."""
    with managed_process(
        children.write_much, 4, ready="event", ready_timeout=LONG, start_method=start_method
    ) as process:
        wait_for(lambda: process.output.stdout.endswith("all written\n"), LONG)
        wait_for(lambda: process.output.stderr.endswith("all written\n"), LONG)
        assert len(process.output.stdout) == len(process.output.stderr) == KEPT


def test_megabytes_of_a_program_that_then_ends() -> None:
    """A program that writes megabytes to both streams and ends is not held up, and its last words are there."""
    code = "import os\nfor _ in range(64):\n os.write(1, b'o' * 65_536); os.write(2, b'e' * 65_536)\nprint('end')"
    with managed_process(program(code)) as process:
        assert wait_for(process.exited, LONG).code == 0
    assert process.output.stdout.endswith("oooend\n")
    assert process.output.stderr == "e" * KEPT
    assert len(process.output.stdout) == KEPT


def test_streams_are_apart() -> None:
    """Standard output and standard error are kept apart, and complete when the block is left."""
    with managed_process(["sh", "-c", "echo out; echo err >&2"]) as process:
        wait_for(process.exited, LONG)
    assert (process.output.stdout, process.output.stderr) == ("out\n", "err\n")


def test_readable_while_it_runs() -> None:
    """What was written so far can be read while the process runs, and a Python child holds nothing back."""
    code = "import signal\nprint('so far')\nsignal.pause()"
    with managed_process(program(code)) as process:
        wait_for(lambda: process.output.stdout == "so far\n", LONG)


def test_print_of_a_forked_callable_is_caught_though_stdout_was_replaced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What a forked callable prints goes to its own output, not into an object that replaced ``sys.stdout`` here."""
    with managed_process(children.leave, 0, start_method="fork") as process:
        wait_for(process.exited, LONG)
    assert process.output.stdout == "the last word to stdout\n"
    assert process.output.stderr == "the last word to stderr\n"
    assert capsys.readouterr() == ("", "")


def test_bytes_that_are_no_text() -> None:
    """Bytes that are no UTF-8 are replaced, not an error; a letter that was read in two halves is whole."""
    code = "import os\nos.write(1, b'\\xff\\xfe ok \\xc3'); os.write(1, b'\\xbc\\n')"
    with managed_process(program(code)) as process:
        wait_for(process.exited, LONG)
    assert process.output.stdout == "\ufffd\ufffd ok ü\n"


@contextmanager
def nobody_reads() -> Iterator[None]:
    """The one thread that reads for all processes is kept from it, as a busy machine keeps it now and then."""
    reading, writing = os.pipe()
    occupied, free = threading.Event(), threading.Event()

    def occupy() -> None:
        occupied.set()
        wait_for(free, LONG)

    watch_descriptor(reading, occupy)
    os.write(writing, b"x")
    try:
        wait_for(occupied, LONG)
        yield
    finally:
        free.set()
        os.close(writing)
        os.close(reading)


def test_last_words_are_in_the_error_though_nobody_has_read_them_yet() -> None:
    """What a process wrote right before it ended is in the error, also where the thread that reads is behind."""
    never = port_listening(children.fresh_port())  # looked at in the waiting thread, which so sees the end by itself
    with nobody_reads(), pytest.raises(WaitFailed) as caught:
        managed_process(["sh", "-c", "echo to stdout; echo to stderr >&2; exit 3"], ready=never).start()
    assert "    to stdout" in str(caught.value)
    assert "    to stderr" in str(caught.value)


def test_last_words_are_complete() -> None:
    """What a process writes last, right before it ends, is in the error, every time."""
    code = "import os; os.write(1, b'x' * 200_000 + b'\\nlast of stdout\\n'); os.write(2, b'last of stderr\\n'); os._exit(3)"
    for _ in range(25):
        with pytest.raises(WaitFailed) as caught:
            managed_process(program(code), ready=lambda: False, ready_timeout=None).start()
        assert "last of stdout" in str(caught.value)
        assert "last of stderr" in str(caught.value)


def test_match_that_came_long_before_the_rest_of_readiness(tmp_path: Path) -> None:
    """A line that was written first counts when the rest of readiness comes, though much more was written in between."""
    path = tmp_path / "later"
    code = (
        "import signal, sys\nprint('READY')\nfor _ in range(400): print('x' * 999)\n"
        "open(sys.argv[1], 'w')\nsignal.pause()"
    )
    ready = all_of(output_matches("READY"), path_exists(path))
    with managed_process([*program(code), str(path)], ready=ready, ready_timeout=LONG) as process:
        assert len(process.output.stdout) == KEPT


@pytest.mark.skipif(sys.platform != "linux", reason="F_SETPIPE_SZ is of Linux")
def test_match_in_a_flood() -> None:
    """A line is found though more than is kept came with it at once, before anybody read a byte of it."""
    code = (
        "import fcntl, os, signal\nfcntl.fcntl(1, 1031, 1 << 20)\n"
        "os.write(1, b'READY\\n' + b'x' * 900_000)\nos.write(2, b'!')\nsignal.pause()"
    )
    process = managed_process(program(code))
    try:
        with nobody_reads():
            process.start()
            wait_for(lambda: process.output.stderr == "!", LONG)
            assert process.wait_for_output("READY", LONG)
    finally:
        process.stop()


@pytest.mark.parametrize("before", [0, 1, KEPT - 2, 2 * KEPT - 2, 2 * KEPT + 1, 3 * KEPT - 2, 5 * KEPT])
@pytest.mark.parametrize("room", [65_536, 1_000])
def test_search_misses_nothing(before: int, room: int) -> None:
    """Wherever a match lies in what is written, and however that is read, a search has it that is asked at the very end."""
    text = memoryview(b"x" * before + b"one\ntwo" + b"y" * (4 * KEPT))
    reading, writing = os.pipe()
    stream = output.Stream("stdout", reading)
    searches = [output.Search(re.compile(pattern)) for pattern in ("one\ntwo", "^[xo]", "^[y1]", "(?m)^two")]
    for search in searches:
        stream.begin_search(search)
    stream.forget_what_is_old()
    for start in range(0, len(text), room):
        os.write(writing, text[start : start + room])
        stream._read()
    os.close(writing)
    found = [stream.found_by(search) for search in searches]
    stream.finish()
    assert [match and match[0] for match in found] == ["one\ntwo", "x" if before else "o", None, "two"]
    assert len(stream._kept) <= 2 * KEPT
    assert len(stream.text()) == KEPT


def test_all_is_searched_that_is_written_before_the_search_begins() -> None:
    """What is written between the launch and the beginning of the wait for readiness is searched, too."""
    reading, writing = os.pipe()
    stream = output.Stream("stdout", reading)
    for _ in range(20):
        os.write(writing, b"READY".ljust(65_536, b"x"))
        stream._read()
    search = output.Search(re.compile("^READY"))
    stream.begin_search(search)
    stream.forget_what_is_old()
    os.close(writing)
    assert len(stream._kept) == KEPT
    assert stream.found_by(search)
    del search
    stream.finish()
    assert not stream._searches


def test_tail() -> None:
    """The tail has the last lines of each stream under its name, no more than asked for."""
    code = "import sys\nfor n in range(30): print('line', n)\nprint('only one', file=sys.stderr)"
    with managed_process(program(code)) as process:
        wait_for(process.exited, LONG)
    assert process.output.tail(2) == (
        "the end of its stdout:\n    line 28\n    line 29\nthe end of its stderr:\n    only one"
    )
    assert len(process.output.tail().splitlines()) == 13


def test_tail_of_nothing() -> None:
    """Where nothing was written the tail is empty."""
    with managed_process(["true"]) as process:
        wait_for(process.exited, LONG)
    assert process.output.tail() == ""


def test_output_outlives_the_process() -> None:
    """After the block the output is still there, and the descriptors are not."""
    with no_descriptor_left():
        with managed_process(["sh", "-c", "echo still here"]) as process:
            wait_for(process.exited, LONG)
        assert process.output.stdout == "still here\n"
        assert process.stop() == 0


def test_one_that_writes_without_end_does_not_starve_others() -> None:
    """While a process writes as fast as it can, the end of another one is heard, and both can be stopped."""
    with managed_process(["yes"]) as loud:
        wait_for(lambda: len(loud.output.stdout) == KEPT, LONG)
        with managed_process(["sh", "-c", "echo quiet; exit 4"]) as quiet:
            assert wait_for(quiet.exited, LONG).code == 4
        assert quiet.output.stdout == "quiet\n"


def test_descendant_that_escaped_and_writes_does_not_hold_up_the_end() -> None:
    """Descendants in sessions of their own that write without end to the pipes of a process do not keep it from ending."""
    code = "for n in 1 2 3 4; do setsid yes & echo $! >&2; done; exec sleep infinity"
    with managed_process(["bash", "-c", code]) as process:
        wait_for(lambda: process.output.stderr.count("\n") == 4, LONG)
        escaped = [psutil.Process(int(pid)) for pid in process.output.stderr.split()]
    # The pipe has no reader any more, so their next write ends them.
    for other in escaped:
        try:
            wait_for(other, LONG)
        finally:
            children.end(other.pid)


def test_standard_input_is_empty() -> None:
    """A program that reads its standard input finds the end of it, not our terminal."""
    with managed_process(["cat"]) as process:
        assert wait_for(process.exited, LONG).code == 0


def test_output_awaited_in_a_loop() -> None:
    """A task waits for output while its loop goes on, is woken by it, and hears of the end of the process."""

    async def main() -> None:
        async with managed_process(["sh", "-c", "echo one; exec sleep 1000"]) as process:
            assert (await process.wait_for_output_async("o(.)e", LONG))[1] == "n"
            other = asyncio.ensure_future(process.wait_for_output_async("two", None))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not other.done()
            process.send_signal(9)
            with pytest.raises(
                WaitFailed, match="to write what matches 'two', as first came sh.*waited at .*test_process_output.py"
            ):
                await other
        with pytest.raises(TypeError, match="pattern"):
            await process.wait_for_output_async(3)  # type: ignore[arg-type]

    asyncio.run(main())


def test_started_stopped_and_restarted_in_a_loop() -> None:
    """The twins of start, stop and restart do the same without blocking the loop."""

    async def main() -> None:
        process = managed_process(["sh", "-c", "echo up; exec sleep 1000"], ready=output_matches("up"))
        assert await process.stop_async() is None
        assert await process.start_async() is process
        first = process.pid
        assert await process.restart_async() is process
        assert process.pid != first
        with pytest.raises(RuntimeError, match="is running already"):
            await process.start_async()
        assert await process.stop_async() == -signal.SIGTERM

    asyncio.run(main())


def test_output_that_somebody_else_has_taken(tmp_path: Path) -> None:
    """Who reads output in passing wakes those who wait for it: no event of the system will do that any more."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with managed_process(["sh", "-c", "read _ < $0; echo up; exec sleep 1000", str(gate)]) as process:
        stream = process.output.streams("stdout")[0]
        waiting = Running(process.wait_for_output, "up", None)
        wait_for(lambda: len(stream.changed) == 1, LONG)  # it has subscribed, looks once more, and rests
        with nobody_reads():
            gate.write_text("go\n")
            wait_for(lambda: select.select([stream._pipe], [], [], 0)[0], LONG)
            assert process.output.stdout == "up\n"
            wait_for(waiting.thread, LONG)
        assert waiting.result()[0] == "up"  # type: ignore[index]
