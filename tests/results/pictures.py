"""Makes the pictures of the docs from a real sweep: ``make pictures``.

It runs the README's sweep, draws its live view while it runs, and takes screenshots of the report
and of the pages of MLflow, TensorBoard and Optuna's dashboard in a headless Chromium.
"""

from __future__ import annotations

import base64
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import headless
from rich.console import Console
from selenium.webdriver.chrome.webdriver import WebDriver

from dlsweep.drive.progress import Counts, LiveView
from dlsweep.folders.studydir import StudyDir
from dlsweep.folders.watch import Watch
from dlsweep.results.follow import Follower

DOCS = Path(__file__).parents[2] / "docs"
DLSWEEP = (sys.executable, "-m", "dlsweep")
SWEEP = (*DLSWEEP, "+experiment=mnist", "-m")
COMMAND = "python -m dlsweep +experiment=mnist -m"
#: Trials that have ended when the live view is drawn.
ENDED = 9


def draw_live_view(folder: Path) -> None:
    """Draws what a terminal that is attached to the running sweep shows."""
    study = StudyDir(folder / "outputs" / "mnist")
    while not study.info_file.exists():
        time.sleep(0.5)
    follower = Follower(study, Watch(study))
    console = Console(record=True, width=118, file=(folder / "live.txt").open("w"))
    view = LiveView(follower.objective, Counts(), console)
    is_first = True
    while view.counts.done < ENDED or len(view.running) < 2 or not all_train(view):
        follower.look(is_alive=True)
        follower.show(view, is_first)
        is_first = False
        time.sleep(0.25)
    console.save_svg(folder / "unused.svg")  # forgets the lines of ended trials
    console.print(f"$ {COMMAND}")
    console.print(view.drawing())
    console.save_svg(str(DOCS / "sweep.svg"), title="dlsweep")


def all_train(view: LiveView) -> bool:
    """Whether each running trial has a curve to show."""
    return all(len(shown.values) > 2 for shown in view.running.values())


@contextmanager
def dashboard(folder: Path, tool: str) -> Iterator[str]:
    """Opens a tool's dashboard; returns its address."""
    command = [*DLSWEEP, "ui", tool, "--folder", str(folder / "outputs" / "mnist")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if address := re.search(r"http://\S+", line):
                yield address[0]
                break
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def take(browser: WebDriver, name: str, after: float = 0.0) -> None:
    """Writes a screenshot once the page has come to rest."""
    time.sleep(after)
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    (DOCS / name).write_bytes(base64.b64decode(shot["data"]))


def show_objective(browser: WebDriver) -> None:
    """Closes what lies over MLflow's charts, and shows the charts of the objective."""
    browser.find_element("xpath", "//*[text()='MLflow Assistant']/following::button[3]").click()
    search = browser.find_element("xpath", "//input[@placeholder='Search metric charts']")
    search.send_keys("val/accuracy")
    time.sleep(5)


def main() -> None:
    """Makes all pictures."""
    with tempfile.TemporaryDirectory() as name, headless.chromium() as browser:
        folder = Path(name)
        sweep = subprocess.Popen(SWEEP, cwd=folder, stdout=subprocess.DEVNULL)
        draw_live_view(folder)
        assert sweep.wait() == 0
        headless.resize(browser, 1280, 860)
        headless.open_page(browser, headless.address_of(folder / "outputs/mnist/report.html"))
        take(browser, "report.png", after=2)
        headless.resize(browser, 1600, 800)
        for tool, open_in in {
            "mlflow": "",
            "tensorboard": "#hparams",
            "optuna": "dashboard/studies/1",
        }.items():
            with dashboard(folder, tool) as address:
                browser.get(f"{address}/{open_in}" if open_in else address)
                time.sleep(20)
                if tool == "mlflow":
                    show_objective(browser)
                take(browser, f"{tool}.png")


if __name__ == "__main__":
    main()
