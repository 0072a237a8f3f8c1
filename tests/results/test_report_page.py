"""The report page in a real headless Chromium: what it shows, and what its controls do."""

from __future__ import annotations

import base64
import io
import json
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import headless
import numpy as np
import pytest
from made_studies import HIDDEN, LR, OPTIMIZER, SPACE, Made, make_study
from optuna.distributions import CategoricalDistribution

from dlsweep.folders.lineage import Inheritance, plain
from dlsweep.folders.studydir import StudyDir
from dlsweep.results.report import page
from dlsweep.results.report.live import Reports
from dlsweep.results.tables import Finished

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

has_browser = pytest.mark.skipif(
    not (headless.BROWSER and headless.DRIVER), reason=headless.MISSING
)
pytestmark = [pytest.mark.slow, has_browser]

CHARTS = ["importance", "history", "curves", "parallel", "slice", "contour", "timeline"]
EVIL = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2>\x1b[31m"


def trials(count: int = 24) -> list[Made]:
    made = []
    for k in range(count):
        params = {
            OPTIMIZER: ["adam", "sgd"][k % 2],
            LR: 10 ** (-4 + 3 * k / count),
            HIDDEN: 32 + (k * 53) % 400,
        }
        top = 0.5 + 0.018 * ((k * 7) % count)
        curve = [top * (1 - 0.5 ** (step + 1)) for step in range(12)]
        status = "pruned" if k % 3 == 1 else "completed"
        if status == "pruned":
            curve = curve[:4]
        span = (k // 2 * 2.0, k // 2 * 2.0 + 1.5)
        made.append(Made(params, [curve[-1]], curve, status, span=span))
    if count > 7:
        made[7] = Made(made[7].params, [], [], "crashed", f"crashed: {EVIL}", span=made[7].span)
    return made


@pytest.fixture(scope="module")
def driver() -> Iterator[WebDriver]:
    with headless.chromium() as driver:
        headless.resize(driver, 1280)
        yield driver


@pytest.fixture(autouse=True)
def _as_usual(driver: WebDriver) -> None:
    headless.resize(driver, 1280)
    headless.prefer(driver, "light")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyDir:
    folder, _ = make_study(tmp_path_factory.mktemp("page") / "mine", trials())
    page.write_page([Finished(folder)], folder.report)
    return folder


@pytest.fixture
def opened(driver: WebDriver, study: StudyDir) -> WebDriver:
    headless.open_page(driver, headless.address_of(study.report))
    return driver


def pixels(driver: WebDriver, chart: str) -> np.ndarray:
    """The RGB pixels of a chart as it is shown, of shape [height, width, 3]."""
    from PIL import Image

    place = driver.execute_script(
        "const place = byId(`chart-${arguments[0]}`).getBoundingClientRect();"
        "return {x: place.x + scrollX, y: place.y + scrollY,"
        " width: place.width, height: place.height, scale: 1}",
        chart,
    )
    options = {"clip": place, "captureBeyondViewport": True}
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", options)
    image = Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")
    return np.asarray(image).astype(int)


def colors_in(image: np.ndarray) -> int:
    """How many pixels are neither white, nor black, nor gray."""
    return int((np.ptp(image, axis=2) > 40).sum())


def text_of(driver: WebDriver, selector: str) -> str:
    return driver.find_element("css selector", selector).text


def rows_of(driver: WebDriver) -> list[str]:
    cells = driver.find_elements("css selector", "#board tbody tr td:first-child")
    return [cell.text for cell in cells]


def choose(driver: WebDriver, name: str, value: str) -> None:
    code = "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
    code += "e.dispatchEvent(new Event('change')); e.dispatchEvent(new Event('input'));"
    driver.execute_script(code, name, value)


def wait(driver: WebDriver, code: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 20).until(lambda one: one.execute_script(f"return {code}"))


def errors(driver: WebDriver) -> list[str]:
    return [entry["message"] for entry in driver.get_log("browser")]


@pytest.mark.parametrize("chart", CHARTS)
def test_every_chart_has_colors_on_it(opened: WebDriver, chart: str) -> None:
    assert colors_in(pixels(opened, chart)) > 300
    assert not errors(opened)


def test_the_page_says_what_was_found_and_what_failed(opened: WebDriver, study: StudyDir) -> None:
    assert text_of(opened, "h1") == "mine"
    assert text_of(opened, "#found").startswith("24 trials: 16 completed, 7 pruned, 1 crashed.")
    failures = text_of(opened, "#failures")
    assert "crashed 1 crashed: </script><script>window.hacked=1</script><img" in failures
    assert "\\x1b[31m" in failures
    assert opened.execute_script("return window.hacked") is None
    assert text_of(opened, "#timeline-text").startswith("2 trials at most ran at the same time")


def test_the_leaderboard_begins_with_the_best_and_sorts(opened: WebDriver, study: StudyDir) -> None:
    best = [f"{trial.number:04d}" for trial in Finished(study).best()]
    assert rows_of(opened)[: len(best)] == best
    heads = opened.find_elements("css selector", "#board th button")
    (lr,) = [head for head in heads if head.text == "lr"]
    lr.click()
    assert rows_of(opened) == [f"{k:04d}" for k in range(24)]
    (lr,) = [h for h in opened.find_elements("css selector", "#board th button") if h.text == "lr"]
    assert lr.get_attribute("aria-sort") == "ascending"
    lr.click()
    assert rows_of(opened) == [f"{k:04d}" for k in reversed(range(24))]


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        ("crashed", ["0007"]),
        ("pruned adam", ["0004", "0010", "0016", "0022"]),
        ("lr<0.0003", ["0003", "0002", "0000", "0001"]),
        (f"{HIDDEN}=32", ["0000"]),
        ("nothing", []),
    ],
)
def test_the_leaderboard_filters(opened: WebDriver, words: str, rows: list[str]) -> None:
    choose(opened, "filter", words)
    assert sorted(rows_of(opened)) == sorted(rows)
    assert text_of(opened, "#count") == f"{len(rows)} of {len(rows)} shown, 24 in all"


