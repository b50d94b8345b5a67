"""Result files of the layout before, or without a cost model that came later: ``python -m snnbench.results.migration
FOLDER`` rewrites them."""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path

from snnbench.results.files import read_json, write_text
from snnbench.results.validation import OLDER, SCHEMA, Record, ResultError, validate
from snnconv.metrics import costs
from snnconv.metrics.counts import FUNCTION_MACS, Operations

__all__ = ["migrate", "of_totals"]


def of_totals(sops: float | None, macs: float | None) -> dict[str, float | None] | None:
    """Cost model → cost of so many additions and multiply-accumulates; None for models that need more than totals.

    >>> of_totals(100.0, 10.0)["bit-operations"], of_totals(100.0, 10.0)["loihi"]
    (1440.0, None)
    """
    if sops is None or macs is None:
        return None
    operations = Operations(sops, macs)
    return {
        name: None if model.prices is None else model.prices.of(operations, FUNCTION_MACS)
        for name, model in costs.COSTS.items()
    }


def migrate(record: Record) -> Record:
    """A result in this layout, with costs under every model of arithmetic; the one given is not changed.

    Costs by models of arithmetic alone are computed from the totals that the file holds, where these are all that was
    priced; costs by the others are null.

    Raises:
        ResultError: neither this layout nor the one before.
    """
    found = copy.deepcopy(record)
    if record.get("schema") == SCHEMA:
        return _with_new_costs(found)
    if record.get("schema") not in OLDER:
        raise ResultError(f"schema is {record.get('schema')!r:.200}, no layout that can be brought up to date")
    found["schema"] = SCHEMA
    ann, prices = found["ann"], costs.get("45nm").prices
    macs = ann["macs"]
    if macs is None and ann["energy_joule"] is not None and prices is not None:
        macs = ann["energy_joule"] / prices.mac
    ann["energies"] = of_totals(0.0, macs)
    for point in found["points"]:
        figures = of_totals(point["sops"], point["macs"])
        stored = point["energy_joule"]
        if figures is None or stored is None or not math.isclose(stored, figures["45nm"] or 0.0, rel_tol=1e-6):
            figures = None  # products or functions are in the price, and their numbers are not in the file
        point["energies"] = figures
    return found


def _with_new_costs(record: Record) -> Record:
    """Fill in, in place, the costs under models of arithmetic that the file does not name; nothing else changes."""
    places = [(record["ann"], 0.0, record["ann"]["macs"])]
    places += [(point, point["sops"], point["macs"]) for point in record["points"]]
    for place, sops, macs in places:
        known, figures = place.get("energies"), of_totals(sops, macs)
        if not known or figures is None or known.get("45nm") is None:
            continue
        whole = math.isclose(known["45nm"], figures["45nm"] or 0.0, rel_tol=1e-6)  # else functions are in the price
        new = {n: f if whole else None for n, f in figures.items() if n not in known}
        place["energies"] = known | new
        if twin := place.get("twin"):  # its operations are the source network's
            of_twin = {n: record["ann"]["energies"].get(n) for n in new if costs.get(n).twin is None}
            twin["energies"] = of_twin | twin["energies"]
    return record


def main(arguments: list[str] | None = None) -> int:
    """Rewrite every file under a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    done = 0
    for path in sorted(folder.rglob("*.json")):
        record, _ = read_json(path)
        if record.get("schema") in OLDER or record.get("schema") == SCHEMA:
            found = migrate(record)
            if found == record:
                continue
            validate(found, path)
            write_text(path, found)
            done += 1
    print(f"{done} files rewritten")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
