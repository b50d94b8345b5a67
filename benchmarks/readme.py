"""``python -m benchmarks.readme``: README's picture and figures, and tables of the docs, from result files.

What stands between ``<!-- figures: NAME -->`` and ``<!-- end -->`` of these pages is written by this command alone;
``--check`` writes nothing and fails where a page is not what the files say.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import papers
from snnbench import results
from snnbench.results import Record, write_whole

__all__ = ["BLOCKS", "PICTURES", "curves", "main", "picture", "written"]

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ("README.md", "docs/measured.md", "docs/ann2snn.md", "docs/papers.md", "docs/without-relu.md")
PICTURES = {
    "docs/pictures/accuracy-light.svg": ("#ffffff", "#1f2328"),
    "docs/pictures/accuracy-dark.svg": ("#0d1117", "#e6edf3"),
}
"""File → background and writing, those of the pages it stands on."""
LADDER = "docs/pictures/ladder.svg"
"""What a ladder neuron says of SiLU."""
OURS = ("shifted-threshold-reconstructed", "signed-if", "if")
THEIRS = ("spikingjelly-robust-99-9", "spikingjelly-rate-99-9", "spikingjelly-rate-max", "spikingjelly-ltb-delay")


def _row(*parts: str) -> Record:
    return results.read(RESULTS.joinpath(*parts[:-1], f"{parts[-1]}.json"))


def _points(record: Record) -> dict[int, float]:
    """Steps that run → the row's metric; of several readout windows the first, which is the row's own."""
    found: dict[int, float] = {}
    for point in record["points"]:
        found.setdefault(point["latency"], point["metrics"][record["metric"]])
    return dict(sorted(found.items()))


def _ann(record: Record) -> float:
    value: float = record["ann"]["metrics"][record["metric"]]
    return value


# --- the picture -------------------------------------------------------------------------------------------


def curves() -> dict[str, dict[int, float]]:
    """What the picture shows: CIFAR-10, ResNet-20, ours and SpikingJelly's own recipes."""
    rows = [_row("cifar10", name) for name in (*OURS, *THEIRS)]
    return {row["label"]: _points(row) for row in rows}


def picture(background: str, writing: str) -> bytes:
    """Accuracy against time steps as an SVG; its description holds the figures."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from snnconv import plot

    shown = curves()
    style = {
        "svg.hashsalt": "snnconv",
        "axes.facecolor": background,
        "axes.edgecolor": writing,
        "axes.labelcolor": writing,
        "text.color": writing,
        "xtick.color": writing,
        "ytick.color": writing,
        "legend.facecolor": background,
        "legend.edgecolor": "0.5",
    }
    with rc_context(style):
        figure = Figure(figsize=(8, 4.2), layout="constrained", facecolor=background)
        axes = figure.subplots()
        dashed = {label for label in shown if label.startswith("SpikingJelly")}
        plot.accuracy(shown, ann=_ann(_row("cifar10", OURS[0])), dashed=dashed, axes=axes)
        axes.lines[-1].set_color(writing)
        axes.set_title("CIFAR-10, ResNet-20: converted without training", fontsize=11)
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Description": json.dumps(shown)})
    return b"\n".join(line.rstrip() for line in content.getvalue().splitlines()) + b"\n"


def ladder() -> bytes:
    """SiLU in 4 bits, as an SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from snnconv import plot
    from snnconv.graph.functions import SiLU

    with rc_context({"svg.hashsalt": "snnconv"}):
        figure = Figure(figsize=(7, 3.6), layout="constrained", facecolor="#ffffff")
        plot.ladder(SiLU(), 0.1, 4, axes=figure.subplots())
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    return b"\n".join(line.rstrip() for line in content.getvalue().splitlines()) + b"\n"


# --- tables ------------------------------------------------------------------------------------------------


def _why() -> str:
    """Three reasons with one figure each."""
    best, beside = _row("cifar10", "shifted-threshold"), _row("cifar10", "spikingjelly-robust-99-9")
    bccd = _row("bccd", "retinanet-resnet-18-32-channels", "shifted-threshold")
    cells = json.loads((ROOT / "benchmarks/speed/results/cpu.json").read_text(encoding="utf-8"))["cells"]
    where = {"network": "resnet20", "batch": 64, "timesteps": 16}
    own = [cell for cell in cells if all(cell[key] == value for key, value in where.items()) and "ratio" in cell]
    ratios = {cell["engine"]: cell["ratio"] for cell in own}
    theirs = min(ratio for engine, ratio in ratios.items() if engine.startswith("SpikingJelly"))
    rows = (
        (
            "accurate after few steps",
            f"CIFAR-10, ResNet-20, no training: {_points(best)[4]:.2f} % at T = 4, ANN {_ann(best):.2f} %; "
            f"SpikingJelly's best recipe: {_points(beside)[4]:.1f} %",
        ),
        (
            "any network, any task",
            f"a whole RetinaNet detector, up to its raw maps: {_points(bccd)[5]:.2f} AP50 at T = 5, ANN "
            f"{_ann(bccd):.2f}; SpikingJelly's recipes refuse it",
        ),
        (
            "fast",
            f"a step of that ResNet-20 takes {ratios['snnconv signed IF']:.2f} of one pass of its ANN on two cores; "
            f"SpikingJelly's neurons: {theirs:.2f}",
        ),
    )
    return "\n".join(["| why | measured |", "| --- | --- |", *(f"| **{name}** | {text} |" for name, text in rows)])


