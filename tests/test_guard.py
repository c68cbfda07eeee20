"""The sleep guard: it measures what is slept and where, and leaves everything as it was."""

from __future__ import annotations

import ast
import asyncio
import re
import signal
import textwrap
import threading
import time
from pathlib import Path

import pytest
from plugin_runs import run_pytest, run_tests
from support import LIMIT, python

import waitkit
from waitkit import Event, wait_for
from waitkit.ground.durations import SECOND
from waitkit.guard import busy
from waitkit.guard.guard import SleepGuard
from waitkit.guard.ledger import Slept, SleptAt
from waitkit.guard.summary import Summary

SLEEPS = """
    import asyncio
    import threading
    import time
    from time import sleep as nap

    def test_each_kind():
        time.sleep(0.11)
        for _ in range(3):
            nap(0.03)
        asyncio.run(tasks())
        threading.Event().wait(0.05)
        condition = threading.Condition()
        with condition:
            condition.wait(0.04)

    async def tasks():
        await asyncio.gather(*(asyncio.sleep(0.07) for _ in range(4)))

    def test_others():
        thread = threading.Thread(target=time.sleep, args=(0.06,))
        thread.start()
        thread.join()

    def test_no_guess():
        time.sleep(0)
        asyncio.run(asyncio.sleep(0))
        from waitkit import virtual_clock
        with virtual_clock():
            asyncio.run(asyncio.sleep(10))
        event = threading.Event()
        threading.Timer(0, event.set).start()
        assert event.wait(20)
        assert not threading.Event().wait(0)
"""


def lines_of(result: pytest.RunResult) -> dict[tuple[str, str], tuple[float, int]]:
    """What the summary tells: kind and site, to milliseconds and how often."""
    found = {}
    for line in result.outlines:
        match = re.match(r" *([\d.]+) (ms|s) +(\d+) x ([\w.]+(?: polling)?) +(.*), in \d+ tests?$", line)
        if match:
            number, unit, count, kind, site = match.groups()
            found[kind, site] = (float(number) * (1000 if unit == "s" else 1), int(count))
    return found


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one process", "xdist"])
def test_all_kinds_are_measured_with_their_sites(pytester, workers):
    """The summary has each kind of sleep, at its line, no shorter than it was; workers' summaries are added up."""
    result = run_tests(
        pytester, SLEEPS, "--waitkit-sleeps=report", *workers, plugins=("xdist.plugin",) if workers else ()
    )
    result.assert_outcomes(passed=3)
    found = lines_of(result)
    expected = {
        ("time.sleep", "test_inner.py:7"): (110, 1),
        ("time.sleep", "test_inner.py:9"): (90, 3),
        ("asyncio.sleep", "test_inner.py:17"): (280, 4),
        ("Event.wait", "test_inner.py:11"): (50, 1),
        ("Condition.wait", "test_inner.py:14"): (40, 1),
    }
    for which, (least, count) in expected.items():
        assert found[which][0] >= least - 1, which
        assert found[which][1] == count
    [elsewhere] = [line for line in result.outlines if "in another thread" in line]
    assert re.search(r"1 x time.sleep +threading.py:\d+, from test_inner.py:21 \(in another thread\)", elsewhere)
    assert len(found) == len(expected) + 1, "neither sleep(0) nor a wait that was notified counts"
    [headline] = [line for line in result.outlines if "of guessing in 1 test, " in line]
    guessed = re.match(r"([\d.]+) (ms|s) of guessing", headline)
    milliseconds = float(guessed[1]) * (1000 if guessed[2] == "s" else 1)
    assert milliseconds >= 110 + 90 + 70 + 50 + 40 - 5
    assert milliseconds < sum(each for each, _ in found.values()) - 150, "tasks that sleep together count once"


def test_a_test_over_its_budget_fails(pytester):
    """With fail, a test that slept more than its budget fails and shows where; its marker gives it another one."""
    result = run_tests(
        pytester,
        """
        import threading, time
        import pytest

        def test_over():
            time.sleep(0.25)

        def test_within():
            time.sleep(0.001)

        @pytest.mark.waitkit_sleeps("10s")
        def test_allowed():
            time.sleep(0.25)

        @pytest.mark.waitkit_sleeps(budget=0)
        def test_none_allowed():
            time.sleep(0.001)

        @pytest.fixture
        def slow_end():
            yield
            time.sleep(0.25)

        def test_end(slow_end):
            pass

        @pytest.mark.xfail(strict=True)
        def test_fails_anyway():
            time.sleep(0.25)
            assert False

        def test_elsewhere():
            thread = threading.Thread(target=time.sleep, args=(0.25,))
            thread.start()
            thread.join()
        """,
        "--waitkit-sleeps=fail",
        "--waitkit-sleep-budget=200ms",
    )
    result.assert_outcomes(passed=4, failed=2, errors=1, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "*at teardown of test_end*",
            "the test slept * more than the 200 ms it may (--waitkit-sleeps=fail):",
            "*1 x time.sleep     test_inner.py:21",
            "*_ test_over _*",
            "*1 x time.sleep     test_inner.py:5",
            "*_ test_none_allowed _*",
            "the test slept * more than the 0 s it may (--waitkit-sleeps=fail):",
        ]
    )


