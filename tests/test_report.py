"""The wait report: recordings, the Chrome trace, the command, and the reports of test runs."""

from __future__ import annotations

import asyncio
import html.parser
import json
import os
import re
import threading

import pytest
from plugin_runs import run_tests
from report_rows import many, row
from support import in_child

from waitkit import WaitTimeout, after, path_exists, recording, wait_for, wait_for_async
from waitkit.cli.main import main
from waitkit.ground.records import subscribers
from waitkit.report.page import page_of
from waitkit.report.recording import Recorder
from waitkit.report.trace import NotATrace, read_trace, trace_of, write_trace
from waitkit.report.tracks import tracks_of


def waits_in(trace: dict) -> list[dict]:
    """The complete events of a trace."""
    return [event for event in trace["traceEvents"] if event["ph"] == "X"]


def test_a_recording_is_a_chrome_trace(tmp_path):
    """Each wait of any thread or task is a complete event in microseconds, on a track that is named after its thread."""
    path, before = tmp_path / "waits.json", subscribers()
    with recording(path):
        wait_for(after("5ms"), message="a pause")
        with pytest.raises(WaitTimeout):
            wait_for(lambda: 0, 0.02, message="never")
        thread = threading.Thread(target=wait_for, args=(lambda: 1,), name="helper")
        thread.start()
        thread.join()
        asyncio.run(_in_loop())
    assert subscribers() == before
    trace = json.loads(path.read_text())
    events = waits_in(trace)
    assert [event["name"] for event in events][:2] == ["a pause", "never"]
    assert events[0]["ts"] == 0
    assert 5_000 <= events[0]["dur"] < events[0]["dur"] + events[1]["dur"] <= events[2]["ts"] + 1
    assert [event["args"]["outcome"] for event in events] == ["held", "timeout", "held", "held"]
    assert events[1]["args"]["tries"][0][2:] == [events[1]["args"]["looks"], "0"]
    assert all(event["args"]["caller"].startswith("tests/test_report.py:") for event in events[:2])
    assert events[3]["args"]["task"]
    names = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in trace["traceEvents"]
        if event["ph"] == "M" and event["name"] == "thread_name"
    }
    assert [names[event["pid"], event["tid"]] for event in events] == [
        "MainThread",
        "MainThread",
        "helper",
        "MainThread",
    ]
    assert {event["pid"] for event in events} == {os.getpid()}
    assert "waitkit" in trace["otherData"]


async def _in_loop() -> None:
    await wait_for_async(lambda: 1)


def test_a_recording_is_written_on_every_way_out(tmp_path):
    """An exception that leaves the block does not lose the waits, and is not lost itself."""
    path = tmp_path / "waits.html"
    with pytest.raises(KeyError), recording(path):
        wait_for(lambda: 1, message="before the end")
        raise KeyError
    assert "before the end" in path.read_text()


def test_a_forked_child_writes_nothing(tmp_path):
    """A child forked in the block neither adds its waits nor writes the parent's file."""
    path = tmp_path / "waits.json"

    def child() -> None:
        wait_for(lambda: 1, message="the child's")
        manager.__exit__(None, None, None)
        assert not path.exists()

    manager = recording(path)
    manager.__enter__()
    wait_for(lambda: 1, message="the parent's")
    in_child(child)
    manager.__exit__(None, None, None)
    names = [event["name"] for event in waits_in(json.loads(path.read_text()))]
    assert "the parent's" in names
    assert "the child's" not in names


@pytest.mark.parametrize("bad", ["waits.txt", "waits", ".json", "", "a/waits.xml"])
def test_a_file_of_another_kind_is_refused(bad):
    """The name says what is written: .json or .html."""
    with pytest.raises(ValueError, match=re.escape(f"path={bad!r} ends neither in .json")), recording(bad):
        pass


def test_a_missing_directory_is_refused_at_once(tmp_path):
    """A program does not run for an hour to lose its recording."""
    with pytest.raises(FileNotFoundError, match="there is no directory"), recording(tmp_path / "no" / "waits.json"):
        pytest.fail("the block was entered")


def test_a_recorder_keeps_only_so_many(tmp_path):
    """What finds no room is counted, and the count is in the trace and in the page."""
    recorder = Recorder(most=3)
    with recorder.subscribe():
        for _ in range(5):
            wait_for(lambda: 1)
    rows = recorder.take()
    assert (len(rows), recorder.dropped, recorder.take()) == (3, 2, [])
    write_trace(rows, tmp_path / "waits.json", dropped=recorder.dropped)
    assert read_trace(tmp_path / "waits.json")[1] == 2
    assert '"dropped":2' in page_of(rows, dropped=2)