def _table(labels: dict[str, str], steps: tuple[int, ...], *folder: str) -> str:
    """A row a file, a column a number of steps."""
    lines = [f"| method | {' | '.join(map(str, steps))} |", "| --- " * (len(steps) + 1) + "|"]
    for name, label in labels.items():
        row = _row(*folder, name)
        digits = 1 if row["samples"] < 2000 and row["metric"] == "top1" else 2
        points = _points(row)
        lines.append(f"| {label} | {' | '.join(f'{points[t]:.{digits}f}' if t in points else '' for t in steps)} |")
    return "\n".join(lines)


def _exact() -> str:
    """A row a published network: how near to the quantised network in float64 the site that is furthest off is."""
    text = (ROOT / "benchmarks/zoo/exact.jsonl").read_text(encoding="utf-8")
    found: dict[str, dict[int, Record]] = {}
    for line in map(json.loads, text.splitlines()):
        found.setdefault(line["name"], {})[line["T"]] = line
    lines = ["| network | captured by | sites | encoders | T = 4 | T = 8 |", "| --- " * 6 + "|"]
    for name, tried in sorted(found.items()):
        most = {key: value for line in tried.values() for key, value in line.items()}  # one may be refused
        cells = [str(most.get(key, "")) for key in ("way", "sites", "encoders")]
        lines.append(f"| {' | '.join([name, *cells, *(_off(tried.get(t)) for t in (4, 8))])} |")
    return "\n".join(lines)


def _off(line: Record | None) -> str:
    """A cell of that table."""
    if line is None or "skipped" in line:
        return ""
    if "refused" in line:
        return "refused"
    return f"{max(line['double'], line['output']):.0e}" + ("" if line["holds"] else ", does not hold")


CIFAR10 = {
    "shifted-threshold-reconstructed": "shifted threshold, reconstructed",
    "shifted-threshold": "shifted threshold",
    "differential-multi-threshold": "differential multi-threshold ²",
    "signed-if-reconstructed": "signed IF, reconstructed",
    "signed-if": "signed IF",
    "srp-t-2": "SRP, τ = T/2",
    "if": "IF",
    "ltb-delayed-readout": "LTB, delayed readout",
    "spikingjelly-robust-99-9": "SpikingJelly rate coding, its best setting ¹",
}
WHOLE = {
    "shifted-threshold": "shifted threshold",
    "signed-if": "signed IF",
    "if": "IF",
    "srp": "SRP, 4 + T",
    "rnl-untrained-p-1": "RNL, untrained (p = 1)",
    "ltb": "LTB",
}
STEPS = (3, 4, 5, 8, 16, 32)
DIGITS = {
    "shifted-threshold": "shifted threshold",
    "signed-if": "signed IF",
    "if": "IF",
    "ltb-delayed-readout": "LTB, delayed readout",
    "spikingjelly-robust-99-9": "SpikingJelly rate, as in its ImageNet example",
    "spikingjelly-rate-99-9": "SpikingJelly rate, 99.9 %",
    "spikingjelly-rate-max": "SpikingJelly rate, max",
    "spikingjelly-ltb-delay": "SpikingJelly LTB, delayed readout",
}
BLOCKS: dict[str, Callable[[], str]] = {
    "why": _why,
    "cifar10": lambda: _table(CIFAR10, (2, *STEPS, 64), "cifar10"),
    "ann2snn_digits": lambda: _table(DIGITS, (1, 2, 4, 8, 16, 32), "digits"),
    "ann2snn_cifar10": lambda: _table(
        {name: label for name, label in DIGITS.items() if (RESULTS / "cifar10" / f"{name}.json").is_file()},
        (*STEPS, 64),
        "cifar10",
    ),
    "bccd": lambda: _table(WHOLE, STEPS, "bccd", "retinanet-resnet-18-32-channels"),
    "camvid": lambda: _table(WHOLE, STEPS, "camvid", "fcn-resnetv1c-18-32-channels"),
    "exact": _exact,
    **{f"paper_{key}": functools.partial(papers.table, key) for key in papers.PAPERS},
}
"""Name of a block → its content."""
_BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def written(text: str) -> str:
    """A page with its blocks as the result files give them.

    Raises:
        KeyError: a block of a name that is not known.
    """

    def block(found: re.Match[str]) -> str:
        return f"{found[1]}\n{BLOCKS[found[2]]()}\n\n{found[3]}"

    return _BLOCK.sub(block, text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is out of date")
    options = parser.parse_args(arguments)
    outdated = 0
    made: dict[str, bytes] = {}
    for page in PAGES:
        before = (ROOT / page).read_text(encoding="utf-8")
        after = written(before)
        outdated += before != after
        made[page] = after.encode()
    for name, colours in PICTURES.items():
        made[name] = picture(*colours)
        outdated += not (ROOT / name).is_file() or _figures(ROOT / name) != _as_text(curves())
    made[LADDER] = ladder()
    outdated += not (ROOT / LADDER).is_file()
    if options.check:
        print(f"{outdated} pages or pictures are out of date" if outdated else "README is what the result files give")
        return 1 if outdated else 0
    for name, content in made.items():
        write_whole(ROOT / name, content)
        print(f"wrote {name}")
    return 0


def _figures(path: Path) -> Any:
    """The figures in a picture's description."""
    import html

    found = re.search(r"<dc:description>(.*?)</dc:description>", path.read_text(encoding="utf-8"), re.DOTALL)
    return json.loads(html.unescape(found[1])) if found else None


def _as_text(found: dict[str, dict[int, float]]) -> Any:
    return json.loads(json.dumps(found))


if __name__ == "__main__":
    raise SystemExit(main())
