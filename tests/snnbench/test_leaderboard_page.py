"""The leaderboard page in a browser: budgets, cost models, rows, plots, keyboard; it is quiet and loads nothing."""

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
    wait(browser, "return document.querySelector('#overview table') !== null")


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


def cells(browser: Any, selector: str) -> list[str]:
    """Texts of what a selector finds in the first board."""
    script = "return [...document.querySelector('[data-board]').querySelectorAll(arguments[0])].map(x => x.textContent)"
    found: list[str] = browser.execute_script(script, selector)
    return found


def open_rows(browser: Any) -> None:
    browser.execute_script("document.querySelector('[data-board] details.more').open = true")
    wait(browser, "return document.querySelector('.rows tbody tr') !== null")


def column(browser: Any, title: str) -> list[str]:
    """Cells of a column of the first board's rows, as shown."""
    heads = [text.strip() for text in cells(browser, ".rows thead th:not([hidden])")]
    place = heads.index(title) + 1
    return cells(browser, f".rows tbody tr > :nth-child({place})")


def head(browser: Any, title: str) -> Any:
    return browser.find_element(By.XPATH, f"//table[@class='rows']//th/button[normalize-space()='{title}']")


def field(browser: Any, name: str) -> Any:
    return browser.find_element(By.CSS_SELECTOR, f"[data-board] form [name={name}]")