def test_libraries_are_told_with_the_line_that_called_them(pytester):
    """A sleep in the standard library or an installed package is told with the program's line that led there."""
    result = run_tests(
        pytester,
        """
        import queue, subprocess, sys
        import pytest

        def test_queue():
            with pytest.raises(queue.Empty):
                queue.Queue().get(timeout=0.03)

        def test_subprocess():
            child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.1)
            child.communicate()
        """,
        "--waitkit-sleeps=report",
    )
    sites = {site for _, site in lines_of(result)}
    assert any(re.fullmatch(r"queue\.py:\d+, from test_inner\.py:6", site) for site in sites)
    assert any(re.fullmatch(r"subprocess\.py:\d+, from test_inner\.py:11", site) for site in sites)


def test_threads_without_a_line_of_the_program_are_told_with_the_line_that_started_them(pytester):
    """Where a timer, a thread or an executor sleeps by itself, the line that started it is told, for want of it its name."""
    result = run_tests(
        pytester,
        """
        import inspect, threading, time
        from concurrent.futures import ThreadPoolExecutor

        start_as_if_nobody_watched = inspect.getclosurevars(threading.Thread.start).nonlocals["real"]

        def test_threads():
            timer = threading.Timer(0.01, int)
            timer.start()
            thread = threading.Thread(target=time.sleep, args=(0.01,))
            thread.start()
            with ThreadPoolExecutor(1) as executor:
                executor.submit(time.sleep, 0.01)
            unseen = threading.Thread(target=time.sleep, args=(0.01,), name="early-bird")
            start_as_if_nobody_watched(unseen)
            for each in (timer, thread, unseen):
                each.join()
        """,
        "--waitkit-sleeps=report",
    )
    result.assert_outcomes(passed=1)
    assert {(kind, re.sub(r"\.py:\d+, ", ".py, ", site)) for kind, site in lines_of(result)} == {
        ("Event.wait", "threading.py, from test_inner.py:8 (in another thread)"),
        ("time.sleep", "threading.py, from test_inner.py:10 (in another thread)"),
        ("time.sleep", "concurrent/futures/thread.py, from test_inner.py:12 (in another thread)"),
        ("time.sleep", "threading.py, thread early-bird (in another thread)"),
    }


def test_busy_loops_are_found(pytester):
    """A loop that only looks is told as busy polling; one that computes is not."""
    result = run_tests(
        pytester,
        """
        import time

        def test_polls():
            end = time.process_time() + 0.4
            while time.process_time() < end:
                pass

        def test_computes():
            end = time.process_time() + 0.3
            total = 0
            while time.process_time() < end:
                total += sum(range(100))
        """,
        "--waitkit-sleeps=report",
    )
    [((kind, site), (milliseconds, _))] = lines_of(result).items()
    assert (kind, site) == ("busy polling", "test_inner.py:5")
    assert 100 < milliseconds < 800


@pytest.mark.parametrize(
    ("code", "polls"),
    [
        ("while not done: pass", True),
        ("while not thing.ready(): continue", True),
        ("while True:\n    if thing.ready(): break", True),
        ("while True:\n    if thing.ready(): return 1\n    time.sleep(0)", True),
        ("while not ready():\n    tries += 1\n    assert time.monotonic() < end", True),
        ("while text[i].isspace():\n    i += 1", False),
        ("while queue:\n    work(queue.pop())", False),
        ("while True:\n    if thing.ready(): x = 1", False),
        ("while n:\n    n //= 2", False),
        ("for _ in range(9): pass", False),
    ],
)
def test_what_counts_as_a_polling_loop(tmp_path, code, polls):
    """A polling loop does nothing but look, count its tries and leave."""
    file = tmp_path / "loop.py"
    file.write_text(f"def f():\n{textwrap.indent(code, '    ')}\n")
    assert bool(busy.polling_loops(str(file))) is polls
    ast.parse(file.read_text())


def test_no_loop_of_waitkit_is_busy_polling():
    """The loops in which waitkit rests do nothing but look; where a sample meets one, nobody has polled."""
    files = [path for path in Path(waitkit.__file__).parent.rglob("*.py") if "while" in path.read_text()]
    assert len(files) > 10
    assert [path for path in files if busy.polling_loops(str(path))] == []


