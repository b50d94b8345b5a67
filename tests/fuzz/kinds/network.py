"""Saved networks of every method, both frameworks, traced and call by call."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import snnconv
from tests.fuzz.kind import Kind, WrongError
from tests.fuzz.mutate import mutated
from tests.fuzz.outcomes import not_finite
from tests.fuzz.samples import SAMPLES, inputs


@functools.cache
def samples() -> dict[str, bytes]:
    """A file of each network."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net"
        found = {}
        for name, sample in SAMPLES.items():
            snnconv.save(sample.network(), path)
            found[name] = path.read_bytes()
    return found


def read(path: Path) -> Any:
    """What the network answers."""
    sample = SAMPLES[path.name]
    snn = snnconv.load(path, model=None if sample.traced else sample.model())
    try:
        return snn(inputs())
    except snnconv.ConversionError as error:
        # a network of other inputs is asked for what it does not take
        fits = snn.input_spec.get("shape") == list(inputs().shape[1:]) and snn.input_spec.get("floating")
        if fits:
            raise WrongError("refused late", error) from error
        raise snnconv.ConversionError(f"{path}: {error}") from error


KIND = Kind(samples, mutated, read, (snnconv.ConversionError,), odd=not_finite, checksums=frozenset(SAMPLES), count=160)
