"""The list of architectures: of every family of timm some with fewer than 40 million parameters, in order of size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

LIST = Path(__file__).with_name("architectures.txt")
MOST = 40_000_000
"""Parameters of an architecture."""
WANTED = 200
PER_FAMILY = 5
"""Architectures of a family that are looked at."""
LARGE = ("large", "huge", "giant", "xlarge", "so400m", "enormous", "_xl", "_xxl", "h_14", "g_14", "bigg")
"""Parts of names of architectures that have more for certain."""


def listed() -> list[str]:
    """The names in the list.

    Raises:
        SystemExit: there is none yet.
    """
    if not LIST.exists():
        raise SystemExit(f"there is no {LIST.name}: write it with python -m benchmarks.zoo list")
    return [line.split()[0] for line in LIST.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]


def candidates() -> Iterator[tuple[str, str, int]]:
    """Family, name and parameters: of every family of the installed timm the first that are small enough, by name."""
    import timm
    import torch

    for family in timm.list_modules():
        found = 0
        for name in timm.list_models(module=family):
            if found == PER_FAMILY:
                break
            if any(part in name for part in LARGE):
                continue
            try:
                with torch.device("meta"):
                    model = timm.create_model(name, pretrained=False)
            except Exception:  # some compute values while they are made
                model = timm.create_model(name, pretrained=False)
            size = sum(p.numel() for p in model.parameters())
            if size < MOST:
                found += 1
                yield family, name, size


def chosen(found: list[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """At least `WANTED` of them: of each family the smallest found, one more of each in turn until there are enough."""
    families: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for one in sorted(found, key=lambda one: (one[2], one[1])):
        families[one[0]].append(one)
    picked: list[tuple[str, str, int]] = []
    turn = 0
    while len(picked) < WANTED and any(len(family) > turn for family in families.values()):
        picked += [family[turn] for family in families.values() if len(family) > turn]
        turn += 1
    return sorted(picked, key=lambda one: (one[2], one[1]))


def write() -> int:
    """Write the list anew; returns how many there are."""
    import timm

    picked = chosen(list(candidates()))
    families = {family for family, _, _ in picked}
    head = (
        f"# {len(picked)} architectures of timm {timm.__version__} under {MOST // 10**6} million parameters, of "
        f"{len(families)} families: python -m benchmarks.zoo list.\n# Name, family, parameters.\n"
    )
    lines = [f"{name} {family} {size}\n" for family, name, size in picked]
    LIST.write_text(head + "".join(lines), encoding="utf-8")
    return len(picked)
