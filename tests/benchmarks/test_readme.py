"""README shows what the result files say, and its example runs."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from benchmarks import readme
from snnbench import results

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", readme.PAGES)
def test_tables_are_what_the_result_files_give(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert readme._BLOCK.search(text)
    assert readme.written(text) == text, "python -m benchmarks.readme writes it"


@pytest.mark.parametrize("name", readme.PICTURES)
def test_the_picture_shows_what_the_result_files_say(name: str) -> None:
    pytest.importorskip("matplotlib")
    shown = readme.curves()
    assert readme._figures(ROOT / name) == readme._as_text(shown)
    assert any(label.startswith("SpikingJelly") for label in shown)
    background, _ = readme.PICTURES[name]
    assert background in (ROOT / name).read_text(encoding="utf-8")
    assert f'"{name}"' in TEXT


def test_a_figure_that_is_changed_by_hand_is_noticed() -> None:
    figure = re.search(r"\d+\.\d\d % at T = 4", TEXT)
    assert figure is not None
    assert readme.written(TEXT.replace(figure[0], "99.99 % at T = 4")) == TEXT


def test_a_network_that_is_refused_or_not_equal_is_shown_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    equal = {"T": 4, "way": "torch.fx", "sites": 3, "encoders": 2, "double": 2e-16, "output": 3e-16, "holds": True}
    lines = [
        {**equal, "name": "a"},
        {"name": "a", "T": 8, "refused": "it is", "holds": False},
        {"name": "b", "T": 4, "refused": "it is", "holds": False},
        {**equal, "name": "c", "double": 0.1, "holds": False},
        {"name": "c", "T": 8, "skipped": "no package", "holds": True},
    ]
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    (tmp_path / "benchmarks/zoo").mkdir(parents=True)
    (tmp_path / "benchmarks/zoo/exact.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert readme.BLOCKS["exact"]().splitlines()[2:] == [
        "| a | torch.fx | 3 | 2 | 3e-16 | refused |",
        "| b |  |  |  | refused |  |",
        "| c | torch.fx | 3 | 2 | 1e-01, does not hold |  |",
    ]


def test_every_figure_outside_the_tables_has_its_source() -> None:
    """What is left: the example's output, which the test below makes anew, versions, settings and numbers of images."""
    text = re.sub(r"```.*?```", "", readme._BLOCK.sub("", TEXT), flags=re.DOTALL)
    assert re.findall(r"\d+\.\d+ ?%?", re.sub(r"(Python|torch) [\d.]+", "", text)) == []
    first = results.read(ROOT / "benchmarks/results/cifar10/signed-if.json")
    theirs = results.read(ROOT / "benchmarks/results/cifar10/spikingjelly-robust-99-9.json")
    assert f"all {first['samples']:,} test images" in text
    assert f"the first {theirs['samples']:,}" in text


def test_the_example_gives_the_output_that_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    code, output = re.search(r"```python\n(.*?)```\s*```text\n(.*?)```", TEXT, re.DOTALL).groups()  # type: ignore[union-attr]
    exec(compile(code, "README.md", "exec", dont_inherit=True), {})
    shown = capsys.readouterr().out.split()
    wanted = output.split()
    assert len(shown) == len(wanted)
    for got, expected in zip(shown, wanted, strict=True):
        if re.fullmatch(r"\d+\.\d\d", expected):  # sums differ in the last bit from processor to processor
            assert float(got) == pytest.approx(float(expected), abs=2.5)
        else:
            assert got == expected


def test_files_that_readme_names_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)|(?:src|srcset)=\"([^\"]+)\"", TEXT):
        path = next(filter(None, target))
        assert path.startswith("https://") or (ROOT / path).is_file(), path


def test_commands_of_readme_are_there() -> None:
    from typer.main import get_command

    from snnconv.cli.app import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    found = re.findall(r"`(snnconv [^`]+)`|^(snnconv [^#\n]+)", TEXT, re.MULTILINE)
    assert found
    for words in (shlex.split(" ".join(next(filter(None, pair)).split())) for pair in found):
        if len(words) > 2:
            commands[words[1]].make_context(words[1], words[2:])
        assert words[1] in commands


def test_labels_of_digits_and_cifar10_are_rows_that_were_measured() -> None:
    for folder, rows in (("digits", readme.DIGITS), ("cifar10", readme.CIFAR10)):
        files = {path.stem for path in (ROOT / "benchmarks" / "results" / folder).glob("*.json")}
        assert set(rows) <= files
