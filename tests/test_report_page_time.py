"""Real and virtual time on the page of the wait report, in a real browser, and in Perfetto: apart, each at its own scale."""

from __future__ import annotations

import pytest
from browser import CHROMIUM, DRIVER, REASON, ask_perfetto, chromium, perfetto
from report_rows import HOUR, mixed, row
from support import until

from waitkit.ground.durations import SECOND
from waitkit.report.page import write_page
from waitkit.report.trace import write_trace

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason=REASON),
    # selenium's own; its driver process is ended by quit().
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.timeout(120),
]


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests of this file."""
    with chromium() as driver:
        yield driver


def test_the_page_adds_up_real_and_virtual_time_apart(browser, tmp_path):
    """The heading and the tables tell virtual time as such, and never as part of a sum of real time."""
    write_page(mixed(), tmp_path / "waits.html")
    browser.get_log("browser")
    browser.get((tmp_path / "waits.html").as_uri())
    summary = browser.find_element("css selector", "#summary").text
    assert summary.startswith("6 waits, 500.0 ms of real time and 1.0 h of virtual time, 0 did not end")
    cells = "return [...document.querySelectorAll('tbody tr:not(.space)')].map(r => [...r.cells].slice(0, 3).map(c => c.title))"
    assert browser.execute_script(cells) == [
        ["tests/test_sea.py:7, in virtual time", "4", "1.0 h"],
        ["tests/test_sea.py:7", "2", "500.0 ms"],
    ]
    browser.find_element("css selector", "tbody button").click()
    assert browser.find_element("css selector", "#shown").text == "4 of 6 shown"
    assert browser.find_element("css selector", "#only").text.startswith("Only tests/test_sea.py:7, in virtual time")
    browser.find_element("css selector", "#tab3").click()
    tracks = "return [...document.querySelectorAll('tbody tr:not(.space)')].map(r => r.cells[3].title)"
    assert browser.execute_script(tracks)[0] == "main MainThread, virtual time of t.py::test_b"
    assert browser.get_log("browser") == []


# How wide the bars of each line are on the canvas, in pixels: one for each of the given lines.
BARS = """
    const canvas = document.getElementById("timeline"), pen = canvas.getContext("2d");
    const hex = getComputedStyle(document.documentElement).getPropertyValue("--held").trim();
    const want = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16)), found = [];
    for (const top of arguments[0]) {
      const row = pen.getImageData(0, top + 4, canvas.width, 1).data;
      let count = 0;
      for (let i = 0; i < row.length; i += 4) count += want.every((value, k) => row[i + k] === value);
      found.push(count);
    }
    return found;
"""


def test_each_axis_is_drawn_at_its_own_scale(browser, tmp_path):
    """Beside an hour of virtual time, bars of real time are as wide as they would be alone, and each axis zooms by itself."""
    from selenium.webdriver.common.action_chains import ActionChains

    rows = [row(0, 100, overshoot=0), row(400, 500, overshoot=0), row(9 * HOUR, 10 * HOUR, clock=1, overshoot=0)]
    write_page(rows, tmp_path / "waits.html")
    browser.get((tmp_path / "waits.html").as_uri())
    head, line = 42, 22
    places = [head, 2 * head + line]
    width = browser.execute_script("return document.getElementById('timeline').clientWidth") - 170

    def bars():
        return browser.execute_script(BARS, places)

    until(lambda: bars()[1] > 0.9 * width)
    assert bars()[0] == pytest.approx(0.4 * width, abs=4 + 0.06 * width)  # less the words in them
    browser.execute_script("document.getElementById('timeline').focus()")
    ActionChains(browser).send_keys("n", "n", "n", "-", "n").perform()
    assert "virtual time of tests/test_sea.py::test_tide" in browser.find_element("css selector", "#chosen").text
    before = bars()[0]
    ActionChains(browser).send_keys("+", "+").perform()
    until(lambda: bars()[1] > 0.9 * width)
    assert bars()[0] == before
    ActionChains(browser).send_keys("p", "+", "+").perform()
    until(lambda: bars()[0] != before)
    ActionChains(browser).send_keys("0").perform()
    until(lambda: bars()[0] == before)


def test_perfetto_shows_virtual_clocks_as_processes(browser, tmp_path):
    """Perfetto's own viewer has a process for each clock, with its waits from 0."""
    write_trace(mixed(), tmp_path / "waits.json")
    sql = """
        select process.name, s.name, s.ts, s.dur from slice s join thread_track on s.track_id = thread_track.id
        join thread using(utid) join process using(upid) order by process.name, s.ts
    """
    with perfetto(tmp_path / "waits.json") as address:
        browser.get(address)
        until(lambda: browser.execute_script("return !!(globalThis.app && app.trace && app.trace.engine)"), "Perfetto")
        assert ask_perfetto(browser, "select name, value from stats where severity != 'info' and value > 0") == []
        found = ask_perfetto(browser, sql)
        browser.get("about:blank")
    assert found == [
        ["gw1", "another real thing", SECOND // 2, SECOND // 10],
        ["main", "a real thing", 0, SECOND * 4 // 10],
        ["virtual time of t.py::test_a", "a minute", 0, 60 * SECOND],
        ["virtual time of t.py::test_a", "half a minute", 60 * SECOND, 30 * SECOND],
        ["virtual time of t.py::test_b", "an hour", 0, 3600 * SECOND],
        ["virtual time, in gw1", "a moment", 0, SECOND // 1000],
    ]
