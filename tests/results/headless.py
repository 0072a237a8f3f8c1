"""A headless Chromium for the tests and the benchmark of the report page."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
DRIVER = shutil.which("chromedriver")
MISSING = "needs the programs chromium and chromedriver, which are not installed"
INSTALL = "apt-get install chromium chromium-driver"
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextlib.contextmanager
def chromium() -> Iterator[WebDriver]:
    """Starts a browser with a new profile; it notes what pages write to the console."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def open_page(driver: WebDriver, address: str) -> float:
    """Opens a report; returns the milliseconds from its request until all charts are drawn."""
    driver.get(address)
    return until_drawn(driver)


def until_drawn(driver: WebDriver) -> float:
    deadline = time.monotonic() + 60
    while not (drawn := driver.execute_script("return document.body.dataset.drawn")):
        assert time.monotonic() < deadline, driver.get_log("browser")
        time.sleep(0.05)
    return float(drawn)


def resize(driver: WebDriver, width: int, height: int = 900) -> None:
    """Sets the size of the page, which a window cannot have when it is that of a phone."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def prefer(driver: WebDriver, scheme: str) -> None:
    """Sets the preferred color scheme, ``light`` or ``dark``."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def address_of(path: Path) -> str:
    return path.absolute().as_uri()
