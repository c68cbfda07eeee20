"""The page of the wait report, in a real browser: sorted, filtered, used with the keyboard, in light and dark, in virtual time."""

from __future__ import annotations

import struct
from collections import Counter

import pytest
from browser import NEEDS_BROWSER, prefers
from report_rows import HOUR, ROWS, many, mixed, row
from support import until

from waitkit.report.page import write_page

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    """The page of some hundred waits, as a file."""
    path = tmp_path_factory.mktemp("pages") / "some.html"
    write_page(ROWS, path, title="Some waits")
    return path


class Page:
    """What a user sees of the page, and does with it."""

    def __init__(self, driver, url):
        self.driver = driver
        driver.get_log("browser")  # what the last page had to say
        driver.get(url)

    def script(self, code, *args):
        return self.driver.execute_script(code, *args)

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def column(self, position):
        """The texts of the first cells in sight, in a column from 1."""
        code = "return [...document.querySelectorAll(`tbody tr:not(.space) td:nth-child(${arguments[0]})`)].map(c => c.title)"
        return self.script(code, position)

    def shown(self):
        return self.find("#shown").text

    def press(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def sorts(self):
        """The headings with their order, as a screen reader has them."""
        code = "return [...document.querySelectorAll('th')].map(h => [h.textContent, h.getAttribute('aria-sort')])"
        return {name: order for name, order in self.script(code) if order != "none"}

    def focused(self):
        return self.script("return document.activeElement.id || document.activeElement.textContent")

    def complaints(self):
        return self.driver.get_log("browser")


@pytest.fixture
def page(browser, some):
    """The page of some hundred waits, just opened."""
    page = Page(browser, some.as_uri())
    yield page
    assert page.complaints() == [], "the browser found nothing wrong, and nothing was asked of the network"


def seconds(text):
    number, unit = text.split()
    return float(number) * {"µs": 1e-6, "ms": 1e-3, "s": 1, "min": 60}[unit]


def by_site():
    return Counter(each["caller"] for each in ROWS)


def test_tables_are_sorted_by_a_click(page):
    """A heading sorts by its column, numbers the greatest first and texts the other way, and a second click turns it round."""
    assert page.sorts() == {"Total": "descending"}
    totals = [seconds(text) for text in page.column(3)]
    assert totals == sorted(totals, reverse=True)
    page.find("th button[data-key=count]").click()
    assert page.sorts() == {"Waits": "descending"}
    most = [count for _, count in by_site().most_common(len(page.column(2)))]
    assert [int(text) for text in page.column(2)] == most
    page.find("th button[data-key=count]").click()
    assert page.sorts() == {"Waits": "ascending"}
    assert page.column(2)[0] == str(min(by_site().values()))
    page.find("th button[data-key=text]").click()
    assert page.sorts() == {"Site": "ascending"}
    assert page.column(1)[0] == min(by_site())
    assert page.focused() == "Site", "the heading keeps the focus"


def test_words_and_outcomes_filter(page):
    """Words search in all texts of a wait, all of them must be found; outcomes go with their boxes; a group stays alone."""
    assert page.shown() == "401 of 401 shown"
    page.find("#words").send_keys("RARE thing")
    until(lambda: page.shown() == "1 of 401 shown")
    assert page.column(1) == ["tests/rare.py:1"]
    page.find("#words").clear()
    page.find("#words").send_keys("client-3 refused")
    expected = sum(each["thread"] == "client-3" for each in ROWS)
    until(lambda: page.shown() == f"{expected} of 401 shown")
    page.find("#words").clear()
    until(lambda: page.shown() == "401 of 401 shown")
    page.find("input[value=held]").click()
    bad = sum(each["outcome"] != "held" for each in ROWS)
    assert page.shown() == f"{bad} of 401 shown"
    page.find("input[value=held]").click()
    page.find("tbody button").click()
    assert page.shown() == f"{by_site()[page.column(1)[0]]} of 401 shown"
    assert page.focused() == "only"
    assert page.find("#only").text.startswith("Only tests/")
    page.find("#only").click()
    assert page.shown() == "401 of 401 shown"


def test_the_keyboard_suffices(page):
    """Tabs, tables and the timeline are reached and used without a mouse; a chosen wait is told in words."""
    from selenium.webdriver.common.keys import Keys

    reached = []
    page.press(Keys.TAB)
    for _ in range(14):
        reached.append(page.focused())
        page.press(Keys.TAB)
    assert reached[0] == "Skip to the tables"
    order = [reached.index(name) for name in ("words", "timeline", "tab0", "panel")]
    assert order == sorted(order)
    page.script("document.getElementById('timeline').focus()")
    assert page.find("#chosen").text == "No wait is chosen."
    page.press("n", "n", "p", "+", Keys.ARROW_RIGHT, "0")
    first = min(ROWS, key=lambda each: each["start"])
    told = page.find("#chosen").text
    assert f"{first['looks']} looks, overshoot at most" in told
    assert first["caller"] in told
    page.find("#tab0").click()
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert page.focused() == "tab2"
    assert page.script("return document.querySelector('[aria-selected=true]').textContent") == "By test"
    assert page.script("return document.querySelectorAll('[role=tab][tabindex=\"0\"]').length") == 1
    page.press(Keys.ARROW_RIGHT)
    page.find("th button[data-key=took]").send_keys(Keys.ENTER)
    page.find("#words").send_keys("rare")
    until(lambda: page.shown() == "1 of 401 shown")
    page.find("tbody button").send_keys(Keys.ENTER)
    assert "a rare thing <b>: timeout after 50.0 ms of 10.00 s" in page.find("#chosen").text


def test_a_failed_wait_shows_its_tries(page):
    """A wait that did not hold tells what was seen over time."""
    page.find("#tab3").click()
    page.find("#words").send_keys("client")
    page.find("input[value=held]").click()
    until(lambda: "401 of" not in page.shown())
    page.find("tbody button").click()
    assert "9 looks: connection refused" in page.find("#chosen").text


def test_light_and_dark(browser, some):
    """The page follows the system's colours, and a button turns them."""
    page = Page(browser, some.as_uri())
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = page.script(colour)
    assert page.find("#theme").get_attribute("aria-pressed") == "false"
    page.find("#theme").click()
    dark = page.script(colour)
    assert page.find("#theme").get_attribute("aria-pressed") == "true"
    with prefers(browser, "dark"):
        page = Page(browser, some.as_uri())
        assert page.script(colour) == dark != light
        page.find("#theme").click()
        assert page.script(colour) == light


def test_a_screenshot_shows_the_timeline(page, tmp_path):
    """The timeline draws the waits in the colours of their outcomes, and the page can be taken as a picture."""
    picture = tmp_path / "page.png"
    assert page.driver.save_screenshot(str(picture))
    width, height = struct.unpack(">II", picture.read_bytes()[16:24])
    assert (width, height) == (1100, 800)
    count = """
        const canvas = document.getElementById("timeline"), pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        const style = getComputedStyle(document.documentElement), seen = {};
        for (const name of ["held", "timeout", "failed"]) {
          const hex = style.getPropertyValue("--" + name).trim(), want = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
          seen[name] = 0;
          for (let i = 0; i < pixels.length; i += 4) seen[name] += want.every((value, k) => pixels[i + k] === value);
        }
        return seen;
    """
    seen = page.script(count)
    assert seen["held"] > 10 * seen["timeout"] > 0
    assert seen["failed"] > 0


@pytest.mark.slow
def test_fifty_thousand_waits_stay_light(browser, tmp_path):
    """Whatever the number of waits, the document has a few hundred elements; scrolling shows the others."""
    write_page(many(50_000), tmp_path / "many.html")
    page = Page(browser, (tmp_path / "many.html").as_uri())
    count = "return document.querySelectorAll('*').length"
    assert page.shown() == "50000 of 50000 shown"
    assert page.script(count) < 600
    page.find("#tab3").click()
    assert page.script(count) < 600
    before = page.column(1)
    last = "const p = document.getElementById('panel'); p.scrollTop = p.scrollHeight; return p.scrollHeight"
    assert page.script(last) > 50_000 * 28
    until(lambda: page.column(6) and seconds(page.column(6)[-1]) <= 0.0011)
    assert page.column(1) != before
    assert page.script("return Number(document.querySelector('tbody tr:nth-last-child(2)').ariaRowIndex)") == 50_001
    assert page.script(count) < 600
    page.find("#words").send_keys("port 5007")
    until(lambda: page.shown() not in ("50000 of 50000 shown", ""))
    assert page.complaints() == []


def test_nothing_is_asked_of_the_network(page):
    """Opening the page loads no resource, and its own policy would refuse one."""
    assert page.script("return performance.getEntriesByType('resource').length") == 0
    refused = page.driver.execute_async_script(
        "const done = arguments[0]; fetch('http://127.0.0.1:9/').then(() => done('answered'), (error) => done(error.name))"
    )
    assert refused == "TypeError"
    assert "Content Security Policy" in page.complaints()[0]["message"]


# Real and virtual time on one page: apart, each at its own scale.


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