def test_a_click_on_a_row_shows_its_command_and_folder(opened: WebDriver, study: StudyDir) -> None:
    before = pixels(opened, "history")
    opened.find_element("css selector", "#board tbody tr[data-row='5'] td").click()
    finished = Finished(study)
    assert text_of(opened, "#command") == finished.command(finished.trials[5])
    assert shlex.split(text_of(opened, "#command"))[-1].startswith(HIDDEN)
    link = opened.find_element("css selector", "#details a")
    assert link.get_attribute("href") == f"{study.trial(5).path.as_uri()}/"
    wait(opened, "drawn.get('timeline') && page.row === 5")
    wait(opened, "drawn.get('history').getOption().series[2].data.length === 1")
    assert (pixels(opened, "history") != before).any(), "it is marked in the charts"
    opened.find_element("css selector", "#details h2 button").click()
    assert not opened.find_element("id", "details").is_displayed()


def test_a_command_is_quoted_as_a_shell_reads_it(driver: WebDriver, tmp_path: Path) -> None:
    odd = ["it's a b", "$HOME;`x`", "plain-1.5e-3", "a\nb", "[1,2]"]
    made = [Made({"data.folder": text}, [0.5]) for text in odd]
    folder, _ = make_study(
        tmp_path / "mine", made, space={"data.folder": CategoricalDistribution(odd)}
    )
    finished = Finished(folder)
    page.write_page([finished], folder.report)
    headless.open_page(driver, headless.address_of(folder.report))
    for trial in finished.trials:
        command = driver.execute_script("return commandOf(current(), arguments[0])", trial.number)
        assert command == finished.command(trial)


def test_curves_are_not_joined(driver: WebDriver, tmp_path: Path) -> None:
    made = [Made({LR: 0.1}, [0.5], [0.1, 0.5])] * 2 + [Made({LR: 0.1}, [0.9])]
    folder, _ = make_study(tmp_path / "mine", made)
    lines = (
        json.dumps({"step": step, "time": 1.0, "metrics": {"val/accuracy": 0.5}})
        for step in (10, 11)
    )
    folder.trial(1).records_file.write_text("".join(f"{line}\n" for line in lines))
    page.write_page([Finished(folder)], folder.report)
    headless.open_page(driver, headless.address_of(folder.report))
    image = pixels(driver, "curves")
    at = "return drawn.get('curves').convertToPixel({gridIndex: 0}, [arguments[0], 0.5])[0]"
    first, between, last = (round(driver.execute_script(at, step)) for step in (0.9, 5.5, 10.5))
    assert colors_in(image[:, first : first + 2]) > 0 < colors_in(image[:, last : last + 2])
    assert colors_in(image[:, between : between + 2]) == 0


