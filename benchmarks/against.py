"""``python -m benchmarks.against COMMIT``: this checkout beside an earlier one, on the same machine and in one run.

Every method in both frameworks converts a digits CNN and, where ``SNNCONV_DATA`` has it, CIFAR-10's ResNet-20; outputs
are compared bit for bit. Where they differ, what the earlier conversion found (thresholds, biases, weights, the delay)
is put into this one's network, part by part: the parts after which outputs are equal are all that differs. Files that
the earlier release saved are loaded by this one. Calls, ``import snnconv`` and loading, of a file that each release
wrote by itself, are timed in pairs, one of each in turn. Each release runs in a process of its own; the earlier one in
a worktree of its commit. With ``--out`` every row is written as it comes, and a run that was stopped goes on where it
stood.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import against_worker
from snnbench.results import check_out, provenance, write_whole

ROOT = Path(__file__).parent.parent
MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**36)}
"""Both releases keep the memory that a call frees: whether glibc hands it back and faults it in again is decided anew
in each process, and moves the time of a ResNet-20 with 16 steps by a tenth either way."""
BOUNDS = {"speed": 1.03, "load": 1.2}
"""How much longer than the earlier release's a call, and loading, may take: a file is checked now."""


class Worker:
    """One release in a process of its own, told what to do line by line."""

    def __init__(self, tree: Path, folder: Path) -> None:
        path = os.pathsep.join(str(tree / part) for part in ("plugin", "benchmarks", "."))
        command = [sys.executable, str(Path(against_worker.__file__)), str(folder)]
        env = {**os.environ, **MEMORY, "PYTHONPATH": path}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def ask(self, what: str, **arguments: Any) -> Any:
        """The worker's answer.

        Raises:
            RuntimeError: it failed; the message is its own.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"what": what, **arguments}) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(against_worker.ANSWER):
                answer = json.loads(line.removeprefix(against_worker.ANSWER))
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return answer["value"]
        raise RuntimeError(f"the worker ended with status {self.process.wait()}")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """A checkout of ``commit`` beside this one, gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        git = ("git", "-C", str(ROOT), "worktree")
        subprocess.run([*git, "add", "--detach", "--quiet", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def compared(before: Worker, after: Worker, network: str, framework: str, method: str, folder: Path) -> dict[str, Any]:
    """Whether outputs are equal, bit for bit, and why not.

    Returns:
        ``equal``; ``difference``, the largest, of the largest output; ``same_class``, the share of inputs that keep
        their class; ``moved``, what the two conversions found differently (:meth:`against_worker.Release.moved`);
        ``explained``, whether this release's network with these values of the earlier one gives its outputs;
        ``old_file_equal``, whether the earlier one's file does.
    """
    row: dict[str, Any] = {}
    try:
        for name, worker in (("before", before), ("after", after)):
            worker.ask("convert", network=network, framework=framework, method=method, name=name)
        old, new = (torch.load(folder / f"{name}.pt", weights_only=True) for name in ("before", "after"))
        row["equal"] = bool(torch.equal(old, new))
        row["difference"] = float((old - new).abs().max() / old.abs().max())
        row["same_class"] = float((old.argmax(1) == new.argmax(1)).float().mean())
        row["moved"] = after.ask("moved", file="before.snn.safetensors")
        for what, question in (("explained", "with_parts_of"), ("old_file_equal", "old_file")):
            answer = after.ask(question, file="before.snn.safetensors", network=network)
            row[what] = bool(torch.equal(torch.load(folder / answer, weights_only=True), old))
    except RuntimeError as error:
        row["error"] = str(error)
    return row


def timed(before: Worker, after: Worker, network: str, method: str, pairs: int) -> dict[str, Any]:
    """Ratios of calls of one network in pairs."""
    for worker, name in ((before, "before"), (after, "after")):
        worker.ask("convert", network=network, framework="spikingjelly", method=method, name=name)
        worker.ask("time")
    return paired(lambda: float(before.ask("time")), lambda: float(after.ask("time")), pairs)


def loaded(before: Worker, after: Worker, network: str, method: str, pairs: int) -> dict[str, Any]:
    """Ratios of loading one network in pairs."""
    for worker, name in ((before, "before"), (after, "after")):
        worker.ask("convert", network=network, framework="spikingjelly", method=method, name=name)
        worker.ask("time_load", name=name)
    first, second = (
        functools.partial(worker.ask, "time_load", name=name) for worker, name in ((before, "before"), (after, "after"))
    )
    return paired(first, second, pairs)


def paired(before: Callable[[], float], after: Callable[[], float], pairs: int) -> dict[str, Any]:
    """Median of the ratios of seconds in pairs, each first in every second one, and its upper 95 % bound (bootstrap).

    >>> paired(lambda: 2.0, lambda: 1.0, 4)
    {'pairs': 4, 'ratio': 0.5, 'bound': 0.5}
    """
    ratios = []
    for pair in range(pairs):
        seconds = {take: take() for take in ((before, after) if pair % 2 else (after, before))}
        ratios.append(seconds[after] / seconds[before])
    draws = np.random.default_rng(0).choice(ratios, (2000, pairs))
    bound = float(np.quantile(np.median(draws, axis=1), 0.95))
    return {"pairs": pairs, "ratio": statistics.median(ratios), "bound": bound}


def import_seconds(tree: Path) -> float:
    """Seconds of ``import snnconv`` in a fresh process."""
    code = "import time; t = time.perf_counter(); import snnconv; print(time.perf_counter() - t)"
    env = {**os.environ, "PYTHONPATH": str(tree / "plugin")}
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=env).stdout)