def test_a_trace_is_read_as_it_was_written(tmp_path):
    """Writing and reading loses nothing but the origin of time."""
    rows = [*many(50), row(1, 9, limit=None, task="Task-1", process="gw1", pid=7), row(3, 4, last="<b>\n\"'\u2028")]
    write_trace(rows, tmp_path / "waits.json")
    read, dropped = read_trace(tmp_path / "waits.json")
    first = min(each["start"] for each in rows)
    for each in rows:
        each["tries"] = [(start - first, end - first, looks, seen) for start, end, looks, seen in each["tries"]]
        each["start"] -= first
        each["end"] -= first
    assert (read, dropped) == (rows, 0)
    assert trace_of([])["traceEvents"] == []


def spoilt(**change):
    """A trace of one wait, with something in it changed."""
    trace = trace_of([row(0, 5)])
    for event in trace["traceEvents"]:
        if event.get("cat") == "wait":
            event["args"] |= change
    return trace


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[]",
        "{}",
        '{"traceEvents": []}',
        '{"traceEvents": 3, "otherData": {"waitkit": "1"}}',
        '{"traceEvents": [{"ph": "X", "cat": "wait"}], "otherData": {"waitkit": "1"}}',
        '{"traceEvents": [5], "otherData": {"waitkit": "1"}}',
        '{"traceEvents": [{"ph": "M", "name": "process_name"}], "otherData": {"waitkit": "1"}}',
        '{"traceEvents": [], "otherData": {"waitkit": "1", "dropped": "x"}}',
        *(json.dumps(spoilt(**change)) for change in ({"outcome": "weird"}, {"looks": "x"}, {"caller": 5})),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path, capsys, content):
    """A file that waitkit did not write is refused by name, by the reader and by the command."""
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(NotATrace, match=re.escape(str(path))):
        read_trace(path)
    assert main(["report", str(path)]) == 2
    assert str(path) in capsys.readouterr().err
    assert not path.with_suffix(".html").exists()


