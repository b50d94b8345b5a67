"""Some changed files of every kind: the short forms of ``python tests/fuzz``."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.kind import KINDS, Kind, find_or_skip
from tests.fuzz.outcomes import GOOD, expected_of, read


def run(kind: Kind, folder: Path, times: int, seed: int) -> None:
    samples, seen = dict(kind.samples()), set()
    expected = expected_of(kind, folder)
    names = list(samples)
    for number in range(kind.count * times):
        sample = names[number % len(names)]
        changed = kind.change(samples[sample], random.Random(seed * 10**9 + number))
        path = folder / sample
        path.write_bytes(changed.content)
        found = read(kind, path, expected[sample], changed.meant)
        path.unlink()
        assert found.name in GOOD, (number, sample, changed.how, found)
        seen.add(found.name)
    assert "refused" in seen


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_a_changed_file_is_refused_or_read_as_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run_where_possible(name, tmp_path, monkeypatch, 1, 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_more_changed_files_are(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run_where_possible(name, tmp_path, monkeypatch, 8, 1)


def _run_where_possible(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, times: int, seed: int) -> None:
    monkeypatch.delenv("SNNCONV_DATA", raising=False)
    run(find_or_skip(name), folder, times, seed)
