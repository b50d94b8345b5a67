"""``snnconv bench | train | leaderboard``: the commands that the suite adds to the plugin's."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import importlib
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from snnbench.catalogue import find, names
from snnbench.seeds import seeds_of
from snnconv.cli.inputs import InputError
from snnconv.cli.outcome import Outcome, say
from snnconv.runtime import allocation

__all__ = ["bench", "config_options", "leaderboard", "train"]

PROGRAMS = "A Python config is a program: it runs, so take none from strangers. YAML and JSON are data, which do not."
Config = Annotated[
    str,
    typer.Argument(
        help="A config by its short name, such as bccd/retinanet_r18 (bench --list), or a file. " + PROGRAMS
    ),
]
WorkDir = Annotated[
    Path | None, typer.Option(help="Logs and checkpoints; default work_dirs/<task>/<data set>/<config>.")
]
CfgOptions = Annotated[
    list[str] | None,
    typer.Option("--cfg-options", help="Change the config: key=value, such as model.depth=34; repeat for more."),
]
Launcher = Annotated[
    str, typer.Option(help="none; or pytorch (under torchrun), slurm (under srun), mpi (under mpirun).")
]


def bench(
    config: Annotated[
        str | None,
        typer.Argument(help="A config by its short name, such as bccd/retinanet_r18, or a file. " + PROGRAMS),
    ] = None,
    *,
    list_: Annotated[bool, typer.Option("--list", help="List the configs by their short names.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the result files.")] = Path("benchmarks/results"),
    work_dir: WorkDir = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Test on the first N samples only.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from an interrupted test.")] = False,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Only rows whose label contains one of these words: signed,shifted; a whole label: that row."
        ),
    ] = None,
    answers: Annotated[
        bool, typer.Option(help="Keep the answers to every sample in a compressed file beside each result.")
    ] = True,
    twins: Annotated[
        bool,
        typer.Option(
            "--twins",
            help="Only put the quantised network beside stored points that have none, where their metric comes out.",
        ),
    ] = False,
    seeds: Annotated[
        str | None,
        typer.Option(help="Several seeds, such as 0,1,2: trained, converted and tested anew, a folder each."),
    ] = None,
    draw: Annotated[
        int, typer.Option(min=0, help="Draw the predictions on the first N samples as PNG; videos of N episodes.")
    ] = 0,
    cfg_options: CfgOptions = None,
    launcher: Launcher = "none",
) -> Outcome | None:
    """Run a benchmark config: train where there are no weights, convert by every method, test, write results.

    Examples:
        snnconv bench --list
        snnconv bench bccd/retinanet_r18 --draw 4
        snnconv bench camvid/fcn_r18 --methods "signed IF" --json
        snnconv bench bccd/retinanet_r18 --seeds 0,1,2 --resume
    """
    if list_ or config is None:
        return _configs(asked=list_)
    allocation.keep_memory()
    with contextlib.redirect_stdout(sys.stderr):  # mmengine's log; what is found goes to stdout
        written = _needed("run").run_seeds(
            find(config),
            _seeds(seeds),
            out=out,
            work_dir=work_dir,
            limit=limit,
            resume=resume,
            methods=methods.split(",") if methods else (),
            options=config_options(cfg_options),
            launcher=launcher,
            draw=draw,
            answers=answers,
            twins=twins,
            told=say,
        )
    if not written:  # of several processes, one tells
        return None
    from snnbench import results

    records = [results.read(path) for path in written]
    return Outcome(
        _result_table(records),
        {"files": [str(path) for path in written], "results": records},
        [_flat(record, point) for record in records for point in record["points"]],
        then=[shlex.join(["snnconv", "leaderboard", "--folder", str(out.parent)])] if out.name == "results" else [],
        notes=[f"{len(written)} result file{'s' if len(written) > 1 else ''} in {written[0].parent}"],
    )


def train(
    config: Config, *, work_dir: WorkDir = None, cfg_options: CfgOptions = None, launcher: Launcher = "none"
) -> Outcome | None:
    """Train the source network of a config; an interrupted training goes on from its last checkpoint.

    Examples:
        snnconv train camvid/fcn_r18 --work-dir fcn
    """
    allocation.keep_memory()
    config_files, training = _needed("config"), _needed("train")
    path = find(config)
    loaded = config_files.load_config(path, config_options(cfg_options))
    loaded.work_dir = str(work_dir or config_files.default_work_dir(path))
    loaded.launcher = launcher
    say(f"{loaded.bench.architecture} on {loaded.bench.dataset}: {training.what_trains(loaded)}")
    with contextlib.redirect_stdout(sys.stderr):
        weights = training.train(loaded)
    from snnbench.weights.card import read_card

    card = read_card(weights)
    found: dict[str, Any] = {"weights": str(weights), "metrics": dict(card.metrics) if card else {}}
    again = ["snnconv", "bench", config]
    again += ["--work-dir", str(work_dir)] if work_dir else []
    again += [word for pair in cfg_options or [] for word in ("--cfg-options", pair)]
    return Outcome(
        None,
        {**found, "training": dict(card.training) if card else {}},
        [{"weights": found["weights"], **found["metrics"]}],
        wrote=[weights],
        then=[shlex.join(again)],
    )


def _seeds(given: str | None) -> list[int]:
    """The seeds of ``--seeds``; none where it is not given."""
    try:
        return seeds_of(given)
    except ValueError as error:
        raise InputError(str(error)) from None


def _needed(name: str) -> Any:
    """A module of the suite, or one sentence on what to install."""
    try:
        return importlib.import_module(f"snnbench.{name}")
    except ImportError as error:
        raise InputError(f'{error.name or error} is not installed: pip install "snnconv-plugin[bench]"') from error


def _configs(asked: bool) -> Outcome:
    """Every config by its short name, a block a task."""
    if not asked:
        raise InputError("bench takes a config: a short name of `snnconv bench --list`, or a file")
    tasks: dict[str, list[str]] = {}
    for name, path in sorted(names().items(), key=lambda item: (item[1].parts[-3], item[0])):
        tasks.setdefault(path.parts[-3], []).append(name)
    lines = [line for task, own in tasks.items() for line in (f"{task}:", *(f"  {name}" for name in own))]
    rows = [{"task": task, "config": name} for task, own in tasks.items() for name in own]
    return Outcome("\n".join(lines), tasks, rows)


def _flat(record: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    """A point of a row, for ``--csv``."""
    metric = record["metric"]
    return {
        "label": record["label"],
        "timesteps": point["timesteps"],
        "latency": point["latency"],
        "first": point["window"][0],
        "last": point["window"][1],
        metric: point["metrics"][metric],
        f"ann_{metric}": record["ann"]["metrics"][metric],
        "energy_ratio": point["energy_ratio"],
    }


def _result_table(rows: list[dict[str, Any]]) -> Table:
    """Metric against T, a line a row, the source network first."""
    first = rows[0]
    steps = sorted({p["latency"] for row in rows for p in row["points"]})
    table = Table(title=f"{first['metric']}, {first['architecture']}, {first['dataset']}, {first['samples']:,} samples")
    table.add_column("row")
    table.add_column("bits a step", justify="right")
    for t in steps:
        table.add_column(f"T={t}", justify="right")
    table.add_row("ANN", "", *[""] * (len(steps) - 1), f"{first['ann']['metrics'][first['metric']]:.2f}")
    for row in rows:
        best: dict[int, float] = {}
        for p in row["points"]:  # of several readout windows, the row's own comes first
            best.setdefault(p["latency"], p["metrics"][row["metric"]])
        bits = row["points"][-1].get("bits_per_step")
        table.add_row(
            row["label"], "" if bits is None else f"{bits:g}", *(f"{best[t]:.2f}" if t in best else "" for t in steps)
        )
    return table


def leaderboard(
    *,
    folder: Annotated[Path, typer.Option(help="Holds results/ and published/; gets the pages.")] = Path("benchmarks"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if the pages are not what the result files give.")
    ] = False,
    compare: Annotated[
        list[Path] | None,
        typer.Option(
            help="Two result files of the same inputs: McNemar's test, or the bootstrap of pairs. Give twice."
        ),
    ] = None,
    at: Annotated[int | None, typer.Option(min=1, help="With --compare: the most steps that either may take.")] = None,
) -> Outcome:
    """Render the result files into LEADERBOARD.md and leaderboard.html; or check that they are up to date; or compare
    two result files on the same inputs.

    Examples:
        snnconv leaderboard
        snnconv leaderboard --check
        snnconv leaderboard --compare results/digits/if.json --compare results/digits/signed-if.json --at 4
    """
    from snnbench import leaderboard as board

    if compare:
        return _compared(compare, at)
    if at is not None:
        raise InputError("--at goes with --compare, which takes two result files")

    again = ["snnconv", "leaderboard", *([] if folder == Path("benchmarks") else ["--folder", str(folder)])]
    if not check:
        written = board.write(folder)
        return Outcome(
            None,
            {"files": [str(path) for path in written]},
            [{"file": str(path)} for path in written],
            wrote=written,
            then=[shlex.join([*again, "--check"])],
        )
    outdated = board.check(folder)
    for sentence in outdated:
        say(sentence, "red")
    return Outcome(
        None if outdated else f"the pages in {folder} are what its result files give",
        {"up_to_date": not outdated, "outdated": outdated},
        [{"outdated": sentence} for sentence in outdated],
        then=[shlex.join(again)] if outdated else [],
        status=1 if outdated else 0,
    )


def _compared(files: list[Path], at: int | None) -> Outcome:
    from snnbench import results

    if len(files) != 2:
        raise InputError(f"--compare takes two result files, so give it twice; got {len(files)}")
    found = results.paired(files[0], files[1], at)
    told = {**dataclasses.asdict(found), "difference": found.difference}
    return Outcome(str(found), told, [told])


def config_options(pairs: list[str] | None) -> dict[str, Any]:
    """``key=value`` pairs as a dictionary; values are Python literals, or text where they are none.

    >>> config_options(["train_cfg.max_iters=10", "work_dir=here", "bench.methods.0.timesteps=[4, 8]"])
    {'train_cfg.max_iters': 10, 'work_dir': 'here', 'bench.methods.0.timesteps': [4, 8]}
    """

    found: dict[str, Any] = {}
    for pair in pairs or []:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise InputError(f"--cfg-options takes key=value, got {pair!r}")
        try:
            found[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[key] = text
    return found