def choose(browser: Any, selector: str, value: str) -> None:
    script = (
        "const s = document.querySelector(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('change'))"
    )
    browser.execute_script(script, selector, value)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods on one network, one of them without counted energy, and a published number."""
    quiet = record("baseline", {4: 30.0, 32: 80.0}, notes=["not counted"])
    for point in quiet["points"]:
        point["energy_ratio"] = point["energies"] = None
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
    for name in browser.execute_script("return [...document.getElementById('cost').options].map(o => o.value)"):
        choose(browser, "#cost", name)
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    browser.execute_script("document.querySelector('.open').click()")
    assert said(browser) == []
    assert requested(browser, BENCHMARKS / "leaderboard.html") == [(BENCHMARKS / "leaderboard.html").as_uri()]
    assert browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)") == []


@pytest.mark.parametrize("width", [390, 1400])
def test_the_best_method_for_a_task_within_four_steps_is_on_its_first_screen(browser: Any, width: int) -> None:
    visit(browser, BENCHMARKS / "leaderboard.html", width, 844)
    link = browser.find_element(By.XPATH, "//nav//a[normalize-space()='CamVid']")
    browser.execute_script("document.documentElement.style.scrollBehavior = 'auto'; arguments[0].click()", link)
    row = browser.find_element(
        By.XPATH, "//section[@id='segmentation-camvid']//table[@class='answers']//tr[starts-with(., 'T ≤ 4')]"
    )
    box = browser.execute_script(
        "const b = arguments[0].getBoundingClientRect(); return [b.left, b.right, b.top, b.bottom]", row
    )
    assert box[0] >= 0
    assert box[1] <= width
    assert 0 <= box[2] < box[3] <= 844
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


class TestAnswers:
    def test_each_budget_names_its_best_method(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        shown = cells(browser, ".answers tbody tr:not(.group)")
        assert shown[0].startswith("nonethe ANN, float3290.00")
        assert shown[1].startswith("T ≤ 4shifted thresholdT = 3, energy 0.15network 3 steps86.00")
        assert shown[2].startswith("T ≤ 8, 16, 32shifted thresholdT = 5, energy 0.25network 5 stepsor signed IF89.50")

    def test_energy_budgets_follow_the_cost_model(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        assert "Energy ÷ ANN, 45nm" in cells(browser, ".group")
        choose(browser, "#cost", "lemaire")
        assert cells(browser, ".group") == ["Time steps"]
        assert "energy" not in cells(browser, ".answers tbody tr")[2]
        assert "lemaire counts operations, addressing" in browser.find_element(By.ID, "cost-note").text

    def test_networks_are_chosen_one_at_a_time(self, browser: Any, tmp_path: Path) -> None:
        files = {"a": record("alpha", {4: 80.0}), "b": record("beta", {4: 70.0}, architecture="another network")}
        path = tmp_path / "page.html"
        path.write_text(leaderboard.to_html(boards(tmp_path, files)))
        visit(browser, path)
        assert "alpha" in cells(browser, ".answers")[0]
        choose(browser, "[data-board] select", "1")
        assert "beta" in cells(browser, ".answers")[0]
        assert "alpha" not in cells(browser, ".answers")[0]

    def test_the_quantised_network_stands_beside_it_and_equal_ones_are_called_lossless(
        self, browser: Any, tmp_path: Path
    ) -> None:
        content = record("shifted threshold", {4: 88.0, 5: 89.0})
        for point, value in zip(content["points"], (88.0, 89.2), strict=True):
            scores = {"metrics": {"top1": value}, "metrics_int8": {"top1": value - 0.1}}
            point["twin"] = {"levels": 2 ** point["timesteps"] - 1, "energies": None, **scores}
            point["twin"]["agreement"] = 1.0 if value == 88.0 else 0.975
        path = tmp_path / "page.html"
        path.write_text(leaderboard.to_html(boards(tmp_path, {"a": content})))
        visit(browser, path)
        found = cells(browser, ".answers tbody tr td:nth-child(4)")
        assert "88.00lossless 15 levels; int8 87.90" in found
        assert "89.2031 levels; int8 89.10; 97.5 % same answers" in found


class TestRows:
    def test_they_start_with_the_best(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        open_rows(browser)
        values = [float(v) for v in column(browser, "top-1 (%)")]
        assert len(values) == 7
        assert values == sorted(values, reverse=True)

    @pytest.mark.parametrize("key", [Keys.ENTER, Keys.SPACE])
    def test_the_keyboard_sorts_numbers_as_numbers(self, browser: Any, page: Path, key: str) -> None:
        visit(browser, page)
        open_rows(browser)
        head(browser, "T").send_keys(key)
        settle(browser, lambda: [int(v) for v in column(browser, "T")] == [32, 16, 8, 5, 4, 4, 3])
        assert browser.execute_script("return arguments[0].closest('th').ariaSort", head(browser, "T")) == "descending"

    def test_empty_figures_come_last_either_way(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        open_rows(browser)
        for wanted in (["0.80", "0.40", "0.25", "0.20", "0.15"], ["0.15", "0.20", "0.25", "0.40", "0.80"]):
            head(browser, "Energy").send_keys(Keys.ENTER)
            settle(browser, lambda wanted=wanted: column(browser, "Energy") == [*wanted, "–", "–"])

    @pytest.mark.parametrize(
        ("name", "typed", "rows"), [("search", "shifted", 2), ("latency", "4", 3), ("energy", "0.3", 3)]
    )
    def test_filters_leave_what_they_say(self, browser: Any, page: Path, name: str, typed: str, rows: int) -> None:
        visit(browser, page)
        open_rows(browser)
        field(browser, name).send_keys(typed)
        assert len(column(browser, "T")) == rows
        assert f"{rows} of 7 rows" in browser.find_element(By.CSS_SELECTOR, ".filters").text

    def test_a_filter_of_steps_hides_published_numbers_too(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        open_rows(browser)
        shown = (
            "return [...document.querySelectorAll('[data-board] .published tbody tr')].filter(r => !r.hidden).length"
        )
        assert browser.execute_script(shown) == 1
        assert len(cells(browser, "svg .ghost")) == 1
        assert len(cells(browser, "svg circle[fill^=var]")) == 6
        field(browser, "latency").send_keys("7")
        assert browser.execute_script(shown) == 0
        assert cells(browser, "svg .ghost") == []
        assert len(cells(browser, "svg circle[fill^=var]")) == 4

    def test_what_a_step_is_stands_in_units(self, browser: Any, tmp_path: Path) -> None:
        content = record("shifted threshold", {4: 88.0})
        content["points"][0] |= {"pipelined_latency": 76, "pipeline": [76, 4], "bits_per_step": 1.0}
        path = tmp_path / "page.html"
        path.write_text(leaderboard.to_html(boards(tmp_path, {"a": content})))
        visit(browser, path)
        assert "network 76 steps; pipeline 76, then every 4; 1 bit a step" in cells(browser, ".units")
        open_rows(browser)
        assert (column(browser, "Pipeline: first"), column(browser, "then every")) == (["76"], ["4"])


class TestPlots:
    def point(self, browser: Any, index: int) -> tuple[float, float]:
        script = (
            "const c = document.querySelectorAll('[data-board] svg circle[fill^=var]')[arguments[0]];"
            "c.ownerSVGElement.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const b = c.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]"
        )
        x, y = browser.execute_script(script, index)
        return x, y

    def test_every_line_has_its_name_and_its_methods_colour(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        assert sorted(cells(browser, "svg .name")) == sorted(
            title * 2
            for title in ("signed IF", "shifted threshold", "baseline")  # with its title for pointers
        )
        assert len(cells(browser, "svg .series")) == 3

    def test_hovering_names_the_point(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        x, y = self.point(browser, 0)
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
        wait(browser, "return !document.getElementById('tip').hidden")
        told = browser.find_element(By.ID, "tip").text
        assert "top-1 (%) 8" in told
        assert "of the ANN’s energy (45nm)" in told

    def test_arrows_walk_and_enter_opens(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        svg = browser.find_element(By.CSS_SELECTOR, "[data-board] svg")
        svg.send_keys(Keys.ARROW_RIGHT)
        assert browser.find_element(By.ID, "tip").text.startswith("shifted threshold")
        svg.send_keys(Keys.ENTER)
        assert browser.find_element(By.CSS_SELECTOR, "dialog[open] h2").text == "shifted threshold"

    def test_published_numbers_are_ghosts_and_points_below_are_counted(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        assert len(cells(browser, "svg .ghost")) == 1
        (below,) = cells(browser, ".below")
        assert below.startswith("1 point lies below the axis. ◇")
        assert "ANN 90.00" in cells(browser, "svg text")

    def test_without_any_counted_energy_it_says_so(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        choose(browser, "#cost", "loihi")
        browser.find_element(By.XPATH, "//section[@data-board='0']//button[text()='energy']").click()
        assert cells(browser, ".below") == ["No file of this network holds this cost."]

    def test_at_most_eight_lines(self, browser: Any, tmp_path: Path) -> None:
        many = {f"r{i}": record(f"method {i}", {4: 60.0 + i, 8: 61.0 + i}) for i in range(11)}
        path = tmp_path / "page.html"
        path.write_text(leaderboard.to_html(boards(tmp_path, many)))
        visit(browser, path)
        assert len(cells(browser, "svg .series")) == 8
        assert "3 more methods in the rows below." in cells(browser, ".below")[0]


class TestDetails:
    def test_the_command_that_repeats_an_entry(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        button = browser.find_element(By.XPATH, "//button[@class='open' and contains(., 'shifted threshold')]")
        button.send_keys(Keys.ENTER)
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
        open_rows(browser)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        svg = browser.execute_script("return document.querySelector('svg').getBoundingClientRect().width")
        assert 250 < svg < width
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

    def test_print_shows_every_row(self, browser: Any, page: Path) -> None:
        visit(browser, page)
        browser.execute_script("dispatchEvent(new Event('beforeprint'))")
        assert len(column(browser, "T")) == 7
        assert browser.execute_cdp_cmd("Page.printToPDF", {})["data"].startswith("JVBER")
        assert said(browser) == []

    def test_one_of_anything_is_counted_as_one(self, browser: Any, tmp_path: Path) -> None:
        path = tmp_path / "page.html"
        path.write_text(leaderboard.to_html(boards(tmp_path, {"a": record(points={4: 80.0})})))
        visit(browser, path)
        assert "1 measured entry on 1 data set," in browser.find_element(By.CSS_SELECTOR, ".sub").text
        assert cells(browser, "summary") == ["All 1 row of this network"]


def test_a_thousand_results_are_shown(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(leaderboard.to_html(leaderboard.build({Path(f"{i}.json"): r for i, r in enumerate(thousand())})))
    visit(browser, path)
    open_rows(browser)
    field(browser, "latency").send_keys("8")
    assert {int(v) for v in column(browser, "T")} <= {4, 8}
    assert said(browser) == []
