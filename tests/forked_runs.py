"""Runs of a program in forks of a process that has done its imports: see :mod:`zygote`."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from support import LIMIT, ROOT

from waitkit import readable, wait_for


class Zygote:
    """The process that forks for the runs of one program; it is started with the first of them, and ends with this process."""

    def __init__(self, module: str, imported: Sequence[str]) -> None:
        self._command = [sys.executable, "-P", str(Path(__file__).with_name("zygote.py")), module, *imported]
        self._module = module
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # of now: not what a test changes of it
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, args: Sequence[str], environment: Mapping[str, str], folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the program to its end, with an empty stdin, in a folder; ``None``: in ours."""
        with TemporaryDirectory() as written:
            streams = {name: Path(written, name) for name in ("stdout", "stderr")}
            request = {"args": args, "environment": environment, "folder": str(folder or Path.cwd())}
            code = self._ask(request | {name: str(path) for name, path in streams.items()})
            told = {name: path.read_text() for name, path in streams.items()}
        return subprocess.CompletedProcess(args, code, **told)

    def _ask(self, request: dict[str, object]) -> int:
        process = self._process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        try:
            wait_for(readable(process.stdout), 2 * LIMIT, message=f"a run of {self._module}")
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            self._process = None
            raise
        return int(process.stdout.readline())

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
            env=self._environment,
        )
        atexit.register(process.__exit__, None, None, None)  # it ends when there is nothing to read for it any more
        return process
