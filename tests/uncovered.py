"""The plugin's lines that no unit test runs, by reason: ``tox -e coverage`` prints them; ``tests/uncovered.md``.

Reads what ``coverage json`` wrote. Functions are named in place of lines, which move.
"""

from __future__ import annotations

import ast
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

REFUSAL = "refusals: a sentence about an input that no test gives"
HANDLER = "answers to an error of another library, of the disk or of a package that is missing"
NOTHING = "there is nothing to do, or nothing to say: an early return of a constant, `continue`, `pass`"
OTHER = "a combination that no test asks for"
PLACES = {
    "conversion/ranks.py": "in ranks of a process group, which are processes of their own and end without a record",
    "conversion/histogram.py": "in ranks of a process group, which are processes of their own and end without a record",
    "conversion/reconstruct.py": "run by tests of the gate alone, on pictures",
    "dynamics/kernels/backends.py": "on a GPU, or compiled by PyTorch's inductor in a test of the gate",
    "dynamics/kernels/processor.py": "on another processor or a GPU; tests pretend both ways",
    "dynamics/ladder_thresholds.py": "on a GPU",
    "cli/doctor.py": "on a GPU, or where a package is missing",
    "integrations/neurobench.py": "with the package neurobench, which no test environment has to have",
}
"""Reasons of what is left in a file behind refusals, handlers and early returns."""


def main(report: Path) -> None:
    """Print the table and the list."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    lines = missed = 0
    for name, file in sorted(json.loads(report.read_text())["files"].items()):
        lines += file["summary"]["num_statements"]
        place = name.replace("\\", "/").partition("plugin/snnconv/")[2]
        for function, reason in reasons(Path(name), set(file["missing_lines"]), PLACES.get(place, OTHER)):
            found[reason][f"{place} {function}"] += 1
            missed += 1
    print("# Lines of the plugin that no unit test runs\n")
    print(f"{missed:,} of {lines:,} ({1 - missed / lines:.1%} are run), written by `tests/uncovered.py`.\n")
    print("| Lines | Reason |\n|---|---|")
    for reason, places in sorted(found.items(), key=lambda item: -item[1].total()):
        print(f"| {places.total()} | {reason} |")
    for reason, places in sorted(found.items(), key=lambda item: -item[1].total()):
        print(f"\n## {reason[0].upper()}{reason[1:]}\n")
        files: dict[str, list[str]] = defaultdict(list)
        for where, count in places.items():
            file, _, function = where.partition(" ")
            files[file].append(f"{function} {count}" if count > 1 else function)
        print("\n".join(f"- `{file}`: {', '.join(functions)}" for file, functions in files.items()))


def reasons(path: Path, missing: set[int], otherwise: str) -> Iterator[tuple[str, str]]:
    """Of each missing line, in which function it stands, and why it is not run."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside: list[tuple[ast.AST, str, bool]] = [(tree, "at import", False)]
    while inside:
        node, function, handled = inside.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            function = node.name if function == "at import" else f"{function}.{node.name}"
        handled = handled or isinstance(node, ast.ExceptHandler)
        if isinstance(node, ast.stmt | ast.ExceptHandler) and node.lineno in missing:
            missing = missing - {node.lineno}
            yield function, _reason(node, handled, otherwise)
        inside += [(child, function, handled) for child in ast.iter_child_nodes(node)]


def _reason(node: ast.AST, handled: bool, otherwise: str) -> str:
    if isinstance(node, ast.Raise):
        return REFUSAL
    if handled:
        return HANDLER
    if isinstance(node, ast.Continue | ast.Break | ast.Pass):
        return NOTHING
    constant = isinstance(node, ast.Return) and (node.value is None or isinstance(node.value, ast.Constant))
    return NOTHING if constant else otherwise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
