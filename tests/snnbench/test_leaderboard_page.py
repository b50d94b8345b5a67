"""The leaderboard page in a browser: sorting, filters, plots, keyboard, and that it is quiet and loads nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from snnbench import leaderboard
from tests.snnbench.test_leaderboard import BENCHMARKS, PUBLISHED, boards, record, thousand

pytest.importorskip("jinja2")
pytest.importorskip("jsonschema")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser: pip install selenium")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


def visit(browser: Any, path: Path, width: int = 1280, height: int = 1000, scheme: str = "light") -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(path.as_uri())
    wait(browser, "return document.querySelector('.dt-container') !== null")


def said(browser: Any) -> list[str]:
    """What the page wrote to the console; the browser's own pages, such as the one it starts with, may write there."""
    return [entry["message"] for entry in browser.get_log("browser") if not entry["message"].startswith("chrome://")]


def requested(browser: Any, path: Path) -> list[str]:
    """What the page at ``path`` asked for, itself included; not what the browser's own pages asked for."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    urls = [p["request"]["url"] for p in sent if p["documentURL"].partition("#")[0] == path.as_uri()]
    return [url for url in urls if not url.startswith("data:")]


def wait(browser: Any, script: str, seconds: float = 60) -> None:
    WebDriverWait(browser, seconds, poll_frequency=0.1).until(lambda b: b.execute_script(script))


def settle(browser: Any, condition: Callable[[], bool]) -> None:
    """The table sorts a moment after the key."""
    WebDriverWait(browser, 20, poll_frequency=0.1).until(lambda _: condition())


def column(browser: Any, number: int) -> list[str]:
    """Cells of a column of the first board, as shown."""
    script = "return [...document.querySelectorAll('.results tbody tr')].map(r => r.cells[arguments[0]].dataset.order)"
    board = "document.querySelector('[data-board]')"
    return browser.execute_script(script.replace("document.", f"{board}.", 1), number)


def field(browser: Any, name: str) -> Any:
    return browser.find_element(By.CSS_SELECTOR, f"[data-board] form [name={name}]")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods on one network, one of them without counted energy, and a published number."""
    quiet = record("baseline", {4: 30.0, 32: 80.0}, notes=["not counted"])
    for point in quiet["points"]:
        point["energy_ratio"] = None
    found = boards(
        tmp_path_factory.mktemp("files"),
        {
            "a": record("signed IF", {4: 80.0, 8: 88.0, 16: 89.0}),
            "b": record("shifted threshold", {3: 86.0, 5: 89.5}, command="snnconv bench shifted.py"),
            "c": quiet,
        },
        PUBLISHED,
    )
    path = tmp_path_factory.mktemp("page") / "leaderboard.html"
    path.write_text(leaderboard.to_html(found))
    return path


def test_the_committed_page_is_quiet_and_loads_nothing(browser: Any) -> None:
    visit(browser, BENCHMARKS / "leaderboard.html")
    for board in browser.find_elements(By.CSS_SELECTOR, "[data-board]"):  # each starts when it comes into view
        browser.execute_script("arguments[0].scrollIntoView({behavior: 'instant'})", board)
        WebDriverWait(browser, 60).until(lambda _, board=board: board.find_elements(By.CSS_SELECTOR, ".dt-container"))
    browser.execute_script("document.querySelector('.open').click()")
    assert said(browser) == []
    assert requested(browser, BENCHMARKS / "leaderboard.html") == [(BENCHMARKS / "leaderboard.html").as_uri()]
    assert browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)") == []


