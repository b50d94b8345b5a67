"""``python -m benchmarks.against COMMIT``: this checkout beside an earlier one, on the same machine and in one run.

Every method in both frameworks converts a digits CNN and, where ``SNNCONV_DATA`` has it, CIFAR-10's ResNet-20; outputs
are compared bit for bit, files that the earlier release saved are loaded by this one, and calls are timed in pairs,
one of each in turn; so is loading, of a file that each release wrote by itself. Each release runs in a process of its
own; the earlier one in a worktree of its commit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import against_worker
from snnbench.results import check_out, provenance, write_whole

ROOT = Path(__file__).parent.parent
BOUNDS = {"speed": 1.03, "load": 1.2}
"""How much longer than the earlier release a call, and loading, may take: a file is checked now."""


class Worker:
    """One release in a process of its own, told what to do line by line."""

    def __init__(self, tree: Path, folder: Path) -> None:
        path = os.pathsep.join(str(tree / part) for part in ("plugin", "benchmarks", "."))
        command = [sys.executable, str(Path(against_worker.__file__)), str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
        )

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


def compared(before: Worker, after: Worker, networks: list[str], folder: Path) -> list[dict[str, Any]]:
    """One line a network, method and framework: whether outputs are equal, and whether the old file gives them."""
    rows = []
    for network in networks:
        for framework in against_worker.FRAMEWORKS:
            for method in against_worker.methods_of(network):
                row: dict[str, Any] = {"network": network, "framework": framework, "method": method}
                try:
                    for name, worker in (("before", before), ("after", after)):
                        worker.ask("convert", network=network, framework=framework, method=method, name=name)
                    old, new = (torch.load(folder / f"{name}.pt", weights_only=True) for name in ("before", "after"))
                    row["equal"] = bool(torch.equal(old, new))
                    row["difference"] = float((old - new).abs().max() / old.abs().max())
                    loaded = after.ask("load", file="before.snn.safetensors", network=network)
                    row["old_file_equal"] = bool(torch.equal(torch.load(folder / loaded, weights_only=True), old))
                except RuntimeError as error:
                    row["error"] = str(error)
                rows.append(row)
                print(json.dumps(row), flush=True)
    return rows


def timed(before: Worker, after: Worker, network: str, method: str, what: str, pairs: int, seed: int) -> dict[str, Any]:
    """Median of the ratios of calls, or loads, in pairs, with its upper confidence bound (95 %, bootstrap).

    Of loads, each release takes its shorter of three a pair: what the machine does besides takes longer than a load.
    """
    ask, times = ("time", 1) if what == "speed" else ("time_load", 3)
    names = {before: "before", after: "after"}
    for worker, name in names.items():
        worker.ask("convert", network=network, framework="spikingjelly", method=method, name=name)
    given = {worker: {"name": name} if what == "load" else {} for worker, name in names.items()}
    for worker in names:
        worker.ask(ask, **given[worker])
    ratios, least = [], dict.fromkeys(names, float("inf"))
    for pair in range(pairs):
        seconds = {}
        for worker in (before, after) if pair % 2 else (after, before):
            seconds[worker] = min(float(worker.ask(ask, **given[worker])) for _ in range(times))
            least[worker] = min(least[worker], seconds[worker])
        ratios.append(seconds[after] / seconds[before])
    draws = np.random.default_rng(seed).choice(ratios, (2000, pairs))
    bound = float(np.quantile(np.median(draws, axis=1), 0.95))
    row = {"network": network, "method": method, "pairs": pairs, "ratio": statistics.median(ratios), "bound": bound}
    row |= {f"least_ms_{name}": round(1000 * least[worker], 3) for worker, name in names.items()}
    print(json.dumps({"what": what, **row}), flush=True)
    return row


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("commit", help="the earlier release")
    parser.add_argument("--pairs", type=int, default=200, help="timed pairs a network and method; 0: none")
    parser.add_argument("--images", type=int, default=1000, help="CIFAR-10 test images to compare on")
    parser.add_argument("--only", choices=("equal", "speed", "load"), help="one part alone")
    parser.add_argument(
        "--methods", nargs="+", choices=against_worker.METHODS, help="of the timed ones; all unless given"
    )
    parser.add_argument("--out", type=Path, help="JSON file of the figures")
    options = parser.parse_args(arguments)
    if options.out is not None:
        check_out(options.out)
    torch.manual_seed(0)
    found: dict[str, Any] = {"against": options.commit, **provenance(0)}
    with worktree(options.commit) as tree, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        networks = against_worker.prepare(folder, options.images)
        before, after = Worker(tree, folder), Worker(ROOT, folder)
        if options.only in (None, "equal"):
            found["equal"] = compared(before, after, networks, folder)
        for what in ("speed", "load") if options.pairs else ():
            if options.only not in (None, what):
                continue
            found[what] = [
                timed(before, after, network, method, what, options.pairs, 0)
                for network in networks
                for method in against_worker.methods_of(network)
                if options.methods is None or method in options.methods
            ]
        before.close()
        after.close()
    if options.out is not None:
        write_whole(options.out, (json.dumps(found, indent=1) + "\n").encode())
    unequal = [row for row in found.get("equal", []) if not (row.get("equal") and row.get("old_file_equal"))]
    slower = [row for what, most in BOUNDS.items() for row in found.get(what, []) if row["bound"] > most]
    print(f"{len(unequal)} networks of {len(found.get('equal', []))} differ, {len(slower)} timings are slower")
    return 1 if unequal or slower else 0


if __name__ == "__main__":
    raise SystemExit(main())
