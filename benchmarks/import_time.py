"""What ``import`` costs in a fresh interpreter, and what comes with it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from measure import Goal, Table, interleaved, peer

#: Statement, and the module that must be installed for it.
STATEMENTS = {
    "import waitkit": "waitkit",
    "from waitkit import wait_for": "waitkit",
    "from waitkit import managed_process": "waitkit",
    "import polling2": "polling2",
    "import waiting": "waiting",
    "import busypie": "busypie",
    "import tenacity": "tenacity",
    "import mirakuru": "mirakuru",
    "import wrapt": "wrapt",
    "import psutil": "psutil",
    "import asyncio": "asyncio",
    "import subprocess": "subprocess",
}
HEAVY = ("asyncio", "psutil", "wrapt", "inspect", "attr", "logging", "subprocess", "multiprocessing")
#: What these may not bring.
FREE_OF = {
    "import waitkit": ("asyncio", "psutil", "wrapt", "inspect", "attr"),
    "from waitkit import wait_for": ("asyncio", "psutil", "wrapt", "inspect", "attr"),
    "from waitkit import managed_process": ("asyncio", "psutil", "wrapt"),
}

_PROGRAM = """
import sys, time
sys.path[:0] = {path!r}
before = set(sys.modules)
begun = time.perf_counter()
{statement}
took = time.perf_counter() - begun
known = sys.modules.keys() - before
print("[%r, %d, [%s]]" % (took, len(known), ", ".join('"%s"' % name for name in {heavy!r} if name in known)))
"""


def run(options: argparse.Namespace) -> list[Table]:
    able = [statement for statement, module in STATEMENTS.items() if peer(module) is not None]
    brought: dict[str, tuple[int, list[str]]] = {}

    def cost(statement: str) -> float:
        # -I keeps the environment and the user's site out, so the path must be handed over.
        program = _PROGRAM.format(path=[part for part in sys.path if part], statement=statement, heavy=HEAVY)
        # An importer of its own caches nothing: the round before the first sample has written the bytecode.
        answer = subprocess.run([sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True)
        took, count, heavy = json.loads(answer.stdout)
        brought[statement] = count, heavy
        return took * 1e3

    samples = interleaved(
        {statement: lambda _, statement=statement: cost(statement) for statement in able},
        [None] * (5 if options.quick else 25),
    )
    table = Table(
        "time of an import in a fresh interpreter (-I)",
        "ms",
        ("modules", "brings"),
        note="Taken inside the interpreter, around the statement, with the bytecode on disk.",
    )
    for statement in STATEMENTS:
        if statement not in samples:
            table.missing(statement)
            continue
        count, heavy = brought[statement]
        goal = None
        if statement in FREE_OF:
            unwanted = FREE_OF[statement]
            goal = Goal(f"none of {', '.join(unwanted)}", not set(heavy) & set(unwanted))
        table.add(statement, samples[statement], str(count), ", ".join(heavy), goal=goal)
    return [table]