class TestTable:
    def test_starts_with_the_best(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        values = [float(v) for v in column(browser, 1)]
        assert len(values) == 7
        assert values == sorted(values, reverse=True)

    def test_a_click_sorts_and_numbers_sort_as_numbers(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        browser.find_element(By.XPATH, "//table[contains(@class, 'results')]//th[contains(., 'Latency')]").click()
        settle(browser, lambda: [int(v) for v in column(browser, 3)] == [3, 4, 4, 5, 8, 16, 32])

    @pytest.mark.parametrize("key", [Keys.ENTER, Keys.SPACE])
    def test_the_keyboard_sorts(self, browser: Any, page: Path, key: str) -> None:
        visit(browser, page)
        head = browser.find_element(By.CSS_SELECTOR, "[aria-label^='Latency']")
        head.send_keys(key)
        settle(browser, lambda: [int(v) for v in column(browser, 3)] == [3, 4, 4, 5, 8, 16, 32])
        assert browser.execute_script("return arguments[0].closest('th').ariaSort", head) == "ascending"

    def test_empty_figures_come_last_either_way(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        head = browser.find_element(By.CSS_SELECTOR, "[aria-label^='Energy']")
        for ordered in (sorted, lambda values: sorted(values, reverse=True)):
            head.send_keys(Keys.ENTER)
            wanted = list(ordered([0.15, 0.2, 0.25, 0.4, 0.8]))
            settle(browser, lambda wanted=wanted: column(browser, 4) == [*map(str, wanted), "", ""])


class TestFilters:
    @pytest.mark.parametrize(
        ("name", "typed", "rows"), [("search", "shifted", 2), ("latency", "4", 3), ("energy", "0.3", 3)]
    )
    def test_rows_and_plots_follow(self, browser: Any, page: Path, name: str, typed: str, rows: int) -> None:
        visit(browser, page)
        field(browser, name).send_keys(typed)
        assert len(column(browser, 1)) == rows
        assert self.drawn(browser) == rows
        browser.find_element(By.CSS_SELECTOR, "form [type=reset]").click()
        wait(browser, "return document.querySelectorAll('.results tbody tr').length === 7")

    def test_the_front_alone(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        field(browser, "front").click()
        assert sorted(float(v) for v in column(browser, 1)) == [86.0, 89.5]

    def test_methods_are_switched_by_keyboard(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        button = browser.find_element(By.CSS_SELECTOR, ".legend button")
        assert button.text == "shifted threshold"
        button.send_keys(Keys.SPACE)
        assert len(column(browser, 1)) == 5
        pressed = "return [document.activeElement.textContent, document.activeElement.ariaPressed]"
        assert browser.execute_script(pressed) == ["shifted threshold", "false"]

    def test_nothing_matches(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        field(browser, "search").send_keys("no such method")
        assert "No row matches" in browser.find_element(By.CSS_SELECTOR, ".results tbody").text
        assert said(browser) == []

    @staticmethod
    def drawn(browser: Any) -> int:
        """Measured points of the first plot."""
        return browser.execute_script(
            "return Chart.getChart(document.querySelector('canvas')).data.datasets"
            ".filter(d => !d.front).flatMap(d => d.data).filter(p => p.row).length"
        )


class TestPlots:
    def test_hovering_names_the_point(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        canvas = browser.find_element(By.CSS_SELECTOR, "canvas[data-cost=t]")
        browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", canvas)
        x, y = browser.execute_script(
            "const chart = Chart.getChart(arguments[0]);"
            "const set = chart.data.datasets.findIndex(d => d.data.some(p => p.row && p.x === 8));"
            "const at = chart.data.datasets[set].data.findIndex(p => p.x === 8);"
            "const point = chart.getDatasetMeta(set).data[at], box = arguments[0].getBoundingClientRect();"
            "return [box.left + point.x, box.top + point.y]",
            canvas,
        )
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
        wait(browser, "return Chart.getChart(document.querySelector('canvas')).tooltip.opacity > 0")
        tooltip = browser.execute_script(
            "const t = Chart.getChart(arguments[0]).tooltip; return [t.title, t.body]", canvas
        )
        assert tooltip[0] == ["signed IF"]
        assert tooltip[1][0]["lines"] == ["resnet20", "top-1 (%) 88.00 ± 0.32", "latency 8, energy ÷ ANN 0.400"]

    def test_arrows_walk_and_enter_opens(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        canvas = browser.find_element(By.CSS_SELECTOR, "canvas[data-cost=e]")
        canvas.send_keys(Keys.ARROW_RIGHT)
        assert browser.find_element(By.CSS_SELECTOR, ".live").text.startswith("shifted threshold, resnet20")
        canvas.send_keys(Keys.ENTER)
        assert browser.find_element(By.CSS_SELECTOR, "dialog[open] h2").text == "shifted threshold"

    def test_ann_line_front_and_published_numbers(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        script = (
            "const chart = Chart.getChart(document.querySelector('canvas[data-cost=t]')), sets = chart.data.datasets;"
            "return [chart.anns.map(a => a.text), sets.filter(d => d.front).flatMap(d => d.data.map(p => p.x)),"
            "sets.flatMap(d => d.data).filter(p => p.published).map(p => [p.x, p.y])]"
        )
        assert browser.execute_script(script) == [["ANN 90.00"], [3, 5], [[8, 95.4]]]
        field(browser, "published").click()
        assert browser.execute_script(script)[2] == []

    def test_points_below_the_axis_are_counted_and_can_be_shown(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        note = browser.find_element(By.CSS_SELECTOR, "figure .below")
        assert note.text.startswith("1 point lies below")
        field(browser, "whole").click()
        assert not note.is_displayed()


class TestDetails:
    def test_the_command_that_repeats_an_entry(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        browser.find_element(By.XPATH, "//button[@class='open' and text()='shifted threshold']").send_keys(Keys.ENTER)
        dialog = browser.find_element(By.CSS_SELECTOR, "dialog[open]")
        assert "snnconv bench shifted.py" in dialog.text
        assert "0123456789ab" in dialog.text
        browser.switch_to.active_element.send_keys(Keys.ESCAPE)
        assert not browser.find_elements(By.CSS_SELECTOR, "dialog[open]")

    def test_an_address_opens_an_entry(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        browser.get(page.as_uri() + "#entry-a")
        wait(browser, "return document.querySelector('dialog[open]') !== null")
        assert browser.find_element(By.CSS_SELECTOR, "dialog h2").text == "signed IF"


class TestLayout:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [360, 1400])
    def test_the_page_is_no_wider_than_the_window(self, browser: Any, page: Path, width: int, scheme: str) -> None:
        visit(browser, page, width, 800, scheme)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        canvas = browser.execute_script("return document.querySelector('canvas').getBoundingClientRect().width")
        assert 250 < canvas < width
        first = "return getComputedStyle(document.documentElement).backgroundColor"
        assert (sum(map(int, browser.execute_script(first)[4:-1].split(","))) < 150) is (scheme == "dark")

    def test_the_theme_button_overrides_the_system(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        button = browser.find_element(By.ID, "theme")
        shown = []
        for _ in range(3):
            button.click()
            shown.append(browser.execute_script("return document.documentElement.dataset.theme"))
        assert shown == ["light", "dark", "light"]  # light, dark, automatic

    def test_print_shows_every_row(self, browser: Any, tmp_path: Path) -> None:
        many = {f"r{i}": record(f"method {i}", {4: 60.0 + i, 8: 61.0 + i}) for i in range(20)}
        path = tmp_path / "page.html"
        path.write_text(leaderboard.to_html(boards(tmp_path, many)))
        visit(browser, path)
        assert len(column(browser, 1)) == 25
        browser.execute_script("dispatchEvent(new Event('beforeprint'))")
        assert len(column(browser, 1)) == 40
        browser.execute_script("dispatchEvent(new Event('afterprint'))")
        assert len(column(browser, 1)) == 25
        assert browser.execute_cdp_cmd("Page.printToPDF", {})["data"].startswith("JVBER")
        assert said(browser) == []


def test_a_thousand_results_are_paged_and_filtered(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(leaderboard.to_html(leaderboard.build({Path(f"{i}.json"): r for i, r in enumerate(thousand())})))
    visit(browser, path)
    assert len(column(browser, 1)) == 25
    browser.execute_script(
        "const field = document.querySelector('form [name=latency]');"
        "field.value = 8; field.dispatchEvent(new Event('input', {bubbles: true}));"
    )
    assert {int(v) for v in column(browser, 3)} <= {4, 8}
    assert said(browser) == []
