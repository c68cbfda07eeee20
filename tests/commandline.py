"""What the tests of the command line share: the command as a real process, whose lines can be awaited."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import IO, Self

import psutil
from forked_runs import Zygote
from support import LIMIT, ROOT, until

import waitkit
from waitkit import WaitTimeout, wait_for
from waitkit.cli.main import main

#: The two ways in: the module, and what the script ``waitkit`` calls. -P: not from the working directory;
#: -S: without what installed packages do at each start, as :func:`environment` says where all is found.
MODULE = [sys.executable, "-P", "-S", "-m", "waitkit"]
#: The module in a Python that does all of that, as it needs for :func:`without_rich`.
WITH_SITE = [word for word in MODULE if word != "-S"]
ENTRY = [sys.executable, "-P", "-S", "-c", "import sys; from waitkit.cli.main import main; sys.exit(main())"]

_WHERE_WE_ARE = [str(Path(waitkit.__file__).parent.parent), *(path for path in sys.path if path)]


def environment(*first: Path | str, **more: str) -> dict[str, str]:
    """Our environment, for a process that finds waitkit where we do; *first* comes before that."""
    path = os.pathsep.join([*map(str, first), *_WHERE_WE_ARE])
    bare = {
        name: value for name, value in os.environ.items() if name not in ("WAITKIT_TIMEOUT_SCALE", "PYTHONUNBUFFERED")
    }
    return {**bare, "PYTHONPATH": path, "COLUMNS": "100", **more}


#: For a command whose progress a test awaits: what is told after a second is told after 50 ms.
TOLD_SOON = environment(WAITKIT_TIMEOUT_SCALE="0.05")


def demo_site(folder: Path, demo: Path | None = ROOT / "examples" / "rpc_service") -> Path:
    """A folder to import waitkit from, with *demo* as its demo: in a checkout that is not installed there is none."""
    package = folder / "waitkit"
    package.mkdir(parents=True)
    for entry in Path(waitkit.__file__).parent.iterdir():
        if entry.name not in ("__pycache__", "demo"):
            (package / entry.name).symlink_to(entry)
    if demo is not None:
        (package / "demo").symlink_to(demo)
    return folder


def without_rich(folder: Path) -> Path:
    """A folder that makes rich unimportable for a Python that has it on its path."""
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['rich'] = None\n")
    return folder


def has_rich() -> bool:
    return importlib.util.find_spec("rich") is not None


def run(
    *words: object, env: Mapping[str, str] | None = None, way: list[str] = MODULE
) -> subprocess.CompletedProcess[str]:
    """Run ``waitkit`` with these arguments to its end: with an environment or in a way of its own in a fresh interpreter."""
    if env is None and way is MODULE:
        return _waitkit.run(list(map(str, words)), environment())
    return subprocess.run(
        [*way, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        stdin=subprocess.DEVNULL,
        env=environment() if env is None else dict(env),
    )


_waitkit = Zygote("waitkit", [f"waitkit.cli.{name}" for name in ("main", "wait", "run", "port", "holds")])


def run_here(*words: object) -> subprocess.CompletedProcess[str]:
    """Run ``waitkit`` in this process, for arguments that are refused: nothing of a process matters then but its exit code."""
    out, err = io.StringIO(), io.StringIO()
    argv = list(map(str, words))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code: object = main(argv)
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def shell(line: str, **variables: object) -> subprocess.CompletedProcess[str]:
    """Run a line of ``sh``, in which ``$waitkit`` is the command, unquoted."""
    return subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        stdin=subprocess.DEVNULL,
        env=environment(waitkit=" ".join(MODULE), **{name: str(value) for name, value in variables.items()}),
    )


class Lines:
    """The lines of a stream, as they come."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stream:
            self.lines.append(line)

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def saw(self, words: str) -> str:
        """Wait for a line that contains *words*, and give it back."""
        found = wait_for(
            lambda: next((line for line in self.lines if words in line), None),
            LIMIT,
            message=lambda _: f"{words!r} in {self.text!r}",
        )
        return found.rstrip("\n")

    def close(self) -> None:
        self._thread.join(LIMIT)
        assert not self._thread.is_alive(), "somebody holds the stream open"
        self._stream.close()


class Command:
    """``waitkit`` as it runs, in a session of its own; whatever is left of it is killed at the end of the block."""

    def __init__(
        self, *words: object, env: Mapping[str, str] | None = None, way: list[str] = MODULE, **options: object
    ) -> None:
        self.process = subprocess.Popen(
            [*way, *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=environment() if env is None else dict(env),
            **options,
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        self.out, self.err = Lines(self.process.stdout), Lines(self.process.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()  # what it runs is to end with it
            try:
                wait_for(self.process, LIMIT)
            except WaitTimeout:
                self.process.kill()
        wait_for(self.process, LIMIT)
        for stream in (self.out, self.err):
            stream.close()

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end, and for that of its streams; its exit code, or minus the signal."""
        code = wait_for(self.process, LIMIT, message=lambda _: f"the end of it: {self.out.text}{self.err.text}").code
        assert code is not None
        for stream in (self.out, self.err):
            stream._thread.join(LIMIT)
        return code


def session(leader: int) -> list[psutil.Process]:
    """The living processes of a session."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@contextmanager
def nobody_left(command: Command) -> Iterator[None]:
    """Fail where a process of the command's session outlives the block."""
    yield
    until(lambda: not session(command.process.pid), "all processes of the command to end")
