"""The documentation builds without a warning, and its code runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import snnconv
from benchmarks.tutorial_pictures import run_blocks
from snnbench import results
from snnbench.leaderboard.entries import collect
from snnconv import dynamics, methods

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def run_page(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, only: str = "", **given: Any) -> dict[str, Any]:
    """Run a page's Python blocks one after the other, as a reader would; returns what they defined.

    With ``only``, those that contain it, where ``given`` is known already.
    """
    monkeypatch.chdir(folder)
    return run_blocks((DOCS / name).read_text(), str(DOCS / name), only, **given)


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("snntorch", "nir", "matplotlib", "torchvision", "sklearn"):
        pytest.importorskip(package)
    space = run_page("tutorial.md", tmp_path, monkeypatch)
    ann = space["accuracy"](space["model"])
    assert ann > 90
    assert space["curve"][16] > ann - 2
    assert space["found"].ann == pytest.approx(ann, abs=0.01)
    assert space["curve"][16] > space["curve"][1]
    assert space["shifted"][5] > ann - 2
    assert space["costs"].energy_ratio > 0
    for name in ("accuracy", "energy", "layers", "raster", "membrane"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    assert "from its NIR file: " in capsys.readouterr().out


@pytest.mark.parametrize(("page", "package"), [("snntorch.md", "snntorch"), ("nir.md", "nir")])
def test_the_pages_of_frameworks_run(page: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(package)
    assert run_page(page, tmp_path, monkeypatch)["y"].shape[0] in (2, 8)


def test_the_page_on_ann2snn_runs_in_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = run_page("ann2snn.md", tmp_path, monkeypatch)
    digits, model = space["digits"], space["model"]
    reached = snnconv.evaluate(space["ours"], (digits.x_test, digits.y_test), model=model, timesteps=[8])
    assert reached.drop is not None
    assert reached.drop < 3
    assert space["total"].shape == (450, 10)
    assert isinstance(space["converter"].convert(model), torch.nn.Module)


def test_the_page_on_other_tools_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space = run_page("migration.md", tmp_path, monkeypatch)
    better = snnconv.evaluate(space["snn"], space["test"], timesteps=[8]).final
    assert better > snnconv.evaluate(space["toolbox"], space["test"], timesteps=[8]).final
    assert capsys.readouterr().out.count("ANN") == 3


def test_the_page_on_own_data_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_module = pytest.importorskip("PIL.Image")
    pytest.importorskip("mmengine")
    pytest.importorskip("torchvision")
    from snnbench.run import run_config

    space = run_page("own-data.md", tmp_path, monkeypatch)
    assert [point["timesteps"] for point in results.read(space["path"])["points"]] == [4, 8]
    for split, count in (("train", 6), ("test", 3)):
        for name, shade in (("bright", 200), ("dark", 30)):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                image_module.new("RGB", (48, 44), (shade + number, shade, shade)).save(folder / f"{number}.png")
    (tmp_path / "mine.py").write_text(space["config"])
    written = run_config("mine.py", out="results", work_dir="work")
    assert {results.read(path)["label"] for path in written} == {"signed IF", "shifted threshold"}


def test_the_page_of_questions_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("transformers", "torchvision", "PIL"):
        pytest.importorskip(package)
    space = run_page("questions.md", tmp_path, monkeypatch)
    assert space["snn"].timesteps == 16
    printed = capsys.readouterr().out
    assert "torch.Size([64, 5])" in printed
    assert "(3, 32, 32)" in printed


def test_every_page_stands_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    missing = [
        path.name for path in DOCS.glob("*.md") if not re.search(rf"[\[ ]{re.escape(path.name)}[,\]\n]", navigation)
    ]
    assert not missing
    pictures = [name for path in DOCS.glob("*.md") for name in re.findall(r"\]\((pictures/[\w./-]+)", path.read_text())]
    assert pictures
    assert not [name for name in pictures if not (DOCS / name).is_file()]


def test_the_gallery_shows_every_picture() -> None:
    pictures = DOCS / "pictures"
    there = {path.relative_to(DOCS).as_posix() for path in pictures.rglob("*") if path.is_file()}
    shown = set(re.findall(r"\]\((pictures/[\w./-]+)", (DOCS / "gallery.md").read_text(encoding="utf-8")))
    assert shown == there


def test_the_version_is_one() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == snnconv.__version__  # type: ignore[index]
    page = (DOCS / "install.md").read_text()
    assert f"snnconv_plugin-{snnconv.__version__}-py3" in page


def test_the_gpu_page_runs_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = run_page("gpu.md", tmp_path, monkeypatch)
    images = space["images"].to(space["device"])
    assert torch.equal(space["there"](images), space["y"])


def test_the_gpu_page_says_the_limits_of_the_parts() -> None:
    from benchmarks.gpu_check.__main__ import PARTS

    rows = re.findall(r"^\| `(\w+)` \|.*\| (\d+) \|$", (DOCS / "gpu.md").read_text(), re.MULTILINE)
    assert {name: float(seconds) for name, seconds in rows} == PARTS


def test_the_speed_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_page("speed.md", tmp_path, monkeypatch)["result"]
    assert result.output.shape == (100, 3)
    assert result.average_steps < 32


def test_the_page_on_extending_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        space = run_page("extending.md", tmp_path, monkeypatch)
        assert type(space["snn"].neurons["1"]).__name__ == "LeakyIfNode"
        assert torch.equal(space["before"], space["after"])
        assert torch.equal(space["snn"](space["x"]), space["before"])
        assert type(snnconv.load(tmp_path / "leaky.snn.safetensors").method) is space["LeakyIF"]
    finally:
        for table, name in ((dynamics.NEURONS, "leaky_if"), (methods.METHODS, "leaky_if"), (dynamics.BACKENDS, "mine")):
            table.pop(name, None)  # type: ignore[arg-type]


def test_several_inputs_run_as_the_page_on_conversion_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"torch": torch, "snnconv": snnconv, "methods": methods}
    space = run_page("conversion.md", tmp_path, monkeypatch, "class Two", **given)
    x, y, mask = (space[name] for name in ("x", "y", "mask"))
    assert torch.equal(space["two"](x, y), space["two"](y=y, x=x))
    assert [entry["batch"] for entry in space["masked"].input_spec["inputs"]] == [True, True, False]
    assert space["masked"](x[:3], y[:3], mask).shape == (3, 3)


def test_calibration_runs_as_the_page_on_conversion_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 7, 4), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(4, 2),
    ).eval()  # fmt: skip
    given = {"model": network, "resnet": network, "images": torch.randn(32, 3, 32, 32)}
    given |= {"torch": torch, "snnconv": snnconv, "methods": methods}
    space = run_page("conversion.md", tmp_path, monkeypatch, "snnconv.calibrate(", **given)
    assert space["seen"].count == 0, "the last calibration on the page saw no data"
    assert space["snn"].timesteps == 5


def test_the_training_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    space = run_page("training.md", tmp_path, monkeypatch)
    assert space["accuracy"](space["trained"]) > space["accuracy"](space["spiking"]) + 2
    assert space["again"].state_dict().keys() == space["qann"].state_dict().keys()
    assert space["card"].seed == 0
    assert (tmp_path / "fit.png").stat().st_size > 5000
    assert (tmp_path / "net.md").read_text().startswith("# small network")


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "WARNING -" not in done.stderr
    board = (ROOT / "benchmarks" / "leaderboard.html").read_text()
    assert (tmp_path / "site" / "leaderboard-page.html").read_text() == board
    page = (tmp_path / "site" / "api" / "convert.html").read_text()
    assert "SpikingNetwork" in page
    assert '<span class="gp">&gt;&gt;&gt; </span>' in page  # doctests are code


def test_every_public_name_has_its_place_in_the_api_pages() -> None:
    pages = "\n".join(path.read_text() for path in (DOCS / "api").glob("*.md"))
    modules = {"activations", "methods", "training", "ConversionError", "__version__"}
    missing = [
        n for n in snnconv.__all__ if n not in modules and not re.search(rf"::: snnconv\.\S*\b{n}$", pages, re.M)
    ]
    assert not missing
    kinds = [n for n in snnconv.methods.__all__ if n != "METHODS"]
    assert not [n for n in kinds if not re.search(rf"::: snnconv\.methods\.\S+\.{n}$", pages, re.M)]


def test_the_page_on_control_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = run_page("video-control.md", tmp_path, monkeypatch)
    assert space["action"].shape == (1, 3)
    assert (tmp_path / "hopper.snn.safetensors").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("title", "folder", "digits"),
    [
        ("Moving digits", "moving-digits/r3d-16-to-64-channels", 2),
        ("InvertedDoublePendulum-v5", "inverteddoublependulum-v5/sac-actor-64-64", 0),
        ("Hopper-v5", "hopper-v5/sac-actor-128-128", 0),
        ("HalfCheetah-v5", "halfcheetah-v5/td3-actor-128-128", 0),
    ],
)
def test_tables_say_what_the_result_files_say(title: str, folder: str, digits: int) -> None:
    found = {e.label: e for e in collect(results.read_all(ROOT / "benchmarks" / "results" / folder))}  # of all seeds
    text = (DOCS / "video-control.md").read_text()
    paragraph, table = re.search(rf"^({title}, .*?)\n\n(\|.*?)\n\n", text, re.DOTALL | re.MULTILINE).groups()  # type: ignore[union-attr]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert {row[0] for row in rows} == set(found)
    for label, *cells in rows:
        assert f"ANN {found[label].ann.value:,.{digits}f}" in paragraph
        points = {str(row.latency): f"{row.estimate.value:,.{digits}f}" for row in found[label].rows}
        assert dict(zip(head[1:], cells, strict=True)) == {t: points.get(t, "") for t in head[1:]}
        assert set(points) <= set(head)


def _rows(page: str) -> list[list[str]]:
    """Cells of every table row of a page, heads and rulers left out."""
    lines = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "network" and set(row[0]) != {"-"}]


def test_results_on_the_page_on_the_papers_are_committed_ones() -> None:
    records = results.read_all(ROOT / "benchmarks/results").values()
    values = {round(v, 2) for r in records for v in r["ann"]["metrics"].values() if v is not None}
    values |= {round(v, 2) for r in records for p in r["points"] for v in p["metrics"].values() if v is not None}
    rows = _rows("papers.md")
    assert len(rows) > 30
    for row in rows:
        for figure in re.findall(r"\d+\.\d{2}(?= \(|$|<)", row[3]):
            assert float(figure) in values, (figure, row)