@pytest.mark.parametrize(
    ("chart", "place"),
    [
        ("history", "drawn.get('history').convertToPixel({gridIndex: 0}, [6, value])"),
        ("curves", "drawn.get('curves').convertToPixel({gridIndex: 0}, [11, value])"),
        ("timeline", "drawn.get('timeline').convertToPixel({gridIndex: 0}, [6.7, 0])"),
    ],
)
def test_a_click_on_a_chart_selects_the_trial(opened: WebDriver, chart: str, place: str) -> None:
    from selenium.webdriver import ActionChains

    value = "const value = current().trials.values[0][6]; const lane = 0;"
    x, y = opened.execute_script(f"{value} return {place}")
    element = opened.find_element("id", f"chart-{chart}")
    size = element.size
    mouse = ActionChains(opened)
    offset = (round(x - size["width"] / 2), round(y - size["height"] / 2))
    mouse.scroll_to_element(element).move_to_element_with_offset(element, *offset).click().perform()
    wait(opened, "page.row !== null")
    assert opened.execute_script("return page.row") in ((6, 7) if chart == "timeline" else (6,))
    assert text_of(opened, "#details h2").startswith("Trial 000")


def test_controls_change_the_charts(opened: WebDriver) -> None:
    sliced, contoured = pixels(opened, "slice"), pixels(opened, "contour")
    chosen = opened.execute_script("return page.slice")
    other = next(key for key in (OPTIMIZER, LR) if key != chosen)
    choose(opened, "slice", other)
    choose(opened, "across", OPTIMIZER)
    choose(opened, "up", HIDDEN)
    assert (pixels(opened, "slice") != sliced).any()
    assert (pixels(opened, "contour") != contoured).any()
    curves = pixels(opened, "curves")
    opened.find_element("id", "log").click()
    wait(opened, "drawn.get('curves').getOption().yAxis[0].type === 'log'")
    assert (pixels(opened, "curves") != curves).any()
    assert not errors(opened)


def test_dark_and_light_follow_the_system_and_the_button(opened: WebDriver) -> None:
    assert pixels(opened, "history").mean() > 200
    headless.prefer(opened, "dark")
    headless.open_page(opened, opened.current_url)
    assert pixels(opened, "history").mean() < 80
    assert colors_in(pixels(opened, "history")) > 300
    opened.find_element("id", "theme").click()
    assert pixels(opened, "history").mean() > 200


@pytest.mark.parametrize("width", [360, 700, 1280])
def test_nothing_is_wider_than_the_screen(opened: WebDriver, width: int) -> None:
    headless.resize(opened, width)
    headless.open_page(opened, opened.current_url)
    wide, screen = opened.execute_script("return [document.body.scrollWidth, innerWidth]")
    assert wide <= screen
    for chart in CHARTS:
        assert colors_in(pixels(opened, chart)) > 200, chart


def test_a_dark_page_is_printed_light_with_its_charts(opened: WebDriver) -> None:
    headless.prefer(opened, "dark")
    headless.open_page(opened, opened.current_url)
    opened.execute_script(
        "window.seen = []; addEventListener('beforeprint', () => seen.push(isDark()));"
        "addEventListener('afterprint', () => seen.push(isDark()))"
    )
    printed = opened.print_page()
    assert opened.execute_script("return seen") == [False, True]
    assert len(printed) > 60_000, "a page without its charts is smaller"


def test_charts_on_paper_stay_in_their_sections(opened: WebDriver) -> None:
    headless.resize(opened, 700)
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        places = opened.execute_script(
            "return [...document.querySelectorAll('.chart canvas')].map((canvas) => {"
            "const [inner, outer] = [canvas, canvas.closest('section')].map("
            "(one) => one.getBoundingClientRect());"
            "const gaps = [inner.top - outer.top, outer.bottom - inner.bottom];"
            "return [...gaps, inner.width, inner.height];})"
        )
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert len(places) == len(CHARTS)
    for above, below, width, height in places:
        assert above >= 0 <= below
        assert width > 200
        assert height > 60


def test_several_objectives_have_a_front_and_a_choice(driver: WebDriver, tmp_path: Path) -> None:
    made = [Made({LR: 0.001 + 0.002 * k}, [k, (k - 5) ** 2]) for k in range(10)]
    folder, _ = make_study(
        tmp_path / "two", made, ["loss", "seconds"], ["minimize", "minimize"], {LR: SPACE[LR]}
    )
    page.write_page([Finished(folder)], folder.report)
    headless.open_page(driver, headless.address_of(folder.report))
    assert colors_in(pixels(driver, "pareto")) > 100
    assert rows_of(driver)[:6] == [f"{k:04d}" for k in range(6)]
    history = pixels(driver, "history")
    choose(driver, "goal", "seconds")
    wait(driver, "drawn.get('history').getOption().yAxis[0].name === 'seconds'")
    assert (pixels(driver, "history") != history).any()
    assert not errors(driver)


