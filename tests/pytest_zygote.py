"""A process that has imported pytest, and forks for each run of it: the import takes longer than most of these runs.

It reads a line of JSON for each run, and answers with its exit code. Nothing of waitkit is imported before the fork.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

import pytest
from _pytest.config import default_plugins


def run(request: dict[str, object]) -> None:
    """In the forked child: become a fresh ``python -m pytest``."""
    streams = [open(os.devnull)] + [open(request[name], "w") for name in ("stdout", "stderr")]  # type: ignore[arg-type]  # noqa: SIM115
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
        stream.close()
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[arg-type]
    os.chdir(request["folder"])  # type: ignore[arg-type]
    sys.path.insert(0, os.getcwd())
    sys.stdin = open(0)  # noqa: SIM115
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115
    sys.argv = ["pytest", *request["args"]]  # type: ignore[misc]
    raise SystemExit(pytest.main())


def main() -> None:
    """Fork for each line; end with the last one."""
    for name in default_plugins:
        importlib.import_module(f"_pytest.{name}")
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            answers.close()
            run(json.loads(line))
        _, status = os.waitpid(pid, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")


if __name__ == "__main__":
    main()
