"""What the command line shows of long waits, and how it takes Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import environment, has_rich, without_rich
from support import LIMIT, python, until

SHOWS = """
import os, sys
from waitkit import path_exists, wait_for
from waitkit.cli.progress import LongWaits
with LongWaits("1ms"):
    wait_for(path_exists(sys.argv[1]), None)
print("held", file=sys.stderr)
"""


class Terminal:
    """A program whose stderr is a terminal, and what it wrote there."""

    def __init__(self, code: str, *words: str, env: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, *words], stderr=theirs, env={**env, "TERM": "xterm"}
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self._seen = b""

    def text(self) -> str:
        try:
            while chunk := os.read(self._ours, 65_536):
                self._seen += chunk
        except BlockingIOError:
            pass
        except OSError:  # how a terminal ends
            pass
        return self._seen.decode()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(LIMIT)
        os.close(self._ours)


@pytest.mark.parametrize("rich", [True, False], ids=["rich", "plain"])
def test_at_a_terminal(tmp_path: Path, rich: bool) -> None:
    """At a terminal rich keeps one line that goes away with its wait; without rich plain lines say the same."""
    assert has_rich(), "the tests of the live line need rich"
    env = environment() if rich else environment(without_rich(tmp_path / "plain"))
    flag = tmp_path / "flag"
    terminal = Terminal(SHOWS, str(flag), env=env)
    try:
        until(lambda: terminal.text().count("waiting for") >= 3, "three reports")
        flag.touch()
        until(lambda: "held\r\n" in terminal.text(), "the end of the wait")
        assert terminal.process.wait(LIMIT) == 0
        text = terminal.text()
    finally:
        terminal.close()
    assert "waiting for" in text and "to exist" in text
    assert ("\x1b[2K" in text) is rich  # erase the line
    if rich:
        assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is shown again"
        assert text.rindex("\x1b[2K") < text.rindex("held")
    else:
        assert "\x1b" not in text


def test_not_a_terminal(tmp_path: Path) -> None:
    """Elsewhere there are plain lines, ever fewer, without control characters, though rich is there."""
    flag = tmp_path / "flag"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", SHOWS, str(flag)], stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stderr is not None
    lines = [process.stderr.readline() for _ in range(4)]
    flag.touch()
    lines += process.stderr.readlines()
    process.stderr.close()
    assert process.wait(LIMIT) == 0
    assert lines[-1] == "held\n"
    assert all(
        re.fullmatch(r"waiting for .*flag to exist: [\d.]+ m?s, \d+ looks, last: No such file or directory\n", line)
        for line in lines[:-1]
    )
    looks = [int(re.search(r"(\d+) looks", line)[1]) for line in lines[:-1]]  # type: ignore[index]
    assert looks == sorted(set(looks))
    assert looks[3] >= looks[1] + 2, "each line comes when the wait has lasted twice as long"


def test_rich_is_imported_when_there_is_something_to_show(tmp_path: Path) -> None:
    """A wait that ends at once does not pay for rich, at a terminal either."""
    code = """
import sys
from waitkit import path_exists, wait_for
from waitkit.cli.progress import LongWaits
with LongWaits("1h"):
    wait_for(path_exists(sys.argv[1]), None)
print("rich" if "rich" in sys.modules else "lean", file=sys.stderr)
"""
    terminal = Terminal(code, str(tmp_path), env=environment())
    try:
        assert terminal.process.wait(LIMIT) == 0
        assert terminal.text() == "lean\r\n"
    finally:
        terminal.close()


def test_waits_of_other_threads_are_not_shown() -> None:
    """Only waits of the thread that shows them are shown: others may last as long as the program."""
    done = python(
        """
        import threading
        from waitkit import Event, subscribe, wait_for
        from waitkit.cli.progress import LongWaits
        reported, over = threading.Event(), Event("the other")
        def told(record):
            reported.set()
        with LongWaits("1ms"), subscribe(on_progress=told, progress_after="1ms"):
            other = threading.Thread(target=wait_for, args=(over, None))
            other.start()
            reported.wait()
            over.set()
            other.join()
        """
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_nobody_reads_the_progress() -> None:
    """A reader of stderr that goes away does not end the wait, and no traceback takes its place."""
    done = python(
        """
        import os, sys
        from waitkit import wait_for
        from waitkit.cli.progress import LongWaits
        reading, writing = os.pipe()
        os.close(reading)
        kept = os.dup(2)
        os.dup2(writing, 2)
        looks = []
        with LongWaits("1ms"):
            wait_for(lambda: len(looks) > 40 or looks.append(1), None)
        os.dup2(kept, 2)
        print(len(looks))
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "41\n", "")


SWALLOWED = """
import os, signal, sys
from waitkit import Event, wait_for
from waitkit.cli.interrupts import interruptible
class Swallows:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(10_000):
            pass
{hook}
try:
    with interruptible() as scope:
        Swallows()
        print(scope.cancel_called)
        wait_for(Event(), None)
except KeyboardInterrupt:
    print("interrupted", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


@pytest.mark.parametrize(
    ("hook", "told"),
    [('sys.unraisablehook = lambda _: print("swallowed")', "swallowed\n"), ("", "")],
    ids=["a hook", "none"],
)
def test_a_swallowed_ctrl_c_still_ends_the_block(hook: str, told: str) -> None:
    """Where Python drops the KeyboardInterrupt, as in a finalizer, the next wait ends, and the block is left by it.

    A hook of the program hears of what was dropped; otherwise nothing is printed of it.
    """
    done = python(SWALLOWED.format(hook=hook))
    assert (done.stdout, done.stderr) == (f"{told}True\ninterrupted True\n", "")


def test_a_block_that_was_not_interrupted() -> None:
    """Without Ctrl-C the block changes nothing, and puts the handler back; one that is not Python's own it leaves alone."""
    done = python(
        """
        import os, signal
        from waitkit.cli.interrupts import interruptible
        with interruptible() as scope:
            pass
        print(scope.cancel_called, signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        signal.signal(signal.SIGINT, lambda *_: print("their own"))
        with interruptible() as scope:
            os.kill(os.getpid(), signal.SIGINT)
        print(scope.cancel_called)
        """
    )
    assert done.stdout == "False True\ntheir own\nFalse\n"
