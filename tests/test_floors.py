"""A unit of the plugin (a folder, or a file of the root) imports only from floors below its own.

Every import counts: those inside functions and those for type checkers, too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import snnconv

PLUGIN = Path(snnconv.__file__).parent
FLOORS = (
    ("limits", "report", "progress", "tables", "_version", "_moved"),
    ("files",),
    ("dynamics", "graph"),
    ("neurons", "activations"),
    ("methods",),
    ("runtime",),
    ("network",),
    ("inputs", "sequence"),
    ("metrics", "storage"),
    ("conversion",),
    ("training",),
    ("export", "integrations", "selection", "control", "plot", "demo"),
    ("page",),
    ("__init__", "snntorch"),
    ("cli",),
    ("__main__",),
)
FLOOR = {unit: number for number, units in enumerate(FLOORS) for unit in units}
ELSEWHERE = ("snnbench", "mmengine", "mmdet", "mmseg", "mmcv")


def module(path: Path) -> str:
    parts = path.relative_to(PLUGIN.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def unit(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


FILES = {module(path): path for path in sorted(PLUGIN.rglob("*.py"))}


def source(name: str) -> str:
    return FILES[name].read_text(encoding="utf-8")


def imports(name: str, text: str) -> Iterator[tuple[str, int]]:
    """The modules that a file imports, each with its line; of a package's names those that are modules of it."""
    package = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield (whole if whole in FILES else base), node.lineno


def not_below(name: str, text: str) -> list[str]:
    """Imports of a file that are not of a floor below, or of the suite or mm*."""
    here, wrong = unit(name), []
    for target, line in imports(name, text):
        root = target.split(".")[0]
        if root in ELSEWHERE:
            wrong.append(f"line {line}: {target}")
        elif root == "snnconv" and unit(target) != here and FLOOR[unit(target)] >= FLOOR[here]:
            wrong.append(f"line {line}: {target}, floor {FLOOR[unit(target)]}, from floor {FLOOR[here]}")
    return wrong


def circles(sources: Mapping[str, str]) -> list[str]:
    """Chains of files that import each other."""
    arrows = {n: {t for t, _ in imports(n, text) if t in sources and t != n} for n, text in sources.items()}
    done: set[str] = set()
    found: list[str] = []

    def visit(name: str, trail: list[str]) -> None:
        if name in trail:
            found.append(" -> ".join([*trail[trail.index(name) :], name]))
            return
        if name in done:
            return
        for target in sorted(arrows[name]):
            visit(target, [*trail, name])
        done.add(name)

    for name in sources:
        visit(name, [])
    return found


def test_every_unit_stands_on_a_floor() -> None:
    assert {unit(name) for name in FILES} == set(FLOOR)


@pytest.mark.parametrize("name", FILES)
def test_imports_go_down(name: str) -> None:
    wrong = not_below(name, source(name))
    assert not wrong, f"{name}: " + "; ".join(wrong)


@pytest.mark.parametrize(
    "planted",
    [
        "import snnconv.conversion.bias",
        "from snnconv.conversion import bias",
        "from snnconv.conversion.bias import correct_biases",
        "from ..conversion import bias",
        "from .. import network",
        "def later():\n    from snnconv.conversion import bias",
        "if TYPE_CHECKING:\n    from snnconv.network import SpikingNetwork",
        "import snnconv",
        "from snnconv import convert",
        "from snnconv.dynamics import neuron",  # beside it, on the same floor
        "import snnbench.results",
        "def later():\n    from mmengine.runner import Runner",
        "import mmdet",
        "import mmseg",
        "from mmcv import ops",
    ],
)
def test_an_arrow_that_does_not_go_down_is_found(planted: str) -> None:
    name = "snnconv.graph.fold"
    assert not not_below(name, source(name))
    assert len(not_below(name, f"{source(name)}\n{planted}\n")) == 1


@pytest.mark.parametrize("name", [name for name in FILES if unit(name) == "graph"])
def test_the_graph_imports_nothing_of_the_project(name: str) -> None:
    found = {unit(target) for target, _ in imports(name, source(name)) if target.split(".")[0] == "snnconv"}
    assert found <= {"graph"}


def test_no_circle_of_files() -> None:
    assert not circles({name: source(name) for name in FILES})


@pytest.mark.parametrize("how", ["{}", "def later():\n    {}", "if TYPE_CHECKING:\n    {}"])
def test_a_circle_is_found(how: str) -> None:
    here = "snnconv.graph.fold"
    sources = {name: source(name) for name in FILES}
    assert "snnconv.graph.source" in {
        target for target, _ in imports("snnconv.graph.fold", sources["snnconv.graph.fold"])
    }
    sources["snnconv.graph.source"] += "\n" + how.format("from snnconv.graph import fold") + "\n"
    assert any(here in chain and "snnconv.graph.source" in chain for chain in circles(sources))


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_one_reason_to_change(name: str) -> None:
    """Over 400 lines it has two."""
    assert len(source(name).splitlines()) <= 400


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_which_of_its_names_are_for_others(name: str) -> None:
    body = ast.parse(source(name)).body
    names = {getattr(node, "name", "") for node in body}
    for node in body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            names |= {ast.unparse(t) for t in (node.targets if isinstance(node, ast.Assign) else [node.target])}
    assert "__all__" in names or all(n.startswith("__") for n in names if n)