def test_everything_is_as_before(monkeypatch):
    """While it is installed, modules hold the timed functions, also those that took them before; afterwards the real ones."""
    before = vars(time)["sleep"], vars(asyncio)["sleep"], threading.Condition.wait, threading.Thread.start
    handler = signal.getsignal(signal.SIGPROF)
    module = type(threading)("taker")
    exec("from time import sleep as nap", vars(module))
    monkeypatch.setitem(__import__("sys").modules, "taker", module)
    with SleepGuard():
        assert vars(module)["nap"] is vars(time)["sleep"] is not before[0]
        exec("from time import sleep as later; from asyncio import sleep as coroutine", vars(module))
        assert vars(asyncio)["sleep"] is not before[1]
        assert asyncio.iscoroutinefunction(vars(asyncio)["sleep"])
        assert threading.Condition.wait is not before[2]
    assert (vars(time)["sleep"], vars(asyncio)["sleep"], threading.Condition.wait, threading.Thread.start) == before
    assert vars(module)["nap"] is vars(module)["later"] is before[0]
    assert vars(module)["coroutine"] is before[1]
    assert signal.getsignal(signal.SIGPROF) is handler
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_the_timed_sleep_is_like_the_real_one():
    """It pickles by name, refuses what time.sleep refuses, is no method, and still ends by Ctrl-C."""
    run = python("""
        import pickle, time, signal, threading
        real = time.sleep
        from waitkit.guard.guard import SleepGuard
        with SleepGuard() as guard:
            class Owner:
                nap = time.sleep
            Owner().nap(0.001)
            assert pickle.loads(pickle.dumps(time.sleep)) is time.sleep
            data = pickle.dumps(time.sleep)
            for bad in [(), ("1",), (-1,), (1, 2)]:
                try:
                    time.sleep(*bad)
                except (TypeError, ValueError):
                    continue
                raise SystemExit(f"took {bad}")
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            def interrupt(*_): raise KeyboardInterrupt
            signal.signal(signal.SIGALRM, interrupt)
            try:
                time.sleep(20)
            except KeyboardInterrupt:
                pass
            slept = guard.take()
            assert len(slept.sites) >= 2, slept
        assert pickle.loads(data) is real is time.sleep
        print("well")
        """)
    assert run.stdout == "well\n", run.stderr


def test_waits_of_waitkit_are_no_sleeps():
    """A wait for a condition counts nothing, be it woken, timed out, or probed, in a thread or in a loop."""
    with SleepGuard() as guard:
        guard.take()
        for condition in (Event(), threading.Event(), lambda: False):
            with pytest.raises(TimeoutError):
                wait_for(condition, 0.03)
        from waitkit import after, wait_for_async

        asyncio.run(_awaited(wait_for_async, after))
        assert guard.take().sites == []


async def _awaited(wait, after):
    await wait(after("20ms"))


def test_many_sleeps_are_added_up():
    """Threads that sleep often, at the same time, lose none, and take no more room than their sites."""
    with SleepGuard() as guard:
        guard.take()
        code = compile("def nap(n):\n    for _ in range(n): sleep(0.000001)", "naps.py", "exec")
        names = {}
        exec("from time import sleep", names)
        exec(code, names)
        threads = [threading.Thread(target=names["nap"], args=(3_000,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        slept = guard.take()
    [site] = slept.sites
    assert (site.kind, site.site, site.elsewhere, site.times) == ("time.sleep", "naps.py:2", True, 9_000)
    assert slept.guessed == 0


def test_only_ten_sites_are_told():
    """The summary tells the ten most expensive sites, the dearest first, and the sum of the others."""
    summary = Summary()
    sites = [SleptAt("time.sleep", f"a.py:{n}", False, 1, n * SECOND) for n in range(1, 13)]
    summary.add(Slept(78 * SECOND, sites), 156 * SECOND)
    first, *told = summary.lines()
    assert first == "1 min 18 s of guessing in 1 test, 50% of the 2 min 36 s that all tests took"
    assert [line.split()[-4][:-1] for line in told[:-1]] == [f"a.py:{n}" for n in range(12, 2, -1)]
    assert told[-1].split() == ["3", "s", "at", "2", "other", "sites"]


def test_outside_of_tests_counts_too(pytester):
    """What is slept at import and by fixtures of the session is in the summary, and in no test's budget but the first's."""
    pytester.makeconftest("import time\ntime.sleep(0.02)\n")
    result = run_tests(
        pytester,
        """
        import time
        time.sleep(0.04)

        def test_it():
            pass
        """,
        "--waitkit-sleeps=fail",
        "--waitkit-sleep-budget=0",
    )
    result.assert_outcomes(passed=1)
    found = lines_of(run_pytest(pytester, "--waitkit-sleeps=report"))
    assert found == {} or ("time.sleep", "test_inner.py:2") in found
    assert any("test_inner.py:2" in line for line in result.outlines)
