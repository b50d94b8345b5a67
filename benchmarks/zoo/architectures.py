"""The list of architectures: of every family of timm some with fewer than 40 million parameters, the smallest first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

LIST = Path(__file__).with_name("architectures.txt")
MOST = 40_000_000
"""Parameters of an architecture."""
WANTED = 200
LARGE = ("large", "huge", "giant", "xlarge", "so400m", "enormous", "_xl", "_xxl", "h_14", "g_14", "bigg")
"""Parts of names of architectures that have more for certain."""


def listed() -> list[str]:
    """The committed list."""
    return [line.split()[0] for line in LIST.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]


def candidates() -> Iterator[tuple[str, str, int]]:
    """Family, name and parameters of the architectures of the installed timm that are small enough."""
    import timm
    import torch

    for name in timm.list_models():
        if any(part in name for part in LARGE):
            continue
        try:
            with torch.device("meta"):
                model = timm.create_model(name, pretrained=False)
        except Exception:  # some compute values while they are made
            model = timm.create_model(name, pretrained=False)
        size = sum(p.numel() for p in model.parameters())
        if size < MOST:
            yield type(model).__module__.rpartition(".")[2], name, size


def chosen(found: list[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """At least `WANTED` of them: of each family the smallest, one more of each in turn until there are enough."""
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
        f"# {len(picked)} architectures of timm {timm.__version__} under {MOST // 10**6} million parameters, of each "
        f"of its {len(families)} families\n# the smallest: python -m benchmarks.zoo list. Name, family, parameters.\n"
    )
    lines = [f"{name} {family} {size}\n" for family, name, size in picked]
    LIST.write_text(head + "".join(lines), encoding="utf-8")
    return len(picked)
