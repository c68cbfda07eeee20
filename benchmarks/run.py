"""Measure waitkit beside what it replaces: ``python benchmarks/run.py [names...] [--quick]``."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import sys
import traceback

from measure import Goal, OtherLoad, now, version_of

# In the order they are printed; each is a module here with a ``run(options)`` that returns tables.
NAMES = (
    "wake_latency",
    "probe_overshoot",
    "release_many",
    "idle",
    "process_exit",
    "server_ready",
    "server_listening",
    "many_processes",
    "import_time",
    "command_line",
    "retry_cost",
    "rate_limits",
    "guard_cost",
    "pollers",
    "virtual_suite",
    "port_cost",
    "demo_editions",
)
PEERS = (
    "polling2",
    "waiting",
    "busypie",
    "tenacity",
    "stamina",
    "backoff",
    "mirakuru",
    "pytest-xprocess",
    "psutil",
    "apscheduler",
    "schedule",
    "pyrate-limiter",
    "limits",
    "aiolimiter",
    "ratelimit",
    "portpicker",
    "portend",
    "port-for",
    "ephemeral-port-reserve",
    "pytest-asyncio",
    "anyio",
    "freezegun",
    "time-machine",
    "looptime",
)


def main() -> int:
    options = _parse()
    if importlib.util.find_spec("waitkit") is None:
        print("waitkit is not installed here: pip install it, or put its checkout on PYTHONPATH", file=sys.stderr)
        return 2
    load = " ".join(f"{part:.2f}" for part in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    print(f"Python {platform.python_version()}, {platform.system()} {platform.release()}, {os.cpu_count()} processors")
    print(f"load average at the start: {load}")
    print("peers: " + ", ".join(f"{name} {version_of(name)}" for name in PEERS))
    print("median, p90, min and max of n samples; compared rows were sampled in turns")
    started = now()
    goals: list[tuple[str, Goal]] = []
    failed: list[str] = []
    for name in options.names or NAMES:
        begun, other = now(), OtherLoad()
        try:
            tables = importlib.import_module(name).run(options)
        except Exception:
            print(f"\n{name} FAILED, the others go on:\n{traceback.format_exc()}", flush=True)
            failed.append(name)
            continue
        for table in tables:
            table.show()
            goals += table.goals
        print(f"\n  ({name}: {now() - begun:.0f} s; others used {other})", flush=True)
    missed = [(row, goal) for row, goal in goals if not goal.met]
    print(f"\n{len(goals) - len(missed)} of {len(goals)} goals met in {now() - started:.0f} s")
    for row, goal in missed:
        print(f"  MISSED {row}: {goal.text}")
    if failed:
        print(f"without figures, because they failed: {', '.join(failed)}")
    return 1 if failed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure waitkit beside what it replaces.")
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"what to measure, of: {', '.join(NAMES)}; all if none"
    )
    parser.add_argument("--quick", action="store_true", help="few samples: under a minute, and rough")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
