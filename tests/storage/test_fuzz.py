"""A few hundred changed files of every kind: the short form of ``python tests/fuzz``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import snnconv
from tests.fuzz.mutate import mutated
from tests.fuzz.outcomes import GOOD, read
from tests.fuzz.samples import SAMPLES, inputs

COUNT = int(os.environ.get("SNNCONV_FUZZ", "160"))
"""Files in all; the variable asks for more."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SAMPLES)
def test_a_changed_network_is_refused_or_equal(name: str, tmp_path: Path) -> None:
    sample, path = SAMPLES[name], tmp_path / "changed"
    snn = sample.network()
    snnconv.save(snn, path)
    content, expected = path.read_bytes(), snn(inputs())
    seen = set()
    for number in range(-(-COUNT // len(SAMPLES))):
        changed, how, sealed = mutated(content, number)
        path.write_bytes(changed)
        found = read(path, sample, expected, sealed)
        assert found.name in GOOD, (number, how, found)
        seen.add(found.name)
    assert "refused" in seen
