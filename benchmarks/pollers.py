"""Many functions that run once a second, each implementation in a fresh process: how late, at what price, how soon stopped."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

from measure import Goal, Table
from pollers_child import IMPLEMENTATIONS, Sample

NAMES = {
    "waitkit": "waitkit polling()",
    "apscheduler": "APScheduler BackgroundScheduler",
    "schedule_idle": "schedule, stop.wait(idle_seconds)",
    "schedule_sleep": "schedule, time.sleep(1)",
    "timer_chain": "threading.Timer chains",
    "event_threads": "a thread each, event.wait(1)",
    "sleep_threads": "a thread each, time.sleep(1)",
}
#: What comes to no end, or takes minutes, with ten thousand.
TOO_MANY = {"timer_chain": 1_000, "event_threads": 1_000}
LIMIT = 120


def run(options: argparse.Namespace) -> list[Table]:
    assert NAMES.keys() == IMPLEMENTATIONS.keys()
    counts = (200,) if options.quick else (1_000, 10_000)
    return [_table(count, 3 if options.quick else 6) for count in counts]


def _table(count: int, seconds: int) -> Table:
    table = Table(
        f"{count} functions that run once a second, spread over it: how late a run begins",
        "ms",
        ("p99", "runs made", "CPU", "MB", "threads", "stop all ms", "trigger ms"),
        note="Late: after the instant that the implementation itself had planned. CPU: of one processor. Trigger: from the call\n"
        "until the function runs, median of 40. Stop: until no thread of it is left running a function.",
    )
    samples: dict[str, Sample] = {}
    reasons: dict[str, str] = {}
    for name in NAMES:
        if count > TOO_MANY.get(name, count):
            reasons[name] = "not tried: thousands of threads"
            continue
        found = _observe(name, count, seconds)
        if isinstance(found, str):
            reasons[name] = found
        else:
            samples[name] = found
    for name, title in NAMES.items():
        if name not in samples:
            table.missing(title, reasons[name])
            continue
        sample = samples[name]
        late, trigger = sample["late_ms"], sample["trigger_ms"]
        table.add(
            title,
            late,
            f"{sorted(late)[int(len(late) * 0.99)]:.2f}",
            f"{100 * sample['done']:.0f} %",
            f"{100 * sample['cpu']:.0f} %",
            f"{sample['rss_mb']:.0f}",
            str(sample["threads"]),
            f"{sample['stop_ms']:.1f}",
            "-" if trigger is None else f"{trigger:.2f}",
            goal=_goal(samples) if name == "waitkit" and count == 10_000 else None,
        )
    return table


def _goal(samples: dict[str, Sample]) -> Goal:
    ours = samples["waitkit"]
    # schedule with time.sleep(1) runs once a second all that has become due meanwhile: cheap, and no peer of those on time.
    prompt = [sample["cpu"] for name, sample in samples.items() if name not in ("waitkit", "schedule_sleep")]
    met = ours["stop_ms"] <= 500 and ours["threads"] < 100 and all(ours["cpu"] < cpu for cpu in prompt)
    return Goal("CPU below all that are on time, stop <= 500 ms, threads < 100", met)


def _observe(name: str, count: int, seconds: int) -> Sample | str:
    """One run in a process of its own; why there is none, where it fails."""
    path = os.pathsep.join(part for part in sys.path if part)
    child = os.path.join(os.path.dirname(__file__), "pollers_child.py")
    try:
        done = subprocess.run(
            [sys.executable, child, name, str(count), str(seconds)],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired:
        return f"no end within {LIMIT} s"
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["failed"]
        return "not installed" if "ModuleNotFoundError" in last[0] else last[0]
    found: Any = json.loads(done.stdout)
    return found  # type: ignore[no-any-return]
