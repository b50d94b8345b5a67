"""Architectures of timm through ``convert(..., cover="synapses")``, resumed where it ended.

``list`` writes the list anew, ``run --shard 1/4 --out FILE`` tries what is not in the file yet (a process each, so that
what one leaves behind does not slow the next), ``table FILE`` prints the table of the documentation (of ``exact``'s
lines, too). ``exact``
checks small published networks for equality with the quantised network at every layer, ``energy`` prints their cost;
``lite0`` compares EfficientNet-Lite0 with spikes at its activations and with spikes everywhere.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.zoo import bottlenecks, energy
from benchmarks.zoo import exact as equality
from benchmarks.zoo.architectures import LIST, listed, write
from benchmarks.zoo.networks import NETWORKS
from benchmarks.zoo.trial import tried

RESULTS = LIST.with_name("results.jsonl")
EXACT = LIST.with_name("exact.jsonl")
LITE0 = LIST.with_name("lite0.json")
SECONDS = 120
"""Of one core, that a conversion may take; ten times as long on the clock ends it, whatever else runs there."""


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="write the list of architectures anew")
    run = commands.add_parser("run", help="try architectures")
    run.add_argument("--shard", default="1/1", metavar="I/N", help="every N-th of the list, from the I-th")
    run.add_argument("--out", type=Path, default=RESULTS)
    run.add_argument(
        "--for", type=float, default=float("inf"), metavar="SECONDS", dest="limit", help="begin none later"
    )
    run.add_argument("--again", action="store_true", help="try anew what was refused")
    one = commands.add_parser("one", help="try one architecture, print its line")
    one.add_argument("name")
    exact = commands.add_parser("exact", help="check networks for equality at every layer")
    exact.add_argument("names", nargs="*", help="of benchmarks.zoo.networks; all by default")
    exact.add_argument("--timesteps", type=int, nargs="+", default=[4, 8])
    exact.add_argument("--out", type=Path, default=EXACT)
    exact.add_argument("--here", action="store_true", help="in this process; print a line, write none")
    costs = commands.add_parser("energy", help="print the energy of networks beside their source's")
    costs.add_argument("names", nargs="+", help="of benchmarks.zoo.networks")
    costs.add_argument("--timesteps", type=int, nargs="+", default=[4, 8])
    real = commands.add_parser("lite0", help="EfficientNet-Lite0 with its weights, by either cover")
    real.add_argument("--pictures", type=int, default=500)
    real.add_argument("--timesteps", type=int, default=5)
    real.add_argument("--out", type=Path, default=LITE0)
    table = commands.add_parser("table", help="print the table")
    table.add_argument("file", type=Path, nargs="?", default=RESULTS)
    options = parser.parse_args(arguments)
    if options.command == "list":
        print(f"{write()} architectures")
    elif options.command == "one":
        print(json.dumps(tried(options.name)))
    elif options.command == "exact":
        wrong = check_all(options.names or list(NETWORKS), options.timesteps, options.out, options.here)
        return 0 if options.here else int(wrong > 0)  # here the line says it
    elif options.command == "energy":
        print(energy.table_of([energy.measured(name, steps) for name in options.names for steps in options.timesteps]))
    elif options.command == "lite0":
        lines = bottlenecks.lite0(options.pictures, options.timesteps, lambda *now: print(*now, flush=True))
        options.out.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(lines, indent=1))
    elif options.command == "table":
        lines = [json.loads(line) for line in options.file.read_text(encoding="utf-8").splitlines()]
        print(equality.table_of(lines) if any("T" in line for line in lines) else table_of(lines_of(options.file)))
    else:
        number, count = map(int, options.shard.split("/"))
        run_all(listed()[number - 1 :: count], options.out, options.limit, options.again)
    return 0


def lines_of(path: Path) -> dict[str, dict[str, Any]]:
    """The lines of a file by the architecture's name; of several the last."""
    if not path.exists():
        return {}
    return {line["name"]: line for line in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


def run_all(names: list[str], out: Path, limit: float, again: bool) -> None:
    """Try what has no line yet, and write one for each."""
    begin, known = time.monotonic(), lines_of(out)
    for name in names:
        if name in known and not (again and "refused" in known[name]):
            continue
        if time.monotonic() - begin > limit:
            break
        line = apart(name)
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(name, line.get("way") or line["refused"][:120], line.get("seconds"), flush=True)


def check_all(names: list[str], timesteps: list[int], out: Path, here: bool) -> int:
    """Check networks that have no good line in ``out`` yet; how many are not what they should be."""
    known: set[tuple[str, int]] = set()
    if out.exists() and not here:
        lines = map(json.loads, out.read_text(encoding="utf-8").splitlines())
        known = {(line["name"], line["T"]) for line in lines if line["holds"]}
    wrong = 0
    for name, steps in ((n, t) for n in names for t in timesteps if (n, t) not in known):
        line = equality.tried(name, steps) if here else apart(name, "exact", "--here", "--timesteps", str(steps))
        line.setdefault("T", steps)
        line["holds"] = "double" in line and equality.holds(line)
        wrong += not line["holds"] and "skipped" not in line
        print(json.dumps(line), flush=True)
        if not here:
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    return wrong


def apart(name: str, *command: str) -> dict[str, Any]:
    """One architecture in a process of its own."""
    kind, *options = command or ("one",)
    line = [sys.executable, "-m", "benchmarks.zoo", kind, name, *options]  # --timesteps takes all that follows
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=10 * SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"name": name, "refused": f"not done after {10 * SECONDS} s"}
    if done.returncode:
        return {"name": name, "refused": f"ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def table_of(lines: dict[str, dict[str, Any]]) -> str:
    """A row an architecture, and how many there are of what."""
    good = {name: line for name, line in lines.items() if "refused" not in line}
    ways = Counter(line["way"] for line in good.values())
    slow = [n for n, line in good.items() if _processor(line) > SECONDS]
    rows = [
        f"{len(lines)} of {len(listed())} architectures were tried; {len(good)} convert "
        f"({', '.join(f'{count} by {way}' for way, count in ways.most_common())}), {len(slow)} of them in more than "
        f"{SECONDS} s of one core.",
        "",
        "| architecture | parameters | captured by | capture, s | all, s of a core | sites | stays analog |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, line in lines.items():
        size = f"{line['parameters'] / 1e6:.1f} M" if "parameters" in line else ""
        if "refused" in line:
            rows.append(f"| {name} | {size} | | | {line.get('seconds', '')} | | refused: {line['refused']} |")
            continue
        analog = ", ".join(f"{count} {operator}" for operator, count in line["analog"].items()) or "nothing"
        numbers = f"{line['capture']:.1f} | {_processor(line):.1f} | {line['sites']}"
        rows.append(f"| {name} | {size} | {line['way']} | {numbers} | {analog} |")
    return "\n".join(rows)


def _processor(line: dict[str, Any]) -> float:
    """Seconds of one core; of a line without them those on the clock, which are no fewer."""
    return float(line.get("processor", line["seconds"]))


if __name__ == "__main__":
    sys.exit(main())