class Found:
    """Figures, written to a file row by row; those that are there already, of the same two commits, stay.

    Args:
        path: the file, or None.
        header: what the figures are of.
    """

    def __init__(self, path: Path | None, header: dict[str, Any]) -> None:
        self.path = path
        self.content = header
        stored = json.loads(path.read_text()) if path is not None and path.exists() else {}
        same = all(stored.get(key) == header.get(key) for key in ("against", "images", "commit"))
        self.content |= {key: stored[key] for key in ("equal", "speed", "load", "import") if same and key in stored}

    def rows(self, part: str) -> list[dict[str, Any]]:
        """The rows of a part."""
        found: list[dict[str, Any]] = self.content.get(part, [])
        return found

    def row(self, part: str, of: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> None:
        """Measure a row, unless it is there."""
        if any(all(row.get(key) == value for key, value in of.items()) for row in self.rows(part)):
            return
        row = {**of, **measure()}
        print(json.dumps({"part": part, **row}), flush=True)
        self.content[part] = [*self.rows(part), row]
        if self.path is not None:
            write_whole(self.path, (json.dumps(self.content, indent=1) + "\n").encode())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("commit", help="the earlier release")
    parser.add_argument("--pairs", type=int, default=200, help="timed pairs a network and method; 0: none")
    parser.add_argument("--images", type=int, default=1000, help="CIFAR-10 test images to compare on")
    parser.add_argument("--only", choices=("equal", "speed", "load", "import"), help="one part alone")
    parser.add_argument("--networks", nargs="+", choices=tuple(against_worker.NETWORKS), help="these alone")
    parser.add_argument("--methods", nargs="+", choices=tuple(against_worker.METHODS), help="these alone")
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    options = parser.parse_args(arguments)
    if options.out is not None:
        check_out(options.out)
    torch.manual_seed(0)
    found = Found(options.out, {"against": options.commit, "images": options.images, **provenance(0)})
    parts = (options.only,) if options.only else ("equal", "speed", "load", "import")
    with worktree(options.commit) as tree, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if "import" in parts and options.pairs:
            for_both = (lambda: import_seconds(tree)), (lambda: import_seconds(ROOT))
            found.row("import", {}, lambda: paired(*for_both, max(20, options.pairs // 10)))
        if parts != ("import",):
            networks = against_worker.prepare(folder, options.images, options.networks or list(against_worker.NETWORKS))
            before, after = Worker(tree, folder), Worker(ROOT, folder)
            rows = [(n, m) for n in networks for m in against_worker.methods_of(n) if m in (options.methods or [m])]
            for network, method in rows:
                here = {"network": network, "method": method}
                for framework in against_worker.FRAMEWORKS if "equal" in parts else ():
                    how = functools.partial(compared, before, after, network, framework, method, folder)
                    found.row("equal", {**here, "framework": framework}, how)
                if "speed" in parts and options.pairs:
                    found.row("speed", here, functools.partial(timed, before, after, network, method, options.pairs))
                if "load" in parts and options.pairs:
                    found.row("load", here, functools.partial(loaded, before, after, network, method, options.pairs))
            before.close()
            after.close()
    rows_equal = found.rows("equal")
    moved = [row for row in rows_equal if row.get("explained") and not row.get("equal")]
    unequal = [row for row in rows_equal if not (row.get("explained") and row.get("old_file_equal"))]
    slower = [row for part, most in BOUNDS.items() for row in found.rows(part) if row["bound"] > most]
    print(
        f"of {len(rows_equal)} networks {len(moved)} differ by what calibration found alone, {len(unequal)} otherwise"
    )
    print(f"{len(slower)} timings are slower")
    return 1 if unequal or slower else 0


if __name__ == "__main__":
    raise SystemExit(main())