def test_the_command_makes_a_page(tmp_path, capsys):
    """``waitkit report`` writes a page beside the trace, or where it is told to; several traces become one page."""
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    write_trace([row(0, 5, what="the first")], one)
    write_trace([row(0, 5, what="the second")], two)
    assert main(["report", str(one)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'one.html'}: 1 waits\n"
    assert "the first" in (tmp_path / "one.html").read_text()
    assert main(["report", str(one), str(two), "-o", str(tmp_path / "both.html"), "--title", "Both"]) == 0
    both = (tmp_path / "both.html").read_text()
    assert all(text in both for text in ("the first", "the second", '"title":"Both"', "1:main", "2:main"))
    assert main(["report", str(tmp_path / "none.json")]) == 2
    assert main(["report", str(one), "-o", str(tmp_path / "no" / "page.html")]) == 2


def test_no_two_waits_of_a_track_overlap():
    """Waits of one thread share a track where they follow or nest; those of tasks at the same time have tracks of their own."""
    rows = [
        row(0, 10, task="a"),
        row(2, 12, task="b"),
        row(4, 6, task="a"),
        row(11, 20, task="a"),
        row(13, 15, task="c"),
        row(0, 10, thread="other", thread_id=2),
        row(0, 10, thread="other", thread_id=2, pid=101, process="gw1"),
    ]
    tracks, places = tracks_of(rows, [0] * len(rows))
    assert [(track.name, track.pid) for track in tracks] == [
        ("MainThread", 100), ("MainThread (2)", 100), ("other", 100), ("other", 101)
    ]  # fmt: skip
    assert places == [0, 1, 0, 0, 1, 2, 3]


def test_tracks_of_many_tasks_are_as_few_as_can_be():
    """A thousand tasks of which ten wait at a time need ten tracks."""
    rows = [row(n, n + 10, task=f"Task-{n}") for n in range(1000)]
    tracks, places = tracks_of(rows, [0] * len(rows))
    assert len(tracks) == 10
    last = {}
    for each, place in zip(rows, places, strict=True):
        assert each["start"] >= last.get(place, 0)
        last[place] = each["end"]


def test_the_page_asks_the_network_for_nothing():
    """The page names no other address, forbids itself any, and its data cannot leave its element."""
    page = page_of([row(0, 5, what="</script><script>alert(1)</script><!--", last="\ud800 lone")])
    assert re.findall(r"(?:https?:)?//[a-z][\w.]+\.\w+", page) == []
    assert "default-src 'none'" in page
    scripts, contents = [], []

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            if tag == "script":
                scripts.append(dict(attributes))
                contents.append("")
            assert not {"src", "href"} & {name for name, value in attributes if value and not value.startswith("#")}

        def handle_data(self, data: str) -> None:
            if self.cdata_elem == "script":
                contents[-1] += data

    Parser().feed(page)
    assert [script.get("id") for script in scripts] == ["data", None]
    assert "</script><script>alert(1)</script><!--" in json.loads(contents[0])["texts"]
    assert contents[1].strip().startswith('"use strict";')
    assert "/*{" not in page


CODE = """
    import threading, time
    import pytest
    from waitkit import after, wait_for, WaitTimeout

    @pytest.fixture(scope="session")
    def lasting():
        yield
        wait_for(lambda: 1, message="teardown of the session")

    @pytest.mark.parametrize("n", range(4))
    def test_waits(n, lasting):
        time.sleep(0.01)
        wait_for(after("2ms"), message=f"turn {n}")
        thread = threading.Thread(target=wait_for, args=(lambda: 1,), kwargs={"message": "in a thread"}, name="mine")
        thread.start()
        thread.join()

    def test_fails():
        wait_for(lambda: 0, 0.02, message="in vain")
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_a_run_leaves_one_report(pytester, workers):
    """With --waitkit-report the run leaves a trace and a page with the waits of all tests, of all workers."""
    plugins = ("xdist.plugin",) if workers else ()
    result = run_tests(
        pytester, CODE, "--waitkit-report=out/waits", "--waitkit-sleeps=report", *workers, plugins=plugins
    )
    result.assert_outcomes(passed=4, failed=1)
    folder = pytester.path / "out" / "waits"
    assert sorted(os.listdir(folder)) == ["waits.html", "waits.json"]
    rows, _ = read_trace(folder / "waits.json")
    whats = [each["what"] for each in rows]
    assert set(whats) == {"in vain", "in a thread", "teardown of the session", *(f"turn {n}" for n in range(4))}
    assert whats.count("in a thread") == 4
    assert {each["test"] for each in rows if each["what"].startswith("turn")} == {
        f"test_inner.py::test_waits[{n}]" for n in range(4)
    }
    assert {each["test"] for each in rows if each["what"] == "in vain"} == {"test_inner.py::test_fails"}
    processes = {each["process"] for each in rows}
    assert processes == ({"gw0", "gw1"} if workers else {"main"})
    assert len({each["pid"] for each in rows}) == len(processes)
    assert all(each["what"] in (folder / "waits.html").read_text() for each in rows)
    result.stdout.fnmatch_lines([f"{len(rows)} waits: *waits.html and waits.json beside it"])
    result.stdout.fnmatch_lines(["*4 x time.sleep     test_inner.py:12, in 4 tests"])


def test_a_test_that_ends_all_subscriptions_does_not_end_the_report(pytester):
    """A suite that resets waitkit's subscribers after each test, as its own does, has a whole report."""
    code = """
        import pytest
        from waitkit import wait_for
        from waitkit.ground import records

        @pytest.fixture(autouse=True)
        def reset():
            yield
            records._subscribers = ()

        @pytest.mark.parametrize("n", range(3))
        def test_it(n):
            wait_for(lambda: 1, message=f"turn {n}")
        """
    run_tests(pytester, code, "--waitkit-report=out").assert_outcomes(passed=3)
    rows, _ = read_trace(pytester.path / "out" / "waits.json")
    assert [each["what"] for each in rows] == ["turn 0", "turn 1", "turn 2"]


#: The name of a file that is no UTF-8, as os.fsdecode gives it.
ODD = "/no/such/caf\udce9"


@pytest.mark.parametrize("suffix", [".json", ".html"])
def test_a_name_that_is_no_text(tmp_path, suffix):
    """A wait whose words no UTF-8 can hold is recorded, the odd bytes as escapes."""
    with recording(tmp_path / f"waits{suffix}"), pytest.raises(WaitTimeout):
        wait_for(path_exists(ODD), 0)
    assert "/no/such/caf" in (tmp_path / f"waits{suffix}").read_text()
    if suffix == ".json":
        (read,), _ = read_trace(tmp_path / "waits.json")
        assert read["what"] == r"/no/such/caf\udce9 to exist"


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["one process", "xdist"])
def test_a_run_with_a_name_that_is_no_text(pytester, workers):
    """The report of a run is written all the same, and travels from its workers."""
    code = f"""
        import pytest
        from waitkit import WaitTimeout, path_exists, wait_for

        def test_it():
            with pytest.raises(WaitTimeout):
                wait_for(path_exists({ODD!r}), 0)
    """
    result = run_tests(pytester, code, "--waitkit-report=out", *workers, plugins=("xdist.plugin",) if workers else ())
    result.assert_outcomes(passed=1)
    (read,), _ = read_trace(pytester.path / "out" / "waits.json")
    assert read["what"] == r"/no/such/caf\udce9 to exist"
    assert "/no/such/caf" in (pytester.path / "out" / "waits.html").read_text()
