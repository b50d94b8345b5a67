"""``--seeds``: a measurement repeated with several seeds, each in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["folders", "seeds_of"]


def seeds_of(given: str | None) -> list[int]:
    """The seeds of ``--seeds 0,1,2``; none where it is not given.

    Raises:
        ValueError: no list of different whole numbers from 0 on.

    >>> seeds_of("0,1,2"), seeds_of(None)
    ([0, 1, 2], [])
    """
    if given is None:
        return []
    words = [word.strip() for word in given.split(",")]
    if not all(word.isdecimal() for word in words) or len({int(word) for word in words}) < len(words):
        raise ValueError(f"--seeds is a list of different whole numbers such as 0,1,2, got {given!r:.100}")
    return [int(word) for word in words]


def folders(seeds: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Each seed with the folder of its results: the first has those of a single seed, the others ``seed-<n>`` below.

    >>> list(folders([0, 1]))
    [(0, ''), (1, 'seed-1')]
    """
    for place, seed in enumerate(seeds):
        yield seed, f"seed-{seed}" if place else ""
