"""What the benchmark commands share: options, rows of SpikingJelly, output, exit status."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path

from snnbench import results
from snnbench.baselines.spikingjelly import SpikingJellyRecipe
from snnbench.results import Record, slug
from snnbench.seeds import folders, seeds_of

from . import twins
from .classification import RESULTS, Entry, Task
from .classification import run as run_entries
from .data import DataError

SPIKINGJELLY = {
    "SpikingJelly rate, max": SpikingJellyRecipe("rate", "max"),
    "SpikingJelly rate, 99.9%": SpikingJellyRecipe("rate", "99.9%"),
    "SpikingJelly robust, 99.9%": SpikingJellyRecipe("robust", "99.9%"),
    "SpikingJelly LTB": SpikingJellyRecipe("ltb"),
    "SpikingJelly LTB, delay": SpikingJellyRecipe("ltb", delay=True),
}


def parser(description: str, dataset: str) -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    result.add_argument(
        "--methods",
        metavar="A,B",
        help="only rows whose label contains one of these words, for instance 'signed,shifted'",
    )
    result.add_argument("--timesteps", metavar="T,T", help="only these numbers of steps (τ + T for SRP) of our methods")
    result.add_argument("--resume", action="store_true", help="keep finished points of the same configuration")
    result.add_argument("--seed", type=int, default=0)
    result.add_argument(
        "--seeds",
        metavar="A,B",
        help="several seeds one after the other, each in a folder of its own: a table's row is their mean",
    )
    result.add_argument(
        "--twins",
        action="store_true",
        help="only put the quantised ANN beside stored points that have none, where their accuracy comes out again",
    )
    result.add_argument("--out", type=Path, default=RESULTS / dataset, help="folder for JSON and PNG")
    return result


def each_seed(options: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """The options of each run: one a seed of ``--seeds``, the first in ``--out`` and the others in folders below it.

    Raises:
        DataError: no list of different whole numbers, or ``--twins`` where a folder holds no results.
    """
    runs = [options]
    if options.seeds is not None:
        try:
            seeds = seeds_of(options.seeds)
        except ValueError as error:
            raise DataError(str(error)) from None
        runs = [
            argparse.Namespace(**{**vars(options), "seed": seed, "out": options.out / folder})
            for seed, folder in folders(seeds)
        ]
    for run in runs if options.twins else ():
        if not any(run.out.glob("*.json")):
            raise DataError(f"{run.out} holds no results, and --twins adds to stored ones; run without it")
    yield from runs


def chosen(entries: Sequence[Entry], words: str | None, timesteps: str | None = None) -> list[Entry]:
    """The entries whose label contains one of the comma-separated ``words``, all for None.

    ``timesteps`` keeps our methods to those that run one of these numbers of steps; a recipe of SpikingJelly gives
    all its numbers in one run and stays as it is.
    """
    if timesteps:
        try:
            kept_steps = {int(t) for t in timesteps.split(",")}
        except ValueError as error:
            raise DataError(f"--timesteps is a list of whole numbers such as 8,16, got {timesteps!r}") from error
        shorter = [
            replace(entry, methods=tuple(m for m in entry.methods if m.latency in kept_steps))
            for entry in entries
            if entry.recipe is None and any(m.latency in kept_steps for m in entry.methods)
        ]
        entries = shorter + [entry for entry in entries if entry.recipe is not None]
    if not words:
        return list(entries)
    kept = list(compress(entries, results.chosen([entry.label for entry in entries], words.split(","))))
    if not kept:
        raise DataError(f"--methods {words} matches none of: {', '.join(entry.label for entry in entries)}")
    return kept


def measure(task: Task, entries: Sequence[Entry], timesteps: Sequence[int], options: argparse.Namespace) -> int:
    """Run, print a line a point, then the table; write the plot. The exit status is 1 where a row failed."""
    if options.twins:
        return _add_twins(task, entries)
    from . import report  # its tables want rich, which not every command here needs

    start = time.perf_counter()
    failed: dict[tuple[str, int], str] = {}

    def on_error(entry: Entry, steps: int, error: Exception) -> None:
        failed[entry.label, steps] = f"{type(error).__name__}: {error}"

    for entry in entries:
        results.check_place(results.path_of(task.folder, entry.label))
    rows: dict[str, Record] = {}
    measured = 0
    for record, point in run_entries(task, entries, options.resume, on_error, show_progress=sys.stderr.isatty()):
        rows[record["label"]] = record
        measured += 1
        print(
            f"{record['label']:<28} T={point['latency']:<3} {point['metrics']['top1']:6.2f} %   "
            f"convert {point['seconds']['convert']:.1f} s, run {point['seconds']['evaluate']:.1f} s",
            flush=True,
        )
    report.print_table(list(rows.values()), timesteps, failed)
    if rows:
        figure = task.folder / f"{slug(task.dataset)}-{slug(task.architecture)}.png"
        report.plot(list(rows.values()), figure)
        seconds = time.perf_counter() - start
        print(f"{measured} points in {len(rows)} files in {task.folder}, plot {figure.name}, {seconds:.0f} s")
    return 1 if failed else 0


def _add_twins(task: Task, entries: Sequence[Entry]) -> int:
    """A line for each stored point without a quantised network. The exit status is 1 where one was left so."""
    added = left = 0
    for label, found in twins.add(task, entries):
        if isinstance(found, str):
            left += 1
            print(f"{label:<28} left: {found}", flush=True)
            continue
        added += 1
        twin = found["twin"]
        print(
            f"{label:<28} T={found['latency']:<3} {found['metrics']['top1']:6.2f} %   quantised ANN "
            f"{twin['metrics']['top1']:.2f} %, 8-bit weights {twin['metrics_int8']['top1']:.2f} %, "
            f"equal answers {100 * twin['agreement']:.2f} %",
            flush=True,
        )
    print(f"{added} points in {task.folder} have a quantised ANN beside them now, {left} were left")
    return 1 if left else 0


RESUMES = "finished points are kept, --resume goes on from them"
GOES_ON = "what is finished is kept, the same command goes on from it"


def exit_with(command: Callable[[], int], again: str = "") -> None:
    """Run a command; a data error is one sentence and status 2, an interruption 130, with how it goes on ``again``."""
    try:
        status = command()
    except (DataError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print(f"interrupted; {again}" if again else "interrupted", file=sys.stderr)
        status = 130
    raise SystemExit(status)
