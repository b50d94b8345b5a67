"""What a refusal repeats of a file is short, wherever the file's long text stands."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from snnconv.files.seal import UNSEALED, sealed
from tests.fuzz.changes import _at, _places
from tests.fuzz.kind import Kind, find_or_skip
from tests.fuzz.mutate import Parts
from tests.fuzz.outcomes import LONGEST

LONG = "a" * 5000


def of_json(kind: Kind, sample: str) -> tuple[Any, Callable[[Any], bytes]]:
    return json.loads(kind.samples()[sample]), lambda root: json.dumps(root).encode()


def of_network(kind: Kind, sample: str) -> tuple[Any, Callable[[Any], bytes]]:
    parts = Parts.of(kind.samples()[sample])

    def joined(root: Any) -> bytes:
        return Parts(parts.layout, dict(parts.metadata), root, parts.body).joined()

    return parts.network, joined


def of_calibration(kind: Kind, sample: str) -> tuple[Any, Callable[[Any], bytes]]:
    content = kind.samples()[sample]
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])

    def joined(root: Any) -> bytes:
        texts = {"calibration": json.dumps(root), "digest": UNSEALED.decode()}
        text = json.dumps(header | {"__metadata__": header["__metadata__"] | texts}).encode()
        return sealed(len(text).to_bytes(8, "little") + text + content[8 + size :])

    return json.loads(header["__metadata__"]["calibration"]), joined


FILES: dict[str, tuple[str, str, Callable[[Kind, str], tuple[Any, Callable[[Any], bytes]]]]] = {
    "config": ("config", "net.json", of_json),
    "result": ("result", "digits-if.json", of_json),
    "published numbers": ("leaderboard", "published.json", of_json),
    "calibration": ("calibration", "inputs.safetensors", of_calibration),
    "network": ("network", "if.graph.spikingjelly", of_network),
    "network call by call": ("network", "rate_norm.tree.snntorch", of_network),
}
"""Name of the test, kind, sample, and how its values are taken out and put back."""


def with_long_text(root: Any) -> Iterator[tuple[str, Any]]:
    """The values with a long text in place of one of them, and with a long name in place of a field's."""
    places = _places(root)
    for *path, key in places[:: max(1, len(places) // 150)]:
        changed = copy.deepcopy(root)
        owner = _at(changed, path)
        owner[key] = LONG
        yield f"value of {path} {key}", changed
        if isinstance(key, str):
            changed = copy.deepcopy(root)
            owner = _at(changed, path)
            owner[key + LONG] = owner.pop(key)
            yield f"name of {path} {key}", changed


def refusal(kind: Kind, path: Path) -> str | None:
    """What reading a file is refused with, if it is."""
    try:
        kind.read(path)
    except kind.refused as error:
        return str(error)
    return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_a_long_text_of_a_file_is_not_repeated_whole(name: str, tmp_path: Path) -> None:
    of, sample, taken = FILES[name]
    kind = find_or_skip(of)
    root, joined = taken(kind, sample)
    refused = 0
    for what, changed in with_long_text(root):
        path = tmp_path / sample
        path.write_bytes(joined(changed))
        said = refusal(kind, path)
        if said is not None:
            refused += 1
            assert len(said) <= LONGEST, what
            assert str(path) in said, what
    assert refused > 10
