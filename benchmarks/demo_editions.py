"""The tests of the example service in two editions, one that sleeps and one that waits: what ``waitkit demo`` says of them."""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys

from measure import Table, now

MODULE = "waitkit.cli.main"


def run(options: argparse.Namespace) -> list[Table]:
    table = Table("waitkit demo: the run of the command, and the totals it prints", "s", ("exit code",))
    if not _installed():
        table.missing("waitkit demo")
        return [table]
    arguments = ["demo"] if options.quick else ["demo", "--with-sleeps"]
    begun = now()
    answer = subprocess.run(
        [sys.executable, "-P", "-m", MODULE, *arguments],  # -P: not the waitkit of the folder we are in
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)},
    )
    table.add(f"waitkit {' '.join(arguments)}", [now() - begun], str(answer.returncode))
    table.note = "\n".join(_totals(answer.stdout))
    if answer.returncode:
        table.note += "\n".join(["", "it failed:", *answer.stderr.splitlines()[-5:]])
    return [table]


def _totals(printed: str) -> list[str]:
    """What the demo prints after its tests: from the line on that begins with the name of an edition and a time."""
    lines = printed.splitlines()
    for position, line in enumerate(lines):
        if line.startswith("Waiting edition"):
            return lines[position:]
    return ["it printed no totals"]


def _installed() -> bool:
    try:
        return importlib.util.find_spec(MODULE) is not None and importlib.util.find_spec("waitkit.demo") is not None
    except ModuleNotFoundError:  # of a parent package
        return False
