"""The documentation site: it builds without a warning, and is seen in a real headless Chromium."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import headless
import links
import pytest

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
has_browser = pytest.mark.skipif(
    not (headless.BROWSER and headless.DRIVER), reason=f"{headless.MISSING}: {headless.INSTALL}"
)

#: The colors of a code block's text and of what lies behind it, as [red, green, blue].
COLORS = """
const block = document.querySelector("article pre code");
const parse = color => color.match(/[\\d.]+/g).map(Number);
let behind = block;
while (behind && parse(getComputedStyle(behind).backgroundColor)[3] === 0)
  behind = behind.parentElement;
const ground = behind ? getComputedStyle(behind).backgroundColor : "rgb(255, 255, 255)";
return [parse(getComputedStyle(block).color), parse(ground)];
"""

#: What the search shows of one kind, in the shadow tree that it has.
SEARCH = """
const hosts = [...document.querySelectorAll("*")].filter(each => each.shadowRoot);
return hosts.flatMap(each => [...each.shadowRoot.querySelectorAll("{}")].map(one => one.href));
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the site from a copy of what it is made of."""
    folder = tmp_path_factory.mktemp("site")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("docs", "dlsweep", "reference"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "zensical.toml", folder)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "site"


def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    pages = {file: links.Page(file.read_text()) for file in site.rglob("*.html")}
    assert len(pages) > 40
    found = {
        str(file.relative_to(site)): dead
        for file, page in pages.items()
        if file.name != "404.html" and (dead := links.dead(page, file, pages))
    }
    assert found == {}


def test_every_page_is_in_the_navigation(site: Path) -> None:
    listed = set(re.findall(r'"([\w./-]+\.md)"', (ROOT / "zensical.toml").read_text()))
    files = {str(file.relative_to(ROOT / "docs")) for file in ROOT.glob("docs/**/*.md")}
    assert files == listed


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for file in site.rglob("*.html"):
        assert re.findall(r'(?:src|<link[^>]+href)="(https?:[^"]+)', file.read_text()) == []


def test_python_pages_show_docstrings(site: Path) -> None:
    page = (site / "reference" / "python" / "data.html").read_text()
    assert 'id="dlsweep.data.Data"' in page
    assert ":class:" not in page
    assert "The training data." in page


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Leaves the terminal to pytest."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Serves the site: its search needs a server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def driver() -> Iterator[WebDriver]:
    with headless.chromium() as driver:
        yield driver


@has_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_can_be_read(driver: WebDriver, address: str, width: int, scheme: str) -> None:
    headless.resize(driver, width)
    headless.prefer(driver, scheme)
    pages = {
        "index.html": "dlsweep",
        "reference/config.html": "Config keys",
        "reference/verbs.html": "Command line",
        "howto/spaces.html": "Search spaces",
    }
    for page, title in pages.items():
        driver.get(f"{address}/{page}")
        assert title in driver.title
        assert (
            driver.execute_script("return document.querySelector('h1').innerText")[:5] == title[:5]
        )
        overflow = "return document.documentElement.scrollWidth - window.innerWidth"
        assert driver.execute_script(overflow) <= 0, page
        scheme_now = driver.execute_script("return document.body.dataset.mdColorScheme")
        assert scheme_now == {"light": "default", "dark": "slate"}[scheme]
        if "config" not in page:
            text, ground = driver.execute_script(COLORS)
            assert contrast(text, ground) >= 4.5, (page, text, ground)


@has_browser
def test_the_search_finds_a_key(driver: WebDriver, address: str) -> None:
    headless.resize(driver, 1280)
    driver.get(f"{address}/index.html")
    driver.find_element("class name", "md-search__button").click()
    deadline = time.monotonic() + 60
    while driver.execute_script(SEARCH.format("input")) == []:
        assert time.monotonic() < deadline, "the search does not open"
        time.sleep(0.05)
    driver.switch_to.active_element.send_keys("clip_norm")
    while not (found := driver.execute_script(SEARCH.format("a"))):
        assert time.monotonic() < deadline, "nothing is found"
        time.sleep(0.05)
    assert found[0].startswith(f"{address}/reference/config.html")


def contrast(one: list[float], other: list[float]) -> float:
    """Returns the contrast of two colors, from 1 to 21, as WCAG defines it."""

    def luminance(color: list[float]) -> float:
        linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color[:3]]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted([luminance(one), luminance(other)], reverse=True)
    return (lighter + 0.05) / (darker + 0.05)
