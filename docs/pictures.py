"""Makes the pictures of the how-to pages: ``python docs/pictures.py``, with Chromium and the test extra installed.

What they show is real: the waits of the RPC service's tests, recorded and made a page of.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from importlib import import_module
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS.parent / "tests"), str(DOCS.parent / "examples")]

WIDTH, HEIGHT = 1060, 560


def main() -> None:
    from browser import chromium

    from waitkit.report.page import write_page
    from waitkit.report.recording import Recorder

    recorder = Recorder()
    with recorder.subscribe():
        for outcome in import_module("rpc_service.run").run("waiting"):
            recorder.test = outcome.title
    rows = recorder.take()
    with tempfile.TemporaryDirectory() as folder, chromium(WIDTH, HEIGHT) as driver:
        page = Path(folder, "waits.html")
        write_page(rows, page, title="Waits of the RPC service's tests")
        driver.get(page.as_uri())
        take(driver, "report-light.webp")
        driver.find_element("css selector", "#theme").click()
        driver.find_element("css selector", "#tab3").click()
        driver.find_element("css selector", "th [data-key=overshoot]").click()
        driver.find_element("css selector", "tbody button").click()
        take(driver, "report-dark.webp")


def take(driver: object, name: str) -> None:
    """A picture of the page, once it has been painted."""
    driver.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))")
    path = DOCS / "images" / name
    path.parent.mkdir(exist_ok=True)
    # WebP: a third of the size of a PNG.
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "webp", "quality": 60})
    path.write_bytes(base64.b64decode(shot["data"]))
    print(f"{path.relative_to(DOCS.parent)}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    # Children of the example import this module by its name.
    main()