def test_two_studies_stand_side_by_side(driver: WebDriver, tmp_path: Path) -> None:
    folders = [
        make_study(tmp_path / name, trials(count))[0] for name, count in (("a", 12), ("b", 24))
    ]
    out = page.main([folder.path for folder in folders], tmp_path / "both.html")
    headless.open_page(driver, headless.address_of(out))
    assert "is better by" in text_of(driver, "#sentences")
    assert colors_in(pixels(driver, "compare")) > 300
    assert len(rows_of(driver)) == 12
    driver.find_elements("css selector", "#studies button")[1].click()
    assert len(rows_of(driver)) == 24
    link = "return document.querySelector('#details a').href"
    driver.find_element("css selector", "#board tbody tr td").click()
    assert driver.execute_script(link).startswith(f"{(tmp_path / 'b').as_uri()}/trials/")


def test_a_study_without_trials_says_so(driver: WebDriver, tmp_path: Path) -> None:
    folder, _ = make_study(tmp_path / "none", [])
    headless.open_page(driver, headless.address_of(page.main([folder.path], None)))
    assert text_of(driver, "#chart-history") == "No trial has completed."
    assert text_of(driver, "#chart-timeline") == "No trial has run yet."
    assert rows_of(driver) == []
    assert not errors(driver)


def test_names_of_keys_and_studies_are_texts(driver: WebDriver, tmp_path: Path) -> None:
    space = {EVIL: CategoricalDistribution([EVIL, "b"])}
    made = [Made({EVIL: EVIL}, [0.1]), Made({EVIL: "b"}, [0.2])]
    folder, _ = make_study(
        tmp_path / "evil", made, [EVIL], space=space, command=["python", EVIL], n_trials=2
    )
    record = json.loads(folder.info_file.read_text())
    study = Finished(folder)
    study.record["name"] = EVIL
    assert record["name"] == "mine"
    page.write_page([study], folder.report)
    headless.open_page(driver, headless.address_of(folder.report))
    shown = EVIL.replace("\x1b", "\\x1b")
    assert text_of(driver, "h1") == shown
    driver.find_element("css selector", "#board tbody tr td").click()
    assert shown in text_of(driver, "#details table")
    for chart in ("history", "slice", "importance"):
        element = driver.find_element("id", f"chart-{chart}")
        driver.execute_script(
            "const chart = drawn.get(arguments[0]);"
            "chart.dispatchAction({type: 'showTip', seriesIndex: 0, dataIndex: 0})",
            chart,
        )
        assert element.is_displayed()
    assert driver.execute_script("return window.hacked") is None
    assert driver.execute_script("return document.images.length") == 0


def test_a_served_page_refreshes_itself(driver: WebDriver, tmp_path: Path) -> None:
    folder, made = make_study(tmp_path / "mine", trials(6))
    server = Reports(tmp_path, 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        headless.open_page(driver, f"http://127.0.0.1:{server.server_port}/")
        assert text_of(driver, "#found").startswith("6 trials:")
        choose(driver, "filter", "adam")
        made.enqueue_trial({OPTIMIZER: "adam", LR: 0.01, HIDDEN: 40})
        wait(driver, "document.getElementById('found').textContent.startsWith('7 trials:')")
        wait(driver, "document.querySelectorAll('#board tbody tr').length === 3")
        assert "Live, as of" in text_of(driver, "#fresh")
        driver.find_element("css selector", "#board tbody tr td").click()
        assert str(folder.path) in text_of(driver, "#details")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_lineage_is_drawn_where_there_is_one(
    driver: WebDriver, study: StudyDir, tmp_path: Path
) -> None:
    made = trials(6)
    copied = Inheritance(3, 2, 5, "step-00000005", made[2].params, {LR: [0.1, 0.2]})
    lineage = plain([Inheritance.beginning(made[0].params), copied])
    curve = made[0].curve
    made[0] = Made(made[0].params, curve[-1:], curve, "pruned", attrs={"lineage": lineage})
    folder, _ = make_study(tmp_path / "population", made)
    page.write_page([Finished(folder)], folder.report)
    headless.open_page(driver, headless.address_of(folder.report))
    assert (pixels(driver, "lineage") < 128).all(axis=2).sum() > 100, "the arrow is dark"
    assert driver.execute_script("return strandsOf(current().lineage).slice(0, 2)") == [
        [0, 0, 3],
        [0, 5, 11],
    ]
    assert driver.get_log("browser") == []
    headless.open_page(driver, headless.address_of(study.report))
    assert not driver.find_element("css selector", "#lineage-section").is_displayed()
