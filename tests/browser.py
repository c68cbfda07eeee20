"""A Chromium without a window, driven by selenium, that asks the network for nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
REASON = "needs Chromium and its driver: apt-get install --no-install-recommends chromium chromium-driver"

_OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --force-device-scale-factor=1 --hide-scrollbars"
)


@contextlib.contextmanager
def chromium(width: int = 1100, height: int = 800, *, dark: bool = False) -> Iterator[Any]:
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
        if dark:
            options.add_argument("--blink-settings=preferredColorScheme=0")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(DRIVER, log_output=os.devnull))
        try:
            # The window has a frame, headless or not: set what the page sees.
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
            )
            if dark:
                driver.execute_cdp_cmd(
                    "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
                )
            yield driver
        finally:
            driver.quit()
