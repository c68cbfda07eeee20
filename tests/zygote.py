"""A process that has done the imports of a program, and forks for each run of it: the imports take longer than most runs.

``python zygote.py MODULE IMPORTED...`` reads a line of JSON for each run of ``python -m MODULE``, and answers with its exit
code. Who asks is :mod:`forked_runs`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import sys


def run(module: str, request: dict[str, object]) -> None:
    """In the forked child: become a fresh ``python -m`` of the module."""
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
    sys.argv = [module, *request["args"]]  # type: ignore[misc]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> None:
    """Fork for each line; end with the last one."""
    module, *imported = sys.argv[1:]
    for name in imported:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # no child looks through all this again
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    while line := sys.stdin.readline():
        pid = os.fork()
        if pid == 0:
            answers.close()
            run(module, json.loads(line))
            return
        _, status = os.waitpid(pid, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")


if __name__ == "__main__":
    main()
